// Package walreceiver is the client side of replication: it follows the log of an upstream node.
//
// A [Stream] takes the log in on one timeline, in three stages of which none waits for the next:
//
//	receive  one goroutine reads the connection, verifies every byte, and writes whole records
//	flush    one goroutine syncs whatever is written, and reports it at once
//	replay   is somebody else's; its position is only reported
//
// What does not verify is never written nor acknowledged: the connection is dropped and the bytes
// are fetched again. The written and the flushed position are ends of records, or lie in the zeros
// behind a SWITCH, so a log that is cut or promoted there needs no repair.
//
// The stream reconnects by itself. When the upstream's log has taken another timeline, the ancestry
// of the two says where they part; the stream follows the old timeline up to there, or has the tail
// cut, and ends with a [SwitchError]: the log is then reopened on the next timeline. Nothing is
// reported on a connection before its place in the ancestry is settled, and nothing at all is done for
// an upstream before its epoch has been promised. [Leases] are the other promises, to a primary that
// answers strong reads; they ride on the reports.
//
// [Identify] asks an upstream who it is, and [BaseCopy] takes a copy of its data directory.
package walreceiver
