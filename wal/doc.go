// Package wal is the log: PostgreSQL 15's write-ahead log format, byte for byte, and what reads
// and writes it.
//
// The log is one sequence of bytes, addressed by [LSN], cut into segment files and 8 KiB pages.
// Records ([Record]) start on 8-byte boundaries and run across pages and segments. A timeline is a
// branch of the log; its [History] says where it left its parents. See docs/formats.md and the
// PostgreSQL 15 manual, chapter "Reliability and the Write-Ahead Log".
//
// From the bottom up: page and record codec ([PageHeader], [Prepare], [Decoder]); the folder of
// segment files ([Dir]); what appends ([Writer] on a primary, [RawWriter] on a standby); what
// reads ([RawReader] for senders, [Reader] for redo); and the rules about the end of the log
// ([Scan], [ProveTail]) and about which segments may go ([Retention]).
package wal
