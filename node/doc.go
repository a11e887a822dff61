// Package node makes one process of the other packages: it opens a data directory, learns its role,
// is a primary or a standby until the role ends, and cleans up.
//
//	learn my role -> be primary, or be standby, until it ends -> clean up -> again
//
// A role is a value that arrives from outside ([Role], [Roles]) and lasts exactly as long as one
// function call: runPrimary or runStandby. What exists only in one role is made in that call and
// gone when it returns. Clients reach the node's present role through its [reign].
package node
