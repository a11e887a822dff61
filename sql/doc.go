// Package sql turns statement text into work on one table and a few views. It is the small
// language of a Longship node, spoken as PostgreSQL 15 speaks it: the same grammar where it has
// one, the same types, names, SQLSTATEs, messages and error positions.
//
// A statement goes through four steps:
//
//	text ── lex, parse ──> syntax tree ── analyze ──> plan ── execute ──> rows, tag
//	        (lex.go,       (ast.go)       (analyze.go, (plan: key  (select.go,
//	         parse*.go)                    expr.go)     points or   write.go)
//	                                                    a range)
//
// The first three happen once per statement text and session. The table is
//
//	kv(key text primary key, value text, lsn pg_lsn)
//
// where lsn is the commit that last wrote the row. Everything else that can be selected from is
// a view or a function that package node registers in a Catalog, or a system catalog that describes all that
// to drivers and psql. All of it can be joined.
//
// The package knows nothing of storage: rows are read and written through Backend and Txn, which
// package node implements. A Session implements pgwire.Session and belongs to one connection and
// one goroutine; a Catalog and its Settings are shared by all sessions.
//
// Text compares byte by byte, as under PostgreSQL's C collation, so keys sort as they are stored.
package sql
