// Package raftlog is what the cluster has agreed on: a [State] that every member holds, made by
// [Command]s that go through Raft, and the pure decisions on it.
//
// The log of Raft holds commands and nothing else; WAL never goes through it. A [Node] is one member's
// Raft server (hashicorp/raft, with raft-boltdb as its log and stable store) and the copy of the state
// next to it:
//
//	Propose ──► leader: Raft's log ──► a majority has it ──► State.apply, on every member ──► Watch
//	   │  forward     ▲                                            │
//	   └──────────────┘            the answer: the next state, or why not
//
// A command is a compare-and-set: it names the epoch, version or process that its author saw, and the
// state machine refuses it with a [ConflictError] if that has changed. Its answer is the same on every
// member, is remembered for a while, and is what an equal command gets that comes again: so whoever
// does not know the outcome of a proposal proposes it again.
//
// The primary is a value in the state, not the leader of Raft. Whether somebody may be promoted is
// decided by [CheckPromotion] inside the state machine, whatever the coordinator thought.
package raftlog
