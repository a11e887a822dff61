// Package simulation runs whole clusters in one process, in the time of a bubble of testing/synctest: real nodes,
// with all that they are made of but for the operating system, on a simulated network and simulated disks.
//
// A [Run] is one cluster of 3 to 7 nodes with clients, in trouble for some simulated minutes: processes end, power
// fails, the network is cut, resets and delays, disks hang, fill, fail and forget what was not synced. Then the
// trouble ends, and the cluster has to become whole by itself. At last what the clients were told and what the
// disks hold is checked: the history is strictly serializable, nothing acknowledged is lost, the logs are equal up to
// the horizon byte by byte, and the table is what the log makes.
//
// A seed decides on the size of the cluster, its settings, the faults and what the clients do. Which goroutine goes
// first it does not decide: the same seed makes the same trouble, and mostly, but not always, the same history.
package simulation
