package pgwire

import (
	"context"
	"encoding/binary"
	"strconv"
	"strings"
)

// A portal is a statement bound to its parameters, or a cursor that DECLARE made. Under a row limit a SELECT
// stops and goes on with the next Execute, see Cursor. Any other statement runs to its end at the first one, as
// in PostgreSQL: rows beyond the limit wait here.
type portal struct {
	name    string
	ps      *prepared // nil for a declared cursor
	args    Args
	columns []Column // nil: returns no rows
	cost    int      // bytes accounted for, rows included

	cursor Cursor // nil unless it stops between rows
	ran    bool   // to its end
	failed bool   // its transaction has
	tag    string // of the statement, once ran
	rows   []byte // DataRow messages not yet sent
}

// An execution is an Execute message: a portal, and how many rows to send; 0 means all.
type execution struct {
	portal  *portal
	maxRows int
}

// query is the text of the statement, or what there is of it. A cursor that DECLARE made has its name alone.
func (e execution) query() string {
	if e.portal.ps == nil {
		return "FETCH " + e.portal.name
	}
	return e.portal.ps.query
}

func (v *conversation) portal(name string) (*portal, error) {
	if p := v.lookUp(name); p != nil {
		return p, nil
	}
	return nil, Errorf(CodeInvalidCursorName, `portal "%s" does not exist`, name)
}

// run acts on an Execute.
func (v *conversation) run(ctx context.Context, e execution, final bool) error {
	p := e.portal
	switch {
	case (p.ran || p.cursor != nil) && v.session.TxStatus() == 'E':
		return Errorf(CodeInFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
	case p.cursor != nil:
		return v.runCursor(ctx, p, e.maxRows)
	case p.ps.st.Empty():
		v.Send(emptyQueryResponse)
		return nil
	case p.ran && (p.failed || p.columns == nil):
		return Errorf(CodeObjectNotInPrerequisiteState, `portal "%s" cannot be run`, p.name)
	case p.ran:
		v.fetch(p, e.maxRows)
		return nil
	}
	if e.maxRows > 0 {
		if err := v.openCursor(ctx, p); err != nil {
			return err
		}
		if p.cursor != nil {
			return v.runCursor(ctx, p, e.maxRows)
		}
	}
	if p.columns != nil {
		if err := checkFormats(p.args.ResultFormats); err != nil {
			return err
		}
	}
	p.ran = true
	v.sink = rowSink{v: v, portal: p, limit: e.maxRows}
	tag, err := v.session.Execute(ctx, p.ps.st, p.args, &v.sink, final)
	if err != nil {
		return err
	}
	p.tag = tag
	if e.maxRows > 0 && v.sink.sent == e.maxRows {
		v.Send(portalSuspended)
	} else {
		v.out.commandComplete(tag)
	}
	return nil
}

// fetch sends what an earlier Execute has left, and says what runCursor says.
func (v *conversation) fetch(p *portal, maxRows int) {
	sent, end := 0, 0
	for end < len(p.rows) && (maxRows == 0 || sent < maxRows) {
		end += 1 + int(binary.BigEndian.Uint32(p.rows[end+1:]))
		sent++
	}
	v.out.raw(p.rows[:end])
	p.rows = p.rows[end:]
	if maxRows > 0 && sent == maxRows {
		v.Send(portalSuspended)
	} else {
		v.out.commandComplete(recount(p.tag, sent))
	}
}

// recount puts another number of rows at the end of a tag, if there is one.
func recount(tag string, rows int) string {
	i := strings.LastIndexByte(tag, ' ') + 1
	if i == 0 || tag[i] < '0' || tag[i] > '9' {
		return tag
	}
	return tag[:i] + strconv.Itoa(rows)
}

// A rowSink takes the rows of the running Execute: up to the limit they go to the client, those
// beyond stay in the portal.
type rowSink struct {
	v        *conversation
	portal   *portal  // nil in a simple query, which has no limit
	limit    int      // rows to send; 0 means all
	describe []Column // to be sent before the first row: a statement that fails has no description
	sent     int
}

// Row sends or keeps one row. Its error is the socket's, or 53200.
func (s *rowSink) Row(values [][]byte) error {
	if s.limit == 0 || s.sent < s.limit {
		s.describeOnce()
		s.sent++
		return s.v.out.row(values)
	}
	size := 1 + 4 + 2
	for _, value := range values {
		size += 4 + len(value)
	}
	if err := s.v.hold(size); err != nil {
		return err
	}
	s.portal.cost += size
	rows, err := appendDataRow(s.portal.rows, values)
	if err != nil {
		return err
	}
	s.portal.rows = rows
	return nil
}

func (s *rowSink) describeOnce() {
	if s.describe != nil {
		s.v.out.rowDescription(s.describe, nil)
		s.describe = nil
	}
}
