// Package syncrep decides who must have a commit before it is acknowledged, and makes the commits
// wait for it.
//
// Arithmetic first: a [Rule] is what synchronous_standby_names means, and [Evaluate] is a pure
// function of the rule and of what the standbys reported. Waiting second: a [Group] is one primary's
// standbys in one epoch. Reports of the standbys and of the primary's own flusher go in; commits are
// released in LSN order, and the horizon moves.
//
// It follows the PostgreSQL 15 manual, chapter "High Availability, Load Balancing, and Replication",
// section "Synchronous Replication", and src/backend/replication/syncrep.c, with four differences:
//
//   - The grammar has one more form, ANY MAJORITY (*).
//   - The wildcard matches members of the cluster only. A receiver is waited for only by name, so a
//     passing pg_basebackup never holds up commits.
//   - Several streams of one member count as one: the newest.
//   - A wait that ends early is an [UnknownError], never a success.
package syncrep
