// Package election runs failovers: it notices that a primary is gone, has the members promise a new
// epoch, chooses who continues the log and has Raft name it.
//
// The [Coordinator] runs on every node and acts on one, the Raft leader. It holds nothing that must
// survive: each step it takes is a compare-and-set command in Raft, so it can crash, lose leadership
// or be cut off between any two of them, and the next one goes on from what Raft holds:
//
//	steady ──suspect──▶ Seal ──▶ sealing ──▶ SEAL to all, choose, FETCH ──▶ Promote ──▶ opening ──▶ steady
//	                               ▲   └── nothing is promotable: say why, ask again ─┘      │
//	                               └───────────── the named primary is gone ───────────────┘
//
// A coordinator that dies in steady has done nothing; one that dies in sealing leaves a phase which the
// next one continues with the same target epoch or a higher one; one that dies in opening leaves a
// named primary that opens the epoch by itself, or does not and is replaced.
//
// Members talk over the one PostgreSQL port, in replication commands of their own (command.go). The
// [Client] sends them; a [Service], which package node implements, answers them through [Serve].
//
// What may be promoted is decided by package raftlog, in pure functions that the state machine applies
// again. DESIGN.md, section 6, has the invariants (I1 to I12) that comments here refer to.
package election
