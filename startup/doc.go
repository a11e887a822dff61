// Package startup brings a node's log and store into agreement, at start and all day long.
//
// It owns what a data directory says of itself ([DataDir], [Control]), finds the end of the log and
// proves its tail ([Recover]), opens a new timeline ([BeginTimeline]) or leaves the end of an
// abandoned one behind ([Cut]), and has the one redo loop ([Redo]) that serves crash recovery, a
// standby's replay and the application of a primary's own commits. The [Checkpointer] bounds how
// far back redo starts and lets WAL go that nobody needs.
//
// See the PostgreSQL 15 manual, "WAL Internals", and DESIGN section 8.
package startup
