package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// A fakeNode answers as a node would, and remembers what it was asked to do.
type fakeNode struct {
	catalog *sql.Catalog
	port    int

	mu      sync.Mutex
	written map[string]string // by ALTER SYSTEM
	calls   []string
	fail    error // of functions and EXPLAIN FAILOVER
	cut     bool  // the next function ends its session, as a deposed primary does, in a new epoch
	epoch   int64
}

// startFakeNode serves until the test ends.
func startFakeNode(t *testing.T) *fakeNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &fakeNode{written: map[string]string{}, catalog: sql.NewCatalog(sql.NewSettings()), port: l.Addr().(*net.TCPAddr).Port}
	n.addViews()
	n.addFuncs()
	ctx, cancel := context.WithCancel(context.Background())
	server := pgwire.NewServer(pgwire.Config{Handler: n, ServerVersion: "15.18"})
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(ctx, l) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return n
}

func (n *fakeNode) addViews() {
	table := func(name string, columns []sql.Column, rows ...[]sql.Value) {
		n.catalog.AddView(name, columns, func(context.Context) ([][]sql.Value, error) { return rows, nil })
	}
	n.catalog.AddView("longship_cluster", []sql.Column{
		{Name: "epoch", Type: sql.Int8}, {Name: "phase", Type: sql.Text}, {Name: "primary", Type: sql.Text},
	}, func(context.Context) ([][]sql.Value, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return [][]sql.Value{{sql.Int8Value(n.epoch), sql.TextValue("steady"), sql.TextValue("n2")}}, nil
	})
	member := []sql.Column{
		{Name: "name", Type: sql.Text}, {Name: "role", Type: sql.Text}, {Name: "state", Type: sql.Text}, {Name: "address", Type: sql.Text},
		{Name: "write_lsn", Type: sql.PgLSN}, {Name: "flush_lsn", Type: sql.PgLSN}, {Name: "replay_lsn", Type: sql.PgLSN},
		{Name: "counted", Type: sql.Bool}, {Name: "voter", Type: sql.Bool}, {Name: "leaving", Type: sql.Bool}, {Name: "failover_priority", Type: sql.Int4},
	}
	row := func(name, role, state string, at sql.Value, counted bool, priority int32) []sql.Value {
		return []sql.Value{
			sql.TextValue(name), sql.TextValue(role), sql.TextValue(state), sql.TextValue("127.0.0.1:5433"), at, at, at,
			sql.BoolValue(counted), sql.BoolValue(counted), sql.BoolValue(false), sql.Int4Value(priority),
		}
	}
	table("longship_members", member,
		row("n1", "primary", "down", sql.Null, true, 1), row("n2", "standby", "running", sql.LSNValue(0x3000000), true, 1), row("n3", "standby", "running", sql.LSNValue(0x3000000), false, 0))
	columns := slices.Concat(sql.PgReplicationSlotsColumns, []sql.Column{
		{Name: "inactive_since", Type: sql.Timestamptz}, {Name: "invalidation_reason", Type: sql.Text},
		{Name: "pinned_bytes", Type: sql.Int8}, {Name: "warning", Type: sql.Text},
	})
	slot := make([]sql.Value, len(columns))
	for i, c := range columns {
		switch c.Name {
		case "slot_name":
			slot[i] = sql.NameValue("arch")
		case "active", "temporary", "two_phase":
			slot[i] = sql.BoolValue(false)
		case "restart_lsn":
			slot[i] = sql.LSNValue(0x1000000)
		case "wal_status":
			slot[i] = sql.TextValue("extended")
		case "inactive_since":
			slot[i] = sql.TimeValue(time.Date(2026, 3, 14, 13, 30, 0, 0, time.UTC))
		case "pinned_bytes":
			slot[i] = sql.Int8Value(32 << 20)
		case "warning":
			slot[i] = sql.TextValue(`replication slot "arch" keeps 32 MB of WAL`)
		}
	}
	table("longship_slots", columns, slot)
}

func (n *fakeNode) addFuncs() {
	text := func(name, answer string, args ...sql.Type) {
		n.catalog.AddFunc(sql.Func{Name: name, Args: args, Result: sql.Text, Call: func(_ context.Context, args []sql.Value) (sql.Value, error) {
			return sql.TextValue(answer), n.called(name, args)
		}})
	}
	text("longship_switchover", "n2")
	text("longship_switchover", "n3", sql.Text)
	text("longship_failover", "n2", sql.Bool)
	text("longship_remove_member", "removed", sql.Text)
	text("pg_drop_replication_slot", "", sql.Name)
	n.catalog.AddFunc(sql.Func{Name: "pg_reload_conf", Result: sql.Bool, Call: func(context.Context, []sql.Value) (sql.Value, error) {
		err := n.called("pg_reload_conf", nil)
		if err == nil {
			n.catalog.Settings.Configure(n.written, false)
		}
		return sql.BoolValue(true), err
	}})
	n.catalog.AddFunc(sql.Func{
		Name: "pg_create_physical_replication_slot", Args: []sql.Type{sql.Name, sql.Bool},
		Columns: []sql.Column{{Name: "slot_name", Type: sql.Name}, {Name: "lsn", Type: sql.PgLSN}},
		Row: func(_ context.Context, _ sql.Backend, args []sql.Value) ([]sql.Value, error) {
			return []sql.Value{args[0], sql.LSNValue(0x2000028)}, n.called("pg_create_physical_replication_slot", args)
		},
	})
}

func (n *fakeNode) called(name string, args []sql.Value) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for i := range args {
		if args[i].Type() == sql.Bool {
			list = append(list, strconv.FormatBool(args[i].Bool()))
		} else {
			list = append(list, args[i].Text())
		}
	}
	n.calls = append(n.calls, fmt.Sprintf("%s(%s)", name, strings.Join(list, ", ")))
	if n.cut && name != "explain failover" {
		n.cut, n.epoch = false, n.epoch+1
		return pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection: this node is no longer the primary").Fatal()
	}
	return n.fail
}

func (n *fakeNode) cutNext() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
}

// take returns what was called since.
func (n *fakeNode) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	calls := n.calls
	n.calls = nil
	return calls
}

func (n *fakeNode) failWith(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// Connect implements pgwire.Handler.
func (n *fakeNode) Connect(_ context.Context, c *pgwire.Conn) (pgwire.Session, error) {
	return sql.NewSession(c, fakeBackend{n}, sql.Identity{User: c.User})
}

// ConnectReplication implements pgwire.Handler.
func (n *fakeNode) ConnectReplication(context.Context, *pgwire.Conn) (pgwire.Replication, error) {
	return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "no replication here")
}

// A fakeBackend has no table.
type fakeBackend struct{ node *fakeNode }

func (b fakeBackend) Catalog() *sql.Catalog { return b.node.catalog }

func (b fakeBackend) Begin(context.Context, sql.TxnMode) (sql.Txn, error) {
	return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "no table here")
}

func (b fakeBackend) ExplainCommit(context.Context, wal.LSN) ([]string, error) {
	return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "no commits here")
}

func (b fakeBackend) WriteSetting(_ context.Context, name, value string) error {
	b.node.written[name] = value
	return b.node.called("alter system set", []sql.Value{sql.TextValue(name), sql.TextValue(value)})
}

func (b fakeBackend) JudgeSetting(_, value string) ([]string, error) {
	if value == "vault" {
		return []string{`"vault" matches no member, and no receiver of that name is connected`}, nil
	}
	return nil, nil
}

func (b fakeBackend) ResetSetting(_ context.Context, name string) error {
	delete(b.node.written, name)
	return b.node.called("alter system reset", []sql.Value{sql.TextValue(name)})
}

func (b fakeBackend) SettingWritten(string) bool { return false }

func (b fakeBackend) ExplainFailover(context.Context) ([]string, error) {
	return []string{
		"n1 is not a candidate: it does not answer",
		"n2 is a candidate: its log ends at 0/3000000 of epoch 2",
		"n3 is not a candidate: its failover priority is 0",
	}, b.node.called("explain failover", nil)
}
