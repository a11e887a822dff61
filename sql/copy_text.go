package sql

import (
	"fmt"
	"unicode/utf8"
)

// textRows are those of a COPY FROM in text or csv format: one a line.
type textRows struct {
	plan   *copyInPlan
	lines  *lineReader
	fields *fieldReader
	ended  bool // with the line before
}

// begin implements copySource. It reads the first line if that is a header, and compares it with the columns if
// asked to.
func (r *textRows) begin() (err error) {
	if r.plan.format.header == copyNoHeader {
		return nil
	}
	r.ended, err = r.lines.next()
	if err != nil || r.plan.format.header != copyExactNames {
		return err
	}
	n, err := r.fields.split(r.lines.line, r.lines.escapes)
	if err != nil {
		return err
	}
	if n != len(r.plan.names) {
		return badCopy("wrong number of fields in header line: got %d, expected %d", n, len(r.plan.names))
	}
	for i, name := range r.plan.names {
		field := r.fields.fields[i]
		switch {
		case field.null:
			return badCopy(`column name mismatch in header line field %d: got null value ("%s"), expected "%s"`,
				i+1, r.plan.format.null, name)
		case string(field.text) != name:
			return badCopy(`column name mismatch in header line field %d: got "%s", expected "%s"`, i+1, field.text, name)
		}
	}
	return nil
}

// next implements copySource.
func (r *textRows) next() (fields []copyField, done bool, err error) {
	if r.ended {
		return nil, true, nil
	}
	if r.ended, err = r.lines.next(); err != nil {
		return nil, false, err
	}
	if r.ended && len(r.lines.line) == 0 {
		return nil, true, nil
	}
	n, err := r.fields.split(r.lines.line, r.lines.escapes)
	switch {
	case err != nil:
		return nil, false, err
	case n > len(r.plan.columns):
		return nil, false, badCopy("extra data after last expected column")
	case n < len(r.plan.columns):
		return nil, false, badCopy(`missing data for column "%s"`, r.plan.names[n])
	}
	for i := range r.fields.fields {
		r.force(i)
	}
	return r.fields.fields, false, nil
}

// force does what FORCE_NOT_NULL and FORCE_NULL say of field i.
func (r *textRows) force(i int) {
	f, format := &r.fields.fields[i], &r.plan.format
	switch {
	case f.null && r.plan.notNull[i]:
		*f = copyField{text: []byte(format.null)}
	case !f.null && r.plan.forceNull[i] && string(f.text) == format.null:
		f.null = true
	}
}

// where implements copySource.
func (r *textRows) where(past bool) string {
	if r.lines.whole && !past {
		return fmt.Sprintf(`COPY kv, line %d: "%s"`, r.lines.number, printable(r.lines.line))
	}
	return fmt.Sprintf("COPY kv, line %d", r.lines.number)
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
