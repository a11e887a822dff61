// Package kv is the table: what a transaction's record in the log says ([Commit]), the store that
// holds the table on disk ([Store]), and reading and writing it through transactions ([Table], [Txn]).
//
// A commit lives in two places, one after the other. From the moment its record is in the log it is
// pending, in memory, found by key and ordered by LSN. Once the horizon has passed it, the one
// goroutine that applies the log writes it to the store, and it stops being pending. Hence
//
//	store: everything ≤ applied      pending: (applied, end of log]
//	|------------------------------|------------------|----------------|
//	                            applied            horizon        end of log
//
// and a read at position S is the store overlaid with the pending commits ≤ S. Nothing past the
// horizon reaches the store; nothing past max(horizon, the session's own commits) is shown to a
// session, unless it waits for the horizon before it answers (DESIGN, sections 4 and 6, I7).
//
// Transactions are optimistic: they read at one position and note what they read, keys and ranges;
// at commit those must be untouched by every commit after that position. That makes them strictly
// serializable, in the order of their records in the log. The commit lock covers that check (of the
// few commits that came since the transaction was last checked without the lock), the copy into the
// log's buffer and the insertion into pending; never a read of the store.
package kv
