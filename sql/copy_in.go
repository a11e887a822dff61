package sql

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// A Copier is a Conn that can carry the data of COPY. *pgwire.Conn is one.
type Copier interface {
	CopyIn(ctx context.Context, columns int) (pgwire.CopyReader, error)
	CopyOut(columns int)
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
			failure, ok := r.(*pgwire.Error)
			if !ok {
				panic(r)
			}
			err = failure
		}
	}()
	return analysis(), nil
}

func (s *Session) copyInPlan(text string, n *copyStmt) *copyInPlan {
	a := &analyzer{src: text, catalog: s.catalog, noParams: true}
	a.copyTable(n)
	p := &copyInPlan{}
	if n.where != nil {
		a.scope.kv = false // the condition is about a row that may not be one of kv
		a.noGenerated = true
		p.where = a.where(n.where)
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
	src, err := conn.CopyIn(s.env.ctx, len(plan.columns))
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
	c := &copyingIn{
		plan: plan, e: &s.env, progress: progress,
		w:      writing{e: &s.env, txn: s.txn},
		lines:  newLineReader(src, &plan.format),
		fields: newFieldReader(&plan.format, len(plan.columns)),
	}
	c.lines.counted = progress.bytes.Store
	if err := c.run(); err != nil {
		return 0, s.statementError(err)
	}
	return c.w.affected, nil
}

// A copyingIn is one run of a COPY FROM.
type copyingIn struct {
	plan     *copyInPlan
	e        *env
	w        writing
	lines    *lineReader
	fields   *fieldReader
	progress *copyProgress
	tuple    [3]Value // of WHERE
}

func (c *copyingIn) run() error {
	if c.plan.format.header != copyNoHeader {
		if done, err := c.header(); done || err != nil {
			return c.placed(err)
		}
	}
	for {
		done, err := c.lines.next()
		if err != nil {
			return c.placed(err)
		}
		if done && len(c.lines.line) == 0 {
			return nil
		}
		if err := c.take(); err != nil {
			return c.placed(err)
		}
		if err := c.e.ctx.Err(); err != nil {
			return c.placed(err)
		}
	}
}

// placed adds to an error which line it is about.
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
	if c.lines.whole {
		return at.WithContext(`COPY kv, line %d: "%s"`, c.lines.number, printable(c.lines.line))
	}
	return at.WithContext("COPY kv, line %d", c.lines.number)
}

// printable is data as a CONTEXT shows it: 100 bytes of it at most.
func printable(b []byte) string {
	const most = 100
	if len(b) <= most {
		return string(b)
	}
	n := most
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return string(b[:n]) + "..."
}

// header reads the first line, and compares it with the columns if asked to.
func (c *copyingIn) header() (done bool, err error) {
	done, err = c.lines.next()
	if err != nil || c.plan.format.header != copyExactNames {
		return done, err
	}
	n, err := c.fields.split(c.lines.line, c.lines.escapes)
	if err != nil {
		return false, err
	}
	if n != len(c.plan.names) {
		return false, badCopy("wrong number of fields in header line: got %d, expected %d", n, len(c.plan.names))
	}
	for i, name := range c.plan.names {
		field := c.fields.fields[i]
		switch {
		case field.null:
			return false, badCopy(`column name mismatch in header line field %d: got null value ("%s"), expected "%s"`,
				i+1, c.plan.format.null, name)
		case string(field.text) != name:
			return false, badCopy(`column name mismatch in header line field %d: got "%s", expected "%s"`, i+1, field.text, name)
		}
	}
	return done, nil
}

// take writes the row of the line just read.
func (c *copyingIn) take() error {
	n, err := c.fields.split(c.lines.line, c.lines.escapes)
	if err != nil {
		return err
	}
	if n > len(c.plan.columns) {
		return badCopy("extra data after last expected column")
	}
	key, value := Null, Null
	for i, column := range c.plan.columns {
		if i >= n {
			return badCopy(`missing data for column "%s"`, c.plan.names[i])
		}
		text, null := c.value(i)
		switch {
		case null:
		case column == keyColumn:
			key = TextValue(string(text))
		default:
			value = TextValue(string(text))
		}
	}
	if wanted, err := c.wanted(key, value); err != nil || !wanted {
		return err
	}
	return c.insert(key, value)
}

// value is field i as the column gets it.
func (c *copyingIn) value(i int) (text []byte, null bool) {
	f, format := c.fields.fields[i], &c.plan.format
	switch {
	case f.null && c.plan.notNull[i]:
		return []byte(format.null), false
	case !f.null && c.plan.forceNull[i] && string(f.text) == format.null:
		return nil, true
	}
	return f.text, f.null
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
	if err != nil {
		return err
	}
	if found {
		c.lines.whole = false // not shown: PostgreSQL finds out when it is no longer at that line
		return duplicateKey(row.Key)
	}
	if err := c.w.put(row); err != nil {
		return err
	}
	c.progress.tuples.Add(1)
	return nil
}
