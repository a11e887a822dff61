package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/pgwire"
)

func newTestSession(t *testing.T, m *memory, params map[string]string) (*Session, *client) {
	t.Helper()
	c := &client{}
	s, err := NewSession(c, m, Identity{User: "ada", Database: "kv", PID: 42, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// run executes a simple query and returns its last statement's rows.
func run(t *testing.T, s *Session, text string) (*rowList, error) {
	t.Helper()
	list, err := s.ParseAll(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	rows := &rowList{}
	for i, st := range list {
		rows = &rowList{}
		if _, err := s.Execute(t.Context(), st, pgwire.Args{}, rows, i == len(list)-1); err != nil {
			s.Fail()
			return rows, err
		}
	}
	return rows, nil
}

func selectKeys(t *testing.T, s *Session, where string) string {
	t.Helper()
	rows, err := run(t, s, "select key from kv where "+where)
	if err != nil {
		t.Fatalf("where %s: %v", where, err)
	}
	var keys []string
	for _, row := range rows.rows {
		keys = append(keys, row[0])
	}
	return strings.Join(keys, " ")
}

func code(err error) string {
	if e, ok := errors.AsType[*pgwire.Error](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

// A statement that is its whole transaction is run again after a conflict, and only its last
// attempt's rows reach the client.
func TestSingleStatementIsRetried(t *testing.T) {
	m := newMemory()
	m.put("n", "0")
	s, _ := newTestSession(t, m, nil)
	conflicts := 3
	m.onCommit = func(m *memory) {
		if conflicts > 0 {
			conflicts--
			m.put("n", fmt.Sprint(10-conflicts))
		}
	}
	rows, err := run(t, s, "update kv set value = value || '+' where key = 'n' returning value")
	if err != nil || len(rows.rows) != 1 || rows.rows[0][0] != "10+" {
		t.Errorf("got %v, %v; want the one row 10+", rows.rows, err)
	}
	if want := []TxnMode{{}, {}, {}, {}}; !slices.Equal(m.modes, want) {
		t.Errorf("transactions %+v, want %+v", m.modes, want)
	}
}

// The last attempt is exclusive: it cannot lose again.
func TestRetriesEndExclusive(t *testing.T) {
	m := newMemory()
	m.put("n", "0")
	s, _ := newTestSession(t, m, nil)
	m.onCommit = func(m *memory) { m.put("n", "x") }
	if _, err := run(t, s, "update kv set value = value || '+' where key = 'n'"); err != nil {
		t.Fatal(err)
	}
	if n := len(m.modes); n != maxRetries+1 || !m.modes[n-1].Exclusive || m.modes[n-2].Exclusive {
		t.Errorf("transactions %+v, want %d, the last exclusive", m.modes, maxRetries+1)
	}
}

// Statements that share a transaction are not: their rows may have gone out.
func TestImplicitTransactionIsNotRetried(t *testing.T) {
	m := newMemory()
	m.put("n", "0")
	s, _ := newTestSession(t, m, nil)
	m.onCommit = func(m *memory) { m.put("n", "x") }
	_, err := run(t, s, "select value from kv where key = 'n'; update kv set value = 'y' where key = 'n'")
	if code(err) != pgwire.CodeSerializationFailure {
		t.Errorf("got %v, want 40001", err)
	}
	if want := []TxnMode{{Explicit: true}}; !slices.Equal(m.modes, want) {
		t.Errorf("transactions %+v, want %+v", m.modes, want)
	}
}

// An upsert of EXCLUDED.value reads nothing, so nothing can conflict with it.
func TestBlindUpsert(t *testing.T) {
	m := newMemory()
	s, _ := newTestSession(t, m, nil)
	m.onCommit = func(m *memory) { m.put("k", "other") }
	if _, err := run(t, s, "insert into kv values ('k','v') on conflict (key) do update set value = excluded.value"); err != nil {
		t.Fatal(err)
	}
	if len(m.modes) != 1 {
		t.Errorf("%d transactions, want 1", len(m.modes))
	}
}

// A lone SELECT reads at a snapshot; errors wait for what they tell about.
func TestModesAndErrorPath(t *testing.T) {
	m := newMemory()
	m.put("k", "v")
	s, _ := newTestSession(t, m, nil)
	if _, err := run(t, s, "select * from kv"); err != nil {
		t.Fatal(err)
	}
	if want := []TxnMode{{ReadOnly: true}}; !slices.Equal(m.modes, want) {
		t.Errorf("transactions %+v, want %+v", m.modes, want)
	}
	if _, err := run(t, s, "insert into kv values ('k','w')"); code(err) != pgwire.CodeUniqueViolation {
		t.Errorf("got %v, want 23505", err)
	}
	if m.seenWaits != 1 {
		t.Errorf("waited %d times before an error, want once", m.seenWaits)
	}
}

func TestStatementTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestSession(t, newMemory(), map[string]string{"statement_timeout": "2s"})
		start := time.Now()
		_, err := run(t, s, "select pg_sleep(60)")
		if code(err) != pgwire.CodeQueryCanceled || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v, want 57014 after 2s", err, time.Since(start))
		}
		if _, err := run(t, s, "select pg_sleep(1)"); err != nil {
			t.Error(err)
		}
	})
}

// What EXECUTE passes is computed within statement_timeout, and ends when the statement is cancelled. What it holds
// meanwhile is given back.
func TestExecuteParametersTakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := newTestSession(t, newMemory(), map[string]string{"statement_timeout": "2s"})
		if _, err := run(t, s, "prepare p(text) as select $1"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		const slow = "execute p(repeat('x', 100000) || pg_sleep(60)::text)"
		if _, err := run(t, s, slow); code(err) != pgwire.CodeQueryCanceled || time.Since(start) != 2*time.Second {
			t.Errorf("got %v after %v, want 57014 after 2s", err, time.Since(start))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(pgwire.ErrCanceled) })
		list, err := s.ParseAll(ctx, slow)
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if _, err := s.Execute(ctx, list[0], pgwire.Args{}, &rowList{}, true); !errors.Is(err, pgwire.ErrCanceled) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the cause after 1s", err, time.Since(start))
		}
		if c.held != 0 {
			t.Errorf("%d bytes are held afterwards", c.held)
		}
	})
}

// Others are told that a session sleeps.
func TestSleepIsAWaitEvent(t *testing.T) {
	s, c := newTestSession(t, newMemory(), nil)
	for _, query := range []string{"select pg_sleep(0.001)", "set statement_timeout = 1; select pg_sleep(60)"} {
		c.waits = nil
		_, _ = run(t, s, query)
		if len(c.waits) != 2 || c.waits[0] == nil || *c.waits[0] != (pgwire.WaitEvent{Type: "Timeout", Name: "PgSleep"}) || c.waits[1] != nil {
			t.Errorf("%s: waits %v, want PgSleep, then nothing", query, c.waits)
		}
	}
}

func TestCancelledSleep(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), nil)
	st, err := s.Parse(t.Context(), "select pg_sleep($1)", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(pgwire.ErrCanceled)
	_, err = s.Execute(ctx, st, pgwire.Args{Values: [][]byte{[]byte("60")}}, &rowList{}, true)
	if !errors.Is(err, pgwire.ErrCanceled) {
		t.Errorf("got %v, want the cause", err)
	}
}

func TestStartupParameters(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), map[string]string{"application_name": "x", "TimeZone": "utc", "statement_timeout": "1s"})
	if got := s.Parameters(); got["application_name"] != "x" || got["TimeZone"] != "UTC" || got["session_authorization"] != "ada" || len(got) != 13 {
		t.Errorf("parameters %v", got)
	}
	for name, want := range map[string]string{"nope": pgwire.CodeUndefinedObject, "port": pgwire.CodeCantChangeRuntimeParam} {
		_, err := NewSession(&client{}, newMemory(), Identity{Params: map[string]string{name: "1"}})
		if e, ok := errors.AsType[*pgwire.Error](err); !ok || e.Code != want || e.Severity != pgwire.SeverityFatal {
			t.Errorf("%s: %v, want a FATAL %s", name, err, want)
		}
	}
}

// Reported settings reach the client when they change, and again when a rollback changes them back.
func TestReportedSettings(t *testing.T) {
	s, c := newTestSession(t, newMemory(), nil)
	for _, step := range []struct{ query, want string }{
		{"set application_name = 'a'", "a"}, {"begin; set application_name = 'b'", "b"}, {"rollback", "a"},
		{"begin; set local application_name = 'c'", "c"}, {"commit", "a"}, {"discard all", ""},
	} {
		if _, err := run(t, s, step.query); err != nil {
			t.Fatal(err)
		}
		if got := c.params["application_name"]; got != step.want {
			t.Errorf("after %s the client knows %q, want %q", step.query, got, step.want)
		}
	}
}

// A promotion reaches clients with the next statement.
func TestPromotionIsReported(t *testing.T) {
	m := newMemory()
	if err := m.catalog.Settings.Set("in_hot_standby", "on", "override"); err != nil {
		t.Fatal(err)
	}
	s, c := newTestSession(t, m, nil)
	if _, err := run(t, s, "delete from kv"); code(err) != pgwire.CodeReadOnlySQLTransaction {
		t.Errorf("got %v, want 25006", err)
	}
	if err := m.catalog.Settings.Set("in_hot_standby", "off", "override"); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, s, "delete from kv"); err != nil || c.params["in_hot_standby"] != "off" {
		t.Errorf("got %v, client knows in_hot_standby = %q", err, c.params["in_hot_standby"])
	}
}

func TestServerSettings(t *testing.T) {
	s := NewSettings()
	changed := s.Changed()
	if err := s.Set("wal_sender_timeout", "90s", "command line"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("the change was not announced")
	}
	if got := s.Duration("wal_sender_timeout"); got != 90*time.Second {
		t.Errorf("wal_sender_timeout is %v", got)
	}
	read := s.DurationFunc("wal_sender_timeout")
	for _, want := range []time.Duration{90 * time.Second, 2 * time.Second} {
		s.Configure(nil, false)
		if err := s.Set("wal_sender_timeout", fmt.Sprint(want.Milliseconds()), "command line"); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != want || read() != want {
			t.Errorf("wal_sender_timeout is read as %v, want %v", got, want)
		}
	}
	if err := s.Set("wal_sender_timeout", "90s", "command line"); err != nil {
		t.Fatal(err)
	}
	if got := s.Bytes("wal_buffers"); got != 16<<20 {
		t.Errorf("wal_buffers is %d", got)
	}
	if got := s.Bytes("max_slot_wal_keep_size"); got != -1 {
		t.Errorf("max_slot_wal_keep_size is %d", got)
	}
	if got, err := s.Show("wal_sender_timeout"); got != "90s" || err != nil {
		t.Errorf("SHOW prints %q, %v", got, err)
	}
}

// Bad text, formats and types are told before anything runs.
func TestBindErrors(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), nil)
	st, err := s.Parse(t.Context(), "insert into kv values ($1, $2)", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args pgwire.Args
		want string
	}{
		{pgwire.Args{Values: [][]byte{[]byte("a\x00"), nil}}, pgwire.CodeCharacterNotInRepertoire},
		{pgwire.Args{Values: [][]byte{[]byte("a"), {0xff}}, Formats: []int16{1}}, pgwire.CodeCharacterNotInRepertoire},
		{pgwire.Args{Values: [][]byte{[]byte("a")}}, pgwire.CodeProtocolViolation},
		{pgwire.Args{Values: [][]byte{nil, nil}, Formats: []int16{0, 0, 0}}, pgwire.CodeProtocolViolation},
		{pgwire.Args{Values: [][]byte{nil, nil}, ResultFormats: []int16{0, 1}}, pgwire.CodeProtocolViolation},
		{pgwire.Args{Values: [][]byte{nil, nil}}, pgwire.CodeNotNullViolation},
	} {
		if _, err := s.Execute(t.Context(), st, c.args, &rowList{}, true); code(err) != c.want {
			t.Errorf("%v: got %v, want %s", c.args, err, c.want)
		}
		s.Fail()
	}
	number, err := s.Parse(t.Context(), "select $1::int", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Execute(t.Context(), number, pgwire.Args{Values: [][]byte{{1}}, Formats: []int16{1}}, &rowList{}, true)
	if code(err) != pgwire.CodeInvalidBinaryRepresentation {
		t.Errorf("got %v, want 22P03", err)
	}
}

// Depth and size of an expression are bounded, whatever its shape.
func TestComplexityIsBounded(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), nil)
	for name, text := range map[string]string{
		"parentheses": strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
		"not":         strings.Repeat("not ", 1000) + "true",
		"minus":       strings.Repeat("- ", 1000) + "lsn",
		"case":        strings.Repeat("case when true then ", 1000) + "1" + strings.Repeat(" end", 1000),
		"calls":       strings.Repeat("lower(", 1000) + "'x'" + strings.Repeat(")", 1000),
		"sum":         strings.Repeat("1+", 20000) + "1",
		"and":         strings.Repeat("true and ", 20000) + "true",
		"is":          "null" + strings.Repeat(" is null", 20000),
		"casts":       "1" + strings.Repeat("::int", 20000),
		"like":        strings.Repeat("(1=1)||", 20000) + "'x'",
	} {
		if _, err := s.ParseAll(t.Context(), "select "+text); code(err) != pgwire.CodeStatementTooComplex {
			t.Errorf("%s: got %v, want 54001", name, err)
		}
	}
	if _, err := run(t, s, "select "+strings.Repeat("1+", 9000)+"1"); err != nil {
		t.Errorf("a sum of 9001 numbers: %v", err)
	}
	// Operands that a careless evaluator looks at twice, at each of many levels.
	for _, level := range []string{"(%s between '' and 'z')::text", "case %s when 'a' then 'b' when 'c' then 'd' end", "nullif(%s, 'x')", "greatest(%s, 'x')"} {
		text := "'a'"
		for range 100 {
			text = fmt.Sprintf(level, text)
		}
		if _, err := run(t, s, "select "+text); err != nil {
			t.Errorf("%s: %v", level, err)
		}
	}
}

// What a node cannot do, it says.
func TestOptionalStatements(t *testing.T) {
	s, err := NewSession(&client{}, struct{ Backend }{newMemory()}, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"explain failover", "checkpoint", "wait for lsn '0/1'"} {
		stmts, err := s.ParseAll(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Execute(t.Context(), stmts[0], pgwire.Args{}, &rowList{}, true)
		if e, ok := errors.AsType[*pgwire.Error](err); !ok || e.Code != pgwire.CodeFeatureNotSupported {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A parameter that the client has declared is described as that: pgjdbc does not take text for varchar.
func TestDeclaredTypesAreKept(t *testing.T) {
	s := stillSession(t)
	st, err := s.Parse(t.Context(), "insert into kv values ($1, $2)", []uint32{uint32(Varchar), 0})
	if err != nil {
		t.Fatal(err)
	}
	if got := st.ParamTypes(); !slices.Equal(got, []uint32{uint32(Varchar), uint32(Text)}) {
		t.Errorf("parameters are described as %v, want varchar and text", got)
	}
}

// A parameter of type unknown is one whose type the client leaves open. A result's columns say where in kv they come
// from.
func TestDescribedTypes(t *testing.T) {
	s, _ := newTestSession(t, newMemory(), nil)
	st, err := s.Parse(t.Context(), "update kv set value = $1 where lsn = $2 returning lsn, key, value || 'x'", []uint32{uint32(Unknown), uint32(Unknown)})
	if err != nil {
		t.Fatal(err)
	}
	if got := st.ParamTypes(); !slices.Equal(got, []uint32{uint32(Text), uint32(PgLSN)}) {
		t.Errorf("parameters of types %d, want text and pg_lsn", got)
	}
	for i, number := range []int16{3, 1, 0} {
		want := uint32(0)
		if number > 0 {
			want = oidTable
		}
		if c := st.Columns()[i]; c.Table != want || c.Number != number {
			t.Errorf("column %d is number %d of table %d, want %d of %d", i, c.Number, c.Table, number, want)
		}
	}
}
