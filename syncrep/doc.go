// Package syncrep decides who must have a commit before it is acknowledged, makes the commits wait for
// it, and says for how long a primary may trust that it still is one.
//
// Arithmetic first: a [Rule] is what synchronous_standby_names says, a [Resolved] what the cluster has
// agreed that it means, and [Evaluate] is a pure function of both and of what the standbys reported.
// Waiting second: a [Group] is one primary's standbys in one epoch. Reports of the standbys and of the
// primary's own flusher go in; commits are released in LSN order, and the horizon moves. Promises of
// the members go in, too; strong reads wait for enough of them.
//
// It follows the PostgreSQL 15 manual, chapter "High Availability, Load Balancing, and Replication",
// section "Synchronous Replication", and src/backend/replication/syncrep.c, with five differences:
//
//   - The grammar has two more forms: ANY MAJORITY (*), and ZONES z after the list of either ANY.
//   - Who is waited for was agreed beforehand, disk by disk, and changes by agreement alone: never
//     because somebody connects, leaves, or calls itself by a listed name. So the standbys of FIRST k
//     are pinned, and a failover knows whom to ask. Of equal priority those who joined the cluster first go
//     first. A rule that those who are there do not meet is not taken over: the one before stays.
//   - The wildcard matches members of the cluster only. A receiver is waited for only by name, so a
//     passing pg_basebackup never holds up commits.
//   - What is listed counts once: several streams of one member are one, the newest, and several
//     receivers of one name are one, the furthest.
//   - A wait that ends early is an [UnknownError], never a success.
package syncrep
