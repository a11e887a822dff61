package sql

import (
	"bytes"
	"unicode/utf8"
)

// A fieldReader takes lines apart (CopyReadAttributes of PostgreSQL 15). Of each line it keeps as many
// fields as there are columns, and counts the others: a line of delimiters must not cost more than itself.
type fieldReader struct {
	format *copyFormat
	fields []copyField // valid until the next line
	buf    []byte      // of fields that are not in the line as they are
	hold   func(n int) error
}

// A copyField is one field of a line.
type copyField struct {
	text []byte
	null bool
}

func newFieldReader(format *copyFormat, columns int, hold func(n int) error) *fieldReader {
	return &fieldReader{format: format, fields: make([]copyField, columns), hold: hold}
}

// split takes a line apart and returns how many fields it has. escapes: a line in text format holds
// backslashes.
func (f *fieldReader) split(line []byte, escapes bool) (n int, err error) {
	f.buf = f.buf[:0]
	// Fields point into buf, so it must not move: no field is longer than what it is written as.
	if f.format.csv || escapes {
		if f.buf, err = grown(f.buf, len(line), f.hold); err != nil {
			return 0, err
		}
	}
	for more := true; more; n++ {
		var field copyField
		switch {
		case f.format.csv:
			field, line, more, err = f.csvField(line)
		case escapes:
			field, line, more, err = f.escapedField(line)
		default:
			field, line, more = f.plainField(line)
		}
		if err != nil {
			return 0, err
		}
		if n < len(f.fields) {
			f.fields[n] = field
		}
	}
	return n, nil
}

// isNull compares a field as it is written with what stands for NULL.
func (f *fieldReader) isNull(written []byte) bool { return string(written) == f.format.null }

// plainField cuts a field without escapes off line.
func (f *fieldReader) plainField(line []byte) (field copyField, rest []byte, more bool) {
	text, rest, more := bytes.Cut(line, []byte{f.format.delim})
	return copyField{text, f.isNull(text)}, rest, more
}

// escapedField cuts a field in text format off line.
func (f *fieldReader) escapedField(line []byte) (field copyField, rest []byte, more bool, err error) {
	start, doubtful := len(f.buf), false
	i, end := 0, 0
	for {
		end = i
		if i == len(line) {
			break
		}
		c := line[i]
		i++
		if c == f.format.delim {
			more = true
			break
		}
		if c == '\\' {
			if i == len(line) {
				break // a lone backslash at the end is nothing, and end is before it
			}
			var n int
			var number bool
			c, n, number = unescape(line[i:])
			doubtful = doubtful || number && (c == 0 || c >= utf8.RuneSelf)
			i += n
		}
		f.buf = append(f.buf, c)
	}
	field = copyField{f.buf[start:], f.isNull(line[:end])}
	if doubtful && !field.null {
		err = checkText(stringOf(field.text))
	}
	return field, line[i:], more, err
}

// unescape reads what follows a backslash: the byte it means, how long it is, and whether the byte was
// given by its number.
func unescape(s []byte) (c byte, n int, number bool) {
	switch c := s[0]; c {
	case '0', '1', '2', '3', '4', '5', '6', '7':
		value := 0
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			value = value<<3 + int(s[n]-'0')
			n++
		}
		return byte(value), n, true
	case 'x':
		value := 0
		for n = 1; n < 3 && n < len(s) && hexValue(s[n]) >= 0; n++ {
			value = value<<4 + hexValue(s[n])
		}
		if n > 1 {
			return byte(value), n, true
		}
	case 'b':
		return '\b', 1, false
	case 'f':
		return '\f', 1, false
	case 'n':
		return '\n', 1, false
	case 'r':
		return '\r', 1, false
	case 't':
		return '\t', 1, false
	case 'v':
		return '\v', 1, false
	}
	return s[0], 1, false
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// csvField cuts a field in csv format off line. Quotes may begin and end anywhere in it.
func (f *fieldReader) csvField(line []byte) (field copyField, rest []byte, more bool, err error) {
	quote, delim := f.format.quote, f.format.delim
	start, quoted := len(f.buf), false
	i := 0
	for i < len(line) {
		c := line[i]
		if c == delim {
			more = true
			break
		}
		i++
		if c != quote {
			f.buf = append(f.buf, c)
			continue
		}
		quoted = true
		n, closed := f.quotedPart(line[i:])
		if i += n; !closed {
			return field, nil, false, badCopy("unterminated CSV quoted field")
		}
	}
	field = copyField{f.buf[start:], !quoted && f.isNull(line[:i])}
	if more {
		i++
	}
	return field, line[i:], more, nil
}

// quotedPart reads up to and including the closing quote.
func (f *fieldReader) quotedPart(s []byte) (n int, closed bool) {
	quote, escape := f.format.quote, f.format.escape
	for n < len(s) {
		c := s[n]
		n++
		if c == escape && n < len(s) && (s[n] == escape || s[n] == quote) {
			f.buf = append(f.buf, s[n])
			n++
			continue
		}
		if c == quote {
			return n, true
		}
		f.buf = append(f.buf, c)
	}
	return n, false
}
