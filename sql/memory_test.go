package sql

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A memory is a table in memory: the smallest honest Backend. It validates what a transaction read
// at commit, as the real one does.
type memory struct {
	catalog *Catalog

	mu   sync.Mutex
	rows map[string]Row
	lsn  wal.LSN
	// written is what ALTER SYSTEM has written.
	written map[string]string
	modes   []TxnMode
	// onCommit, if set, runs before a transaction is validated.
	onCommit  func(m *memory)
	onGet     func() // if set, runs before a row is looked up
	seenWaits int

	best     SyncLevel // what the rule makes of a stronger level
	lost     error     // of commits that are in the log
	degraded bool      // what asked for more than local has a warning
}

func newMemory() *memory {
	return &memory{catalog: NewCatalog(NewSettings()), rows: map[string]Row{}, written: map[string]string{}, lsn: 0x1000000, best: syncrep.RemoteApply}
}

func (m *memory) Catalog() *Catalog { return m.catalog }

func (m *memory) Begin(_ context.Context, mode TxnMode) (Txn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.modes = append(m.modes, mode)
	return &memoryTxn{m: m, mode: mode, snapshot: maps.Clone(m.rows), writes: map[string]*Row{}, reads: map[string]wal.LSN{}}, nil
}

func (m *memory) Checkpoint(context.Context) error { return nil }

func (m *memory) ExplainFailover(context.Context) ([]string, error) {
	return []string{"n2 is a candidate: it has everything", "n3 is not: it is down"}, nil
}

func (m *memory) ExplainCommit(_ context.Context, lsn wal.LSN) ([]string, error) {
	return []string{lsn.String() + " is durable"}, nil
}

func (m *memory) WriteSetting(_ context.Context, name, value string) error {
	m.written[name] = value
	return nil
}

func (m *memory) ResetSetting(_ context.Context, name string) error {
	if name == "" {
		clear(m.written)
	}
	delete(m.written, name)
	return nil
}

func (m *memory) SettingWritten(name string) bool { _, ok := m.written[name]; return ok }

func (m *memory) WaitLSN(ctx context.Context, lsn wal.LSN) error {
	m.mu.Lock()
	reached := m.lsn >= lsn
	m.mu.Unlock()
	if reached {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

// put changes a row outside of any session.
func (m *memory) put(key, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lsn += 0x100
	m.rows[key] = Row{key, []byte(value), m.lsn}
}

type memoryTxn struct {
	m        *memory
	mode     TxnMode
	snapshot map[string]Row
	writes   map[string]*Row // nil: deleted
	reads    map[string]wal.LSN
	ranges   []Range
	marks    []map[string]*Row
	ended    bool
}

func (t *memoryTxn) Get(_ context.Context, key string) (Row, bool, error) {
	if key == "" || len(key) > MaxKeyLen {
		return Row{}, false, errors.New("impossible key")
	}
	if t.m.onGet != nil {
		t.m.onGet()
	}
	if row, ok := t.writes[key]; ok {
		if row == nil {
			return Row{}, false, nil
		}
		return *row, true, nil
	}
	row, ok := t.snapshot[key]
	t.reads[key] = row.LSN
	return row, ok, nil
}

func (t *memoryTxn) Scan(ctx context.Context, r Range) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		all := maps.Clone(t.snapshot)
		for key, row := range t.writes {
			delete(all, key)
			if row != nil {
				all[key] = *row
			}
		}
		buf := make([]byte, 0, 64) // reused: a Value is valid until the next step only
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if key < r.Lo || !r.Unbounded && key >= r.Hi {
				continue
			}
			row := all[key]
			if _, own := t.writes[key]; !own {
				t.reads[key] = row.LSN
			}
			if row.Value != nil {
				buf = append(buf[:0], row.Value...)
				row.Value = buf
			}
			if !yield(row, ctx.Err()) {
				t.ranges = append(t.ranges, Range{Lo: r.Lo, Hi: key})
				return
			}
			clear(buf)
		}
		t.ranges = append(t.ranges, r)
	}
}

func (t *memoryTxn) Put(key string, value []byte) error {
	if t.mode.ReadOnly {
		return errors.New("put in a read-only transaction")
	}
	t.writes[strings.Clone(key)] = &Row{Key: key, Value: value}
	return nil
}

func (t *memoryTxn) Delete(key string) error {
	t.writes[key] = nil
	return nil
}

func (t *memoryTxn) Savepoint() int {
	t.marks = append(t.marks, maps.Clone(t.writes))
	return len(t.marks) - 1
}

func (t *memoryTxn) RollbackTo(mark int) { t.writes = maps.Clone(t.marks[mark]) }
func (t *memoryTxn) ReleaseSavepoints()  { t.marks = nil }

func (t *memoryTxn) ReadBytes() (n int) {
	if t.mode.ReadOnly {
		return 0
	}
	for key := range t.reads {
		n += 50 + len(key)
	}
	return n
}

func (t *memoryTxn) Commit(_ context.Context, level SyncLevel) (Committed, error) {
	if t.ended {
		return Committed{}, errors.New("transaction has ended")
	}
	t.ended = true
	if hook := t.m.onCommit; hook != nil {
		hook(t.m)
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if len(t.writes) == 0 {
		return Committed{}, nil
	}
	if !t.mode.Exclusive {
		for key, lsn := range t.reads {
			if t.m.rows[key].LSN != lsn {
				return Committed{}, ErrConflict
			}
		}
		if t.phantom() {
			return Committed{}, ErrConflict
		}
	}
	t.m.lsn += 0x100
	for key, row := range t.writes {
		if row == nil {
			delete(t.m.rows, key)
			continue
		}
		t.m.rows[key] = Row{key, row.Value, t.m.lsn}
	}
	return Committed{LSN: t.m.lsn, Level: min(level, t.m.best), AtRisk: t.m.degraded && level > syncrep.Local}, t.m.lost
}

// phantom reports whether a row has come into a range that was read.
func (t *memoryTxn) phantom() bool {
	for key := range t.m.rows {
		within := func(r Range) bool { return key >= r.Lo && (r.Unbounded || key < r.Hi) }
		if _, old := t.snapshot[key]; !old && slices.ContainsFunc(t.ranges, within) {
			return true
		}
	}
	return false
}

func (t *memoryTxn) Rollback() { t.ended = true }

func (t *memoryTxn) WaitSeen(context.Context) error { t.m.seenWaits++; return nil }

// A client is a connection in a test: it records what the session tells it.
type client struct {
	notices  []*pgwire.Error
	params   map[string]string
	dropped  []string
	prepared map[string]bool

	statements map[string]pgwire.Statement

	cursors map[string]testCursor

	copyIn  [][]byte // what it sends in a COPY FROM, a message each
	copyOut []byte   // what it got in a COPY TO

	held, limit int // bytes; 0: no limit

	waits []*pgwire.WaitEvent // what it was said to wait for
}

// Wait implements Waiter.
func (c *client) Wait(e *pgwire.WaitEvent) { c.waits = append(c.waits, e) }

// Hold implements Holder.
func (c *client) Hold(n int) error {
	if n > 0 && c.limit > 0 && c.held+n > c.limit {
		return pgwire.Errorf(pgwire.CodeOutOfMemory, "out of memory")
	}
	c.held += n
	return nil
}

func (c *client) SetParameter(name, value string) {
	if c.params == nil {
		c.params = map[string]string{}
	}
	c.params[name] = value
}

func (c *client) Notice(e *pgwire.Error) { c.notices = append(c.notices, e) }

func (c *client) Deallocate(name string) bool {
	c.dropped = append(c.dropped, name)
	delete(c.statements, name)
	return c.prepared[name]
}

func (c *client) Prepare(name, _ string, st pgwire.Statement) error {
	if c.statements[name] != nil {
		return pgwire.Errorf(pgwire.CodeDuplicatePreparedStatement, "prepared statement %q already exists", name)
	}
	if c.statements == nil {
		c.statements = map[string]pgwire.Statement{}
	}
	if c.prepared == nil {
		c.prepared = map[string]bool{}
	}
	c.statements[name], c.prepared[name] = st, true
	return nil
}

func (c *client) Prepared(name string) (pgwire.Statement, error) {
	if st := c.statements[name]; st != nil {
		return st, nil
	}
	return nil, pgwire.Errorf(pgwire.CodeInvalidSQLStatementName, "prepared statement %q does not exist", name)
}

func (c *client) PreparedStatements() []pgwire.PreparedStatement {
	var list []pgwire.PreparedStatement
	for _, name := range slices.Sorted(maps.Keys(c.statements)) {
		st := c.statements[name]
		list = append(list, pgwire.PreparedStatement{Name: name, Query: "PREPARE " + name, ParamTypes: st.ParamTypes(), FromSQL: true})
	}
	return list
}

func (c *client) DeallocateAll() { c.dropped = append(c.dropped, "*") }

// A testCursor is what a name stands for, see pgwire.Conn.
type testCursor struct {
	pgwire.Cursor
	columns []pgwire.Column
}

func (c *client) find(name string) (testCursor, error) {
	if found := c.cursors[name]; found.Cursor != nil && !found.Closed() {
		return found, nil
	}
	return testCursor{}, pgwire.Errorf(pgwire.CodeInvalidCursorName, "cursor %q does not exist", name)
}

func (c *client) DeclareCursor(name string, columns []pgwire.Column, cursor pgwire.Cursor) error {
	if _, err := c.find(name); err == nil {
		return pgwire.Errorf(pgwire.CodeDuplicateCursor, "cursor %q already exists", name)
	}
	if c.cursors == nil {
		c.cursors = map[string]testCursor{}
	}
	c.cursors[name] = testCursor{cursor, columns}
	return nil
}

func (c *client) CursorColumns(name string) []pgwire.Column {
	found, _ := c.find(name)
	return found.columns
}

func (c *client) Cursor(_ context.Context, name string) (pgwire.Cursor, error) {
	found, err := c.find(name)
	return found.Cursor, err
}

func (c *client) CloseCursor(name string) error {
	found, err := c.find(name)
	if err == nil {
		found.Close()
	}
	return err
}

func (c *client) CloseCursors() {
	for _, found := range c.cursors {
		found.Close()
	}
}

// rowList is a sink that keeps the rows it is given as text.
type rowList struct{ rows [][]string }

func (l *rowList) Row(values [][]byte) error {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = "NULL"
		if v != nil {
			row[i] = string(v)
		}
	}
	l.rows = append(l.rows, row)
	return nil
}

// CopyIn implements Copier. The data of one call is gone with the next, as that of a connection.
func (c *client) CopyIn(context.Context, int, int16) (pgwire.CopyReader, error) {
	return &copyChunks{chunks: c.copyIn}, nil
}

func (c *client) CopyOut(int, int16) { c.copyOut = []byte{} }

func (c *client) SendCopyData(parts ...[]byte) error {
	c.copyOut = slices.Concat(append([][]byte{c.copyOut}, parts...)...)
	return nil
}

func (c *client) CopyDone() {}

// copyChunks is data that comes in pieces.
type copyChunks struct {
	chunks [][]byte
	last   []byte
}

func (r *copyChunks) Next() ([]byte, error) {
	clear(r.last)
	if len(r.chunks) == 0 {
		return nil, io.EOF
	}
	r.last = slices.Clone(r.chunks[0])
	r.chunks = r.chunks[1:]
	return r.last, nil
}

func (r *copyChunks) Close() {}
