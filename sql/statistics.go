package sql

import (
	"context"
	"math"
	"sync/atomic"

	"github.com/longship-db/longship/pgwire"
)

// Statistics count what the sessions of a node have done since it was started, as PostgreSQL's statistics do. Each
// session counts for itself and adds that when its transaction ends, whichever way.
type Statistics struct {
	Commits, Rollbacks         atomic.Int64 // transactions
	SeqScans, SeqRows          atomic.Int64 // of all of kv, and the rows they have read
	IndexScans, IndexRows      atomic.Int64 // lookups of keys and scans of a range of them
	Inserted, Updated, Deleted atomic.Int64 // rows; INSERT … DO UPDATE that need not look for the row inserts it
}

// counts are what a session has done in the present transaction.
type counts struct {
	seqScans, seqRows, indexScans, indexRows int64
	inserted, updated, deleted               int64
}

// add counts an ended transaction.
func (s *Statistics) add(c *counts, committed bool) {
	if committed {
		s.Commits.Add(1)
	} else {
		s.Rollbacks.Add(1)
	}
	if *c == (counts{}) {
		return
	}
	for _, each := range [...]struct {
		total *atomic.Int64
		n     int64
	}{
		{&s.SeqScans, c.seqScans}, {&s.SeqRows, c.seqRows}, {&s.IndexScans, c.indexScans}, {&s.IndexRows, c.indexRows},
		{&s.Inserted, c.inserted}, {&s.Updated, c.updated}, {&s.Deleted, c.deleted},
	} {
		if each.n != 0 {
			each.total.Add(each.n)
		}
	}
	*c = counts{}
}

// enter notes that a transaction is under way. In a block that has failed it was counted when it did.
func (s *Session) enter() {
	if s.block != failedBlock {
		s.entered = true
	}
}

// count counts the transaction that ends, if there was one: Sync ends an implicit transaction again.
func (s *Session) count(committed bool) {
	if s.entered {
		s.entered = false
		s.catalog.Statistics.add(&s.counts, committed)
	}
}

// addTableStatistics makes the views that say of kv, and of its index, what has been done. Nothing is kept of the system
// catalogs.
func (c *Catalog) addTableStatistics() {
	row := func(more Fields, names ...string) func(context.Context, string) ([]Fields, error) {
		return func(context.Context, string) ([]Fields, error) {
			all := c.Statistics.fields()
			row := Fields{"relid": OIDValue(oidTable), "schemaname": NameValue("public"), "relname": NameValue("kv")}
			for name, v := range more {
				row[name] = v
			}
			for _, name := range names {
				row[name] = all[name]
			}
			return []Fields{row}, nil
		}
	}
	table := row(nil, "seq_scan", "seq_tup_read", "idx_scan", "idx_tup_fetch", "n_tup_ins", "n_tup_upd", "n_tup_del", "n_live_tup")
	index := Fields{"indexrelid": OIDValue(oidIndex), "indexrelname": NameValue("kv_pkey")}
	for _, which := range []string{"all", "user"} {
		c.AddStatistics("pg_stat_"+which+"_tables", table)
		c.AddStatistics("pg_statio_"+which+"_tables", row(nil))
		c.AddStatistics("pg_stat_"+which+"_indexes", row(index, "idx_scan", "idx_tup_read", "idx_tup_fetch"))
		c.AddStatistics("pg_statio_"+which+"_indexes", row(index))
	}
}

// fields are the statistics by the names of pg_stat_user_tables and pg_stat_user_indexes. How many rows there are is not
// counted.
func (s *Statistics) fields() Fields {
	return Fields{
		"seq_scan": Int8Value(s.SeqScans.Load()), "seq_tup_read": Int8Value(s.SeqRows.Load()),
		"idx_scan": Int8Value(s.IndexScans.Load()), "idx_tup_fetch": Int8Value(s.IndexRows.Load()), "idx_tup_read": Int8Value(s.IndexRows.Load()),
		"n_tup_ins": Int8Value(s.Inserted.Load()), "n_tup_upd": Int8Value(s.Updated.Load()), "n_tup_del": Int8Value(s.Deleted.Load()),
		"n_live_tup": Null,
	}
}

// transactionFunctions tell of transaction ids. A transaction gets its own when it commits, and not before.
var transactionFunctions = []Func{
	{Name: "age", Args: []Type{XID}, Result: Int4, builtin: func(e *env, args []Value) (Value, error) {
		return xidAge(uint32(args[0].n), uint32(e.session.nextXID().n)), nil
	}},
	{Name: "mxid_age", Args: []Type{XID}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		return xidAge(uint32(args[0].n), firstMultiXact), nil
	}},
	{Name: "txid_current_if_assigned", Result: Int8, builtin: always(Null)},
	{Name: "pg_current_xact_id_if_assigned", Result: XID8, builtin: always(Null)},
	{Name: "pg_blocking_pids", Args: []Type{Int4}, Result: Int4Array, builtin: always(arrayValue(Int4Array, nil))}, // nobody waits for a lock
	noXID("txid_current", Int8), noXID("pg_current_xact_id", XID8),
	noReset("pg_stat_reset"), noReset("pg_stat_reset_shared", Text), noReset("pg_stat_reset_single_table_counters", OID), noReset("pg_stat_reset_slru", Text),
}

// firstMultiXact is the multixact id that would be given out next: none ever is.
const firstMultiXact = 1

// firstXID is the first transaction id that means a transaction.
const firstXID = 3

// xidAge is how many ids have been given out since one was.
func xidAge(xid, next uint32) Value {
	if xid == 0 || xid < firstXID && next >= firstXID {
		return Int4Value(math.MaxInt32)
	}
	return Int4Value(int32(next - xid))
}

func noXID(name string, result Type) Func {
	return Func{Name: name, Result: result, builtin: func(*env, []Value) (Value, error) {
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "%s() is not supported", name).
			WithDetail("A transaction gets its id when it commits.").
			WithHint("SHOW longship.last_commit_lsn names the last commit of this session, pg_current_wal_insert_lsn() grows with every one.")
	}}
}

// noReset refuses to set back counters that metrics show, too, which only ever grow.
func noReset(name string, args ...Type) Func {
	return Func{Name: name, Args: args, Result: Void, builtin: func(*env, []Value) (Value, error) {
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "%s() is not supported", name).
			WithDetail("Statistics are counted from the start of the process.").
			WithHint("Take the difference of what the views, or /metrics, show now and later.")
	}}
}
