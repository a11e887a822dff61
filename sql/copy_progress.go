package sql

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// copyProgressColumns are those of PostgreSQL 15's pg_stat_progress_copy.
var copyProgressColumns = []Column{
	{"pid", Int4}, {"datid", OID}, {"datname", Name}, {"relid", OID}, {"command", Text}, {"type", Text},
	{"bytes_processed", Int8}, {"bytes_total", Int8}, {"tuples_processed", Int8}, {"tuples_excluded", Int8},
}

// copies are the COPY commands that run now, of all sessions.
type copies struct {
	mu      sync.Mutex
	running map[*copyProgress]struct{}
}

// A copyProgress is how far one of them is.
type copyProgress struct {
	pid      int32
	database string
	relation uint32 // 0: a query
	command  string

	bytes, tuples, excluded atomic.Int64
}

func (c *copies) begin(s *Session, command string, relation uint32) *copyProgress {
	p := &copyProgress{pid: s.id.PID, database: s.id.Database, relation: relation, command: command}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = map[*copyProgress]struct{}{}
	}
	c.running[p] = struct{}{}
	return p
}

func (c *copies) end(p *copyProgress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, p)
}

// rows are those of pg_stat_progress_copy. How much there is in all nobody knows: bytes_total is 0.
func (c *copies) rows(context.Context) ([][]Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rows [][]Value
	for p := range c.running {
		rows = append(rows, []Value{
			Int4Value(p.pid), OIDValue(oidDatabase), NameValue(p.database), OIDValue(p.relation), TextValue(p.command), TextValue("PIPE"),
			Int8Value(p.bytes.Load()), Int8Value(0), Int8Value(p.tuples.Load()), Int8Value(p.excluded.Load()),
		})
	}
	slices.SortFunc(rows, func(a, b []Value) int { return cmp.Compare(a[0].n, b[0].n) })
	return rows, nil
}
