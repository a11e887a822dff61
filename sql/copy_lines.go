package sql

import (
	"bytes"
	"io"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

const (
	// maxCopyLine bounds a line of COPY's data, in bytes: as long as COPY TO writes the longest row,
	// with every byte escaped.
	maxCopyLine = 2*(MaxKeyLen+MaxValueLen) + 16

	copyChunk = 64 << 10 // how much of a message is looked at at once

	// maxUTF8 is the length of the longest character: fewer bytes may be the beginning of one.
	maxUTF8 = 4
)

// A lineReader cuts the data of a COPY FROM into lines (CopyReadLine of PostgreSQL 15, whose decisions it
// follows byte for byte). Lines end in \n, \r or \r\n, as the first one does.
//
//	buf  | taken | line being read ... | not looked at | not known to be UTF-8 |
//	             start                 pos             valid                   len
type lineReader struct {
	src    pgwire.CopyReader
	format *copyFormat
	stop   [256]bool // bytes that a line's reader has to look at

	rest  []byte // of the last message, not in buf yet
	buf   []byte
	start int
	pos   int
	valid int
	ended bool // src has nothing more
	eol   lineEnd

	number  int64  // of the line, from 1
	line    []byte // the last one, valid until the next read
	whole   bool   // line is that of number
	escapes bool   // line holds a backslash, in text format

	received int64 // bytes taken from src
	counted  func(received int64)
	hold     func(n int) error // for buf
}

// A lineEnd is what lines end in.
type lineEnd uint8

const (
	unknownEnd lineEnd = iota
	newlineEnd
	returnEnd
	bothEnd // \r\n
)

func newLineReader(src pgwire.CopyReader, format *copyFormat, hold func(n int) error) *lineReader {
	r := &lineReader{src: src, format: format, counted: func(int64) {}, hold: hold}
	for _, c := range []byte("\r\n\\") {
		r.stop[c] = true
	}
	if format.csv {
		r.stop[format.quote], r.stop[format.escape] = true, true
	}
	return r
}

// next reads a line. done: the data is at its end, and line is what came before it.
func (r *lineReader) next() (done bool, err error) {
	r.number++
	r.whole = false
	r.start, r.escapes = r.pos, false
	if r.format.csv {
		done, err = r.csvLine()
	} else {
		done, err = r.textLine()
	}
	if err != nil {
		return false, err
	}
	if done {
		err = r.drain()
	}
	r.whole = err == nil
	return done, err
}

// take makes what has been read, all but the last n bytes, the line.
func (r *lineReader) take(n int) { r.line = r.buf[r.start : r.pos-n] }

// drain reads past what follows the end of the data.
func (r *lineReader) drain() error {
	r.rest = nil
	r.pos, r.valid = len(r.buf), len(r.buf)
	for !r.ended {
		_, err := r.src.Next()
		if err == io.EOF {
			r.ended = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// have reports whether there is a byte n places after pos, and reads on if need be.
func (r *lineReader) have(n int) (bool, error) {
	for r.pos+n >= r.valid {
		more, err := r.fill()
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// peek is the byte n places after pos, 0 at the end of the data.
func (r *lineReader) peek(n int) (byte, error) {
	ok, err := r.have(n)
	if !ok {
		return 0, err
	}
	return r.buf[r.pos+n], nil
}

// fill brings more data into buf; more is false at its end. Bytes that are not UTF-8 are an error when
// there is nothing left to look at before them.
func (r *lineReader) fill() (more bool, err error) {
	if unknown := r.buf[r.valid:]; len(unknown) >= maxUTF8 {
		return false, invalidUTF8(unknown)
	}
	if len(r.rest) == 0 && !r.ended {
		r.rest, err = r.src.Next()
		if err == io.EOF {
			r.ended = true
		} else if err != nil {
			return false, err
		}
		r.received += int64(len(r.rest))
		r.counted(r.received)
	}
	if r.start > 0 { // what has been taken makes room
		n := copy(r.buf, r.buf[r.start:])
		r.buf = r.buf[:n]
		r.pos -= r.start
		r.valid -= r.start
		r.start = 0
	}
	if len(r.buf) > maxCopyLine {
		return false, pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "line of COPY data exceeds the maximum of %d bytes", maxCopyLine)
	}
	n := min(len(r.rest), copyChunk)
	if r.buf, err = grown(r.buf, n, r.hold); err != nil {
		return false, err
	}
	r.buf = append(r.buf, r.rest[:n]...)
	r.rest = r.rest[n:]
	unknown := r.buf[r.valid:]
	good := validPrefix(unknown)
	r.valid += good
	if r.ended && len(unknown) > 0 && good == 0 { // half a character
		return false, invalidUTF8(unknown)
	}
	return !r.ended || good > 0, nil
}

// validPrefix is how much of b is UTF-8 without NUL.
func validPrefix(b []byte) int {
	if utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 {
		return len(b)
	}
	for i := 0; i < len(b); {
		c, n := utf8.DecodeRune(b[i:])
		if c == 0 || c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// skip moves pos past bytes that need not be looked at, up to where no byte is there yet.
func (r *lineReader) skip() {
	b := r.buf[r.pos:r.valid]
	if !r.format.csv {
		// Three fast searches, within a bound: what is found first makes the others' work void.
		b = b[:min(len(b), 512)]
		for _, c := range [...]byte{'\n', '\\', '\r'} {
			if i := bytes.IndexByte(b, c); i >= 0 {
				b = b[:i]
			}
		}
		r.pos += len(b)
		return
	}
	for i, c := range b {
		if r.stop[c] {
			r.pos += i
			return
		}
	}
	r.pos += len(b)
}

// textLine reads a line in text format, in which a backslash makes the next byte, whatever it is, data.
func (r *lineReader) textLine() (done bool, err error) {
	for {
		r.skip()
		if ok, err := r.have(0); err != nil {
			return false, err
		} else if !ok {
			r.take(0)
			return true, nil
		}
		switch c := r.buf[r.pos]; c {
		case '\r', '\n':
			return false, r.lineEnd(c)
		case '\\':
			r.escapes = true
			if ok, err := r.have(1); err != nil {
				return false, err
			} else if !ok { // as the last byte it is data
				r.pos++
				r.take(0)
				return true, nil
			}
			if r.buf[r.pos+1] != '.' {
				r.pos += 2
				continue
			}
			marker, err := r.endMarker()
			if err == nil && !marker {
				err = badCopy("end-of-copy marker corrupt")
			}
			r.take(0)
			return true, err
		}
	}
}

// csvLine reads a line in csv format, which may hold line ends between quotes.
func (r *lineReader) csvLine() (done bool, err error) {
	inQuote, escaped, first := false, false, true
	for ; ; first = false {
		if from := r.pos; from < r.valid {
			if r.skip(); r.pos > from {
				escaped, first = false, false
			}
		}
		if ok, err := r.have(0); err != nil {
			return false, err
		} else if !ok {
			r.take(0)
			return true, nil
		}
		c := r.buf[r.pos]
		if !r.stop[c] {
			continue
		}
		if c == '\\' || c == '\r' { // what is behind it may matter; if it is an error, it comes first
			if _, err := r.have(1); err != nil {
				return false, err
			}
		}
		inQuote, escaped = r.quoting(c, inQuote, escaped)
		if inQuote && c == choose(r.eol == newlineEnd, '\n', '\r') {
			r.number++
		}
		switch {
		case (c == '\r' || c == '\n') && !inQuote:
			return false, r.lineEnd(c)
		case c == '\\' && first:
			if next, err := r.peek(1); err != nil {
				return false, err
			} else if next == '.' {
				if marker, err := r.endMarker(); marker || err != nil {
					r.take(0)
					return true, err
				}
			}
		}
		r.pos++
	}
}

func choose(yes bool, a, b byte) byte {
	if yes {
		return a
	}
	return b
}

// quoting says whether the reader is inside quotes after c, and whether c makes the next byte data. An
// escape counts only inside quotes, and if it is not the quote itself, which is a toggle.
func (r *lineReader) quoting(c byte, inQuote, escaped bool) (bool, bool) {
	quote, escape := r.format.quote, r.format.escape
	if escape == quote {
		return inQuote != (c == quote), false
	}
	if inQuote && c == escape {
		escaped = !escaped
	}
	if c == quote && !escaped {
		inQuote = !inQuote
	}
	return inQuote, escaped && c == escape
}

// lineEnd takes the line that the \r or \n at pos ends. All lines must end alike.
func (r *lineReader) lineEnd(c byte) error {
	if c == '\n' {
		if r.eol == returnEnd || r.eol == bothEnd {
			return r.strayEnd("newline", `\n`)
		}
		r.eol = newlineEnd
		r.pos++
		r.take(1)
		return nil
	}
	switch r.eol {
	case newlineEnd:
		return r.strayEnd("carriage return", `\r`)
	case unknownEnd, bothEnd:
		next, err := r.peek(1)
		if err != nil {
			return err
		}
		if next == '\n' {
			r.eol = bothEnd
			r.pos += 2
			r.take(2)
			return nil
		}
		if r.eol == bothEnd {
			return r.strayEnd("carriage return", `\r`)
		}
		r.eol = returnEnd
	}
	r.pos++
	r.take(1)
	return nil
}

func (r *lineReader) strayEnd(name, escaped string) error {
	if r.format.csv {
		return badCopy("unquoted %s found in data", name).WithHint("Use quoted CSV field to represent %s.", name)
	}
	return badCopy("literal %s found in data", name).WithHint(`Use "%s" to represent %s.`, escaped, name)
}

func badCopy(format string, args ...any) *pgwire.Error {
	return pgwire.Errorf(codeBadCopyFormat, format, args...)
}

// codeBadCopyFormat is SQLSTATE bad_copy_file_format.
const codeBadCopyFormat = "22P04"

// endMarker reports whether the \. at pos ends the data: in csv format only if nothing else is on its
// line. pos stays before it, where the line's data ends.
func (r *lineReader) endMarker() (bool, error) {
	at := 2
	if r.eol == bothEnd {
		c, err := r.peek(at)
		switch {
		case err != nil:
			return false, err
		case c == '\n' && !r.format.csv:
			return false, badCopy("end-of-copy marker does not match previous newline style")
		case c != '\r':
			return false, nil
		}
		at++
	}
	c, err := r.peek(at)
	if err != nil || c != '\r' && c != '\n' {
		return false, err
	}
	if r.eol == newlineEnd && c != '\n' || r.eol == bothEnd && c != '\n' || r.eol == returnEnd && c != '\r' {
		return false, badCopy("end-of-copy marker does not match previous newline style")
	}
	return true, nil
}
