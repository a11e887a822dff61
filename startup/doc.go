// Package startup brings a node's log and store into agreement, at start and all day long.
//
// It owns what a data directory says of itself ([DataDir], [Control]), finds the end of the log and
// proves its tail ([Recover]), opens the timeline of an epoch that the node was named for
// ([BeginTimeline]) or leaves the end of an abandoned one behind ([Cut], [Orphan]), and has the one
// redo loop ([Redo]) that serves crash recovery, a standby's replay and the application of a primary's
// own commits. The [Checkpointer] bounds how far back redo starts, lets WAL go that nobody needs, and
// records what the node has promised when it is sealed.
//
// See the PostgreSQL 15 manual, "WAL Internals", and DESIGN section 8.
package startup
