package sql

import (
	"context"
	"errors"

	"github.com/longship-db/longship/pgwire"
)

// A Copier is a Conn that can carry the data of COPY. *pgwire.Conn is one.
type Copier interface {
	CopyIn(ctx context.Context, columns int, format int16) (pgwire.CopyReader, error)
	CopyOut(columns int, format int16)
	SendCopyData(parts ...[]byte) error
	CopyDone()
}

// CopiesIn implements pgwire.CopyInStatement.
func (s *statement) CopiesIn() bool {
	n, ok := s.node.(*copyStmt)
	return ok && n.from
}

// copy runs COPY. Like other commands it is not looked at before it runs.
func (s *Session) copy(ctx context.Context, stmt *statement, n *copyStmt) (rows int64, err error) {
	conn, ok := s.conn.(Copier)
	if !ok {
		return 0, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "COPY is not supported")
	}
	s.env = env{ctx: ctx, session: s}
	if n.from {
		return s.copyFrom(conn, stmt.text, n)
	}
	return s.copyTo(conn, stmt.text, n)
}

// copyColumns are those of kv that a list names, or those that the data holds without a list.
func (a *analyzer) copyColumns(list []columnName) []int {
	if list == nil {
		return []int{keyColumn, valueColumn}
	}
	return listed(list, a.copyColumn)
}

// copyColumn finds a column of kv. lsn is a generated column: the commit alone writes it.
func (a *analyzer) copyColumn(name string) int {
	switch name {
	case "key":
		return keyColumn
	case "value":
		return valueColumn
	case "lsn":
		panic(pgwire.Errorf(pgwire.CodeInvalidColumnReference, `column "lsn" is a generated column`).
			WithDetail("Generated columns cannot be used in COPY."))
	}
	panic(pgwire.Errorf(pgwire.CodeUndefinedColumn, `column "%s" of relation "kv" does not exist`, name))
}

// copyTable makes kv the relation that a COPY is about.
func (a *analyzer) copyTable(n *copyStmt) {
	if a.catalog.view(n.table.name) != nil {
		if n.from {
			panic(pgwire.Errorf(pgwire.CodeWrongObjectType, `cannot copy to view "%s"`, n.table.name))
		}
		panic(pgwire.Errorf(pgwire.CodeWrongObjectType, `cannot copy from view "%s"`, n.table.name).
			WithHint("Try the COPY (SELECT ...) TO variant."))
	}
	if n.table.name != "kv" {
		panic(pgwire.Errorf(pgwire.CodeUndefinedTable, `relation "%s" does not exist`, n.table.name))
	}
	a.scope = kvScope(tableName(&n.table))
}

// A copyInPlan is an analyzed COPY FROM.
type copyInPlan struct {
	format             copyFormat
	columns            []int // of kv, by field
	names              []string
	notNull, forceNull []bool // by field
	where              expr
}

// planned runs an analysis, whose errors are panics.
func planned[T any](analysis func() T) (plan T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = failure(r)
		}
	}()
	return analysis(), nil
}

func (s *Session) copyInPlan(text string, n *copyStmt) *copyInPlan {
	a := s.analyzer(text, true)
	a.copyTable(n)
	p := &copyInPlan{}
	if n.where != nil {
		a.scope.kv = false // the condition is about a row that may not be one of kv
		a.noGenerated = true
		p.where = a.where(n.where)
		if a.nested {
			panic(pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot use subquery in COPY FROM WHERE condition"))
		}
	}
	p.columns = a.copyColumns(n.columns)
	for _, c := range p.columns {
		p.names = append(p.names, kvColumns[c].Name)
	}
	if err := s.checkWritable("COPY FROM"); err != nil {
		panic(err)
	}
	p.format = readCopyOptions(text, n)
	p.notNull = forced(p.format.forceNotNull, "FORCE_NOT_NULL", p.names, a.copyColumn)
	p.forceNull = forced(p.format.forceNull, "FORCE_NULL", p.names, a.copyColumn)
	return p
}

// copyFrom runs COPY FROM STDIN: its rows become part of the transaction, all or none.
func (s *Session) copyFrom(conn Copier, text string, n *copyStmt) (rows int64, err error) {
	plan, err := planned(func() *copyInPlan { return s.copyInPlan(text, n) })
	if err != nil {
		return 0, err
	}
	if err := s.begin(s.env.ctx); err != nil {
		return 0, err
	}
	src, err := conn.CopyIn(s.env.ctx, len(plan.columns), plan.format.code())
	if err != nil {
		return 0, err
	}
	defer src.Close()
	if plan.format.freeze {
		return 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState,
			"cannot perform COPY FREEZE because the table was not created or truncated in the current subtransaction")
	}
	progress := s.catalog.copies.begin(s, "COPY FROM", oidTable)
	defer s.catalog.copies.end(progress)
	c := &copyingIn{plan: plan, e: &s.env, w: writing{e: &s.env, txn: s.txn}, progress: progress, rows: plan.rows(src, progress, s.hold)}
	if err := c.run(); err != nil {
		return 0, s.statementError(err)
	}
	return c.w.affected, nil
}

// rows reads what src brings in the format of the plan. hold counts the memory of a row, which is there until the next.
func (p *copyInPlan) rows(src pgwire.CopyReader, progress *copyProgress, hold func(n int) error) copySource {
	if p.format.binary {
		return &binaryRows{names: p.names, data: binaryData{src: src, counted: progress.bytes.Store, hold: hold}}
	}
	lines := newLineReader(src, &p.format, hold)
	lines.counted = progress.bytes.Store
	return &textRows{plan: p, lines: lines, fields: newFieldReader(&p.format, len(p.columns), hold)}
}

// A copySource takes rows out of the data of a COPY FROM.
type copySource interface {
	// begin reads what comes before the first row.
	begin() error
	// next reads a row: fields has one entry for each column that is copied, and is valid until the next call.
	// done: there was none left, and the client has said so.
	next() (fields []copyField, done bool, err error)
	// where says which part of the data is being read, as the CONTEXT of an error has it. past: the error was found
	// when PostgreSQL would have read on. Nothing: before the data begins.
	where(past bool) string
}

// A copyingIn is one run of a COPY FROM.
type copyingIn struct {
	plan     *copyInPlan
	e        *env
	w        writing
	rows     copySource
	progress *copyProgress
	past     bool     // the row has been read to its end
	tuple    [3]Value // of WHERE
}

func (c *copyingIn) run() error {
	if err := c.rows.begin(); err != nil {
		return c.placed(err)
	}
	for {
		c.past = false
		fields, done, err := c.rows.next()
		if err != nil {
			return c.placed(err)
		}
		if done {
			return nil
		}
		if err := c.take(fields); err != nil {
			return c.placed(err)
		}
		if err := c.e.ctx.Err(); err != nil {
			return c.placed(err)
		}
	}
}

// placed adds to an error which part of the data it is about.
func (c *copyingIn) placed(err error) error {
	e, ok := errors.AsType[*pgwire.Error](err)
	switch cause := context.Cause(c.e.ctx); {
	case ok:
	case cause == error(errStatementTimeout):
		e = errStatementTimeout
	case errors.Is(cause, pgwire.ErrCanceled):
		e = pgwire.Errorf(pgwire.CodeQueryCanceled, "%w", pgwire.ErrCanceled)
	default:
		return err
	}
	at := *e
	if where := c.rows.where(c.past); where != "" {
		at.Where = where
	}
	return &at
}

// take writes the row just read.
func (c *copyingIn) take(fields []copyField) error {
	key, value := Null, Null
	for i, column := range c.plan.columns {
		switch f := fields[i]; {
		case f.null:
		case column == keyColumn:
			key = TextValue(string(f.text))
		default:
			value = TextValue(string(f.text))
		}
	}
	if wanted, err := c.wanted(key, value); err != nil || !wanted {
		return err
	}
	return c.insert(key, value)
}

// wanted evaluates WHERE, for which the line's row need not be one that the table could hold.
func (c *copyingIn) wanted(key, value Value) (bool, error) {
	if c.plan.where == nil {
		return true, nil
	}
	c.tuple = [...]Value{key, value, Null}
	c.e.tuple = c.tuple[:]
	wanted, err := passes(c.plan.where, c.e)
	if err == nil && !wanted {
		c.progress.excluded.Add(1)
	}
	return wanted, err
}

// insert adds a row whose key must be new.
func (c *copyingIn) insert(key, value Value) error {
	if key.IsNull() {
		return missingKey(value)
	}
	row := Row{Key: key.s}
	if !value.IsNull() {
		row.Value = bytesOf(value.s)
	}
	if err := checkRow(&row); err != nil {
		return err
	}
	_, found, err := c.w.txn.Get(c.e.ctx, row.Key)
	if err == nil {
		err = c.e.session.holdReads()
	}
	if err != nil {
		return err
	}
	if found {
		c.past = true
		return duplicateKey(row.Key)
	}
	c.e.session.counts.inserted++
	if err := c.w.put(row); err != nil {
		return err
	}
	c.progress.tuples.Add(1)
	return nil
}
