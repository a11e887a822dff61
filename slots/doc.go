// Package slots keeps what each standby still needs of the log: physical replication slots, on the
// local disk.
//
// A slot is a name and a restart LSN: segments from there on stay. [Slots] holds them in memory,
// where their consumers advance them, and in files that checkpoints bring up to date, so what a
// crash leaves may be older than what was last acknowledged. WAL goes by [Slots.MinRestart], which
// never runs ahead of the files: no slot comes back from a crash asking for WAL that was removed in
// good faith. [WALStatus] says how a slot fares, as a pure function.
//
// A slot is the cluster's, mirrored on every node ([Slots.Mirror]), or this node's alone: a temporary one,
// or a member's that the cluster has not agreed on yet.
//
// It follows the PostgreSQL 15 manual, chapter "High Availability, Load Balancing, and Replication",
// section "Replication Slots", and src/backend/replication/slot.c.
package slots
