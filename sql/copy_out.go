package sql

import (
	"bytes"
	"context"
	"slices"

	"github.com/longship-db/longship/pgwire"
)

// A copyOutPlan is an analyzed COPY TO.
type copyOutPlan struct {
	query  *selectPlan
	format copyFormat
	names  []string
	quoted []bool // FORCE_QUOTE, by column
}

func (s *Session) copyOutPlan(text string, n *copyStmt) *copyOutPlan {
	a := s.analyzer(text, true)
	p := &copyOutPlan{}
	find := a.copyColumn
	if n.query == nil {
		a.copyTable(n)
		query := &selectStmt{from: []fromItem{{tableRef: n.table}}}
		for _, c := range a.copyColumns(n.columns) {
			query.targets = append(query.targets, target{expr: columnNode{name: kvColumns[c].Name}})
		}
		p.format = readCopyOptions(text, n)
		p.query = a.selectPlan(query).(*selectPlan)
	} else {
		p.format = readCopyOptions(text, n)
		p.query = a.selectPlan(n.query).(*selectPlan)
	}
	for _, out := range p.query.outs {
		p.names = append(p.names, out.name)
	}
	if n.query != nil {
		find = func(name string) int {
			i := slices.Index(p.names, name)
			if i < 0 {
				panic(pgwire.Errorf(pgwire.CodeUndefinedColumn, `column "%s" does not exist`, name))
			}
			return i
		}
	}
	p.quoted = forced(p.format.forceQuote, "FORCE_QUOTE", p.names, find)
	return p
}

// copyTo runs COPY TO STDOUT. Rows go to the client as they are found.
func (s *Session) copyTo(conn Copier, text string, n *copyStmt) (rows int64, err error) {
	plan, err := planned(func() *copyOutPlan { return s.copyOutPlan(text, n) })
	if err != nil {
		return 0, err
	}
	relation := uint32(oidTable)
	if n.query != nil {
		relation = 0
	}
	progress := s.catalog.copies.begin(s, "COPY TO", relation)
	defer s.catalog.copies.end(progress)
	sink := &copySink{ctx: s.env.ctx, conn: conn, plan: plan, progress: progress}
	s.encoder.sink, s.encoder.formats = sink, []int16{plan.format.code()}
	if err := sink.begin(); err != nil {
		return 0, err
	}
	if _, err := s.runSelect(s.env.ctx, plan.query, false); err != nil {
		return 0, err
	}
	if err := sink.end(); err != nil {
		return 0, err
	}
	conn.CopyDone()
	return progress.tuples.Load(), nil
}

// A copySink sends rows as COPY's data: a CopyData message each.
type copySink struct {
	ctx      context.Context
	conn     Copier
	plan     *copyOutPlan
	progress *copyProgress
	buf      []byte
}

// begin tells the client that rows follow, and what their columns are called if it wants to know.
func (s *copySink) begin() error {
	s.conn.CopyOut(len(s.plan.names), s.plan.format.code())
	switch {
	case s.plan.format.binary: // goes with the first row, or with the end
		s.buf = append(s.buf, copySignature...)
		s.buf = append(s.buf, 0, 0, 0, 0, 0, 0, 0, 0)
		return nil
	case s.plan.format.header == copyNoHeader:
		return nil
	}
	for i, name := range s.plan.names {
		if i > 0 {
			s.buf = append(s.buf, s.plan.format.delim)
		}
		s.field([]byte(name), false)
	}
	return s.sendLine()
}

// Row implements pgwire.RowSink.
func (s *copySink) Row(values [][]byte) error {
	if err := s.row(values); err != nil {
		return err
	}
	s.progress.tuples.Add(1)
	return s.ctx.Err()
}

func (s *copySink) row(values [][]byte) error {
	if s.plan.format.binary {
		s.buf = appendBinaryRow(s.buf, values)
		return s.send()
	}
	for i, value := range values {
		if i > 0 {
			s.buf = append(s.buf, s.plan.format.delim)
		}
		if value == nil {
			s.buf = append(s.buf, s.plan.format.null...)
		} else {
			s.field(value, s.plan.format.forceQuoteAll || s.plan.quoted[i])
		}
	}
	return s.sendLine()
}

// end sends what follows the last row.
func (s *copySink) end() error {
	if !s.plan.format.binary {
		return nil
	}
	s.buf = append(s.buf, 0xff, 0xff)
	return s.send()
}

func (s *copySink) sendLine() error {
	s.buf = append(s.buf, '\n')
	return s.send()
}

// send sends what has gathered as one message.
func (s *copySink) send() error {
	s.progress.bytes.Add(int64(len(s.buf)))
	err := s.conn.SendCopyData(s.buf)
	if s.buf = s.buf[:0]; cap(s.buf) > largeRow {
		s.buf = nil
	}
	return err
}

func (s *copySink) field(text []byte, quote bool) {
	if f := &s.plan.format; f.csv {
		s.buf = f.appendCSV(s.buf, text, quote, len(s.plan.names) == 1)
	} else {
		s.buf = f.appendText(s.buf, text)
	}
}

// copyEscapes are the letters that stand for control characters in text format.
var copyEscapes = [...]byte{'\b': 'b', '\t': 't', '\n': 'n', '\v': 'v', '\f': 'f', '\r': 'r'}

// appendText appends a value in text format (CopyAttributeOutText of PostgreSQL 15).
func (f *copyFormat) appendText(dst, text []byte) []byte {
	from := 0
	for i, c := range text {
		letter := c
		switch {
		case int(c) < len(copyEscapes) && copyEscapes[c] != 0:
			letter = copyEscapes[c]
		case c == '\\' || c == f.delim:
		default:
			continue
		}
		dst = append(dst, text[from:i]...)
		dst = append(dst, '\\', letter)
		from = i + 1
	}
	return append(dst, text[from:]...)
}

// appendCSV appends a value in csv format, quoted if it has to be or quote is set. alone: the row has one
// column, which must not look like the end of the data.
func (f *copyFormat) appendCSV(dst, text []byte, quote, alone bool) []byte {
	switch {
	case quote, string(text) == f.null, alone && string(text) == `\.`:
	case bytes.IndexByte(text, f.delim) >= 0, bytes.IndexByte(text, f.quote) >= 0, bytes.ContainsAny(text, "\r\n"):
	default:
		return append(dst, text...)
	}
	dst = append(dst, f.quote)
	for _, c := range text {
		if c == f.quote || c == f.escape {
			dst = append(dst, f.escape)
		}
		dst = append(dst, c)
	}
	return append(dst, f.quote)
}
