package sql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/pgwire"
)

// copyTestFormats are formats in which every rule of the two occurs.
var copyTestFormats = []string{
	"binary", "", "(delimiter ',')", "(header match)", "csv", `csv escape '\'`, "csv quote '''' delimiter ';' null 'a'",
	"csv header", "csv null 'NULL'", "csv quote 'a' escape 'b'",
	"(delimiter '|', null '')", "(delimiter ',', null 'a')",
}

// losslessFormats is how many of them tell every text from NULL: in text format a value that looks like
// what stands for NULL is written as it is, as PostgreSQL does.
const losslessFormats = 10

// copyRows reads the data of a COPY FROM, which comes in chunks, and returns the rows, or the error.
func copyRows(t testing.TB, options string, chunks [][]byte) (rows []string, err error) {
	t.Helper()
	nodes, _, err := parseAll("copy kv from stdin "+options, anything{}.Hold, nil)
	if err != nil {
		t.Fatal(err)
	}
	session, err := NewSession(&client{}, newMemory(), Identity{})
	if err != nil {
		t.Fatal(err)
	}
	plan := session.copyInPlan("", nodes[0].(*copyStmt))
	source := plan.rows(&copyChunks{chunks: chunks}, new(copyProgress), session.hold)
	if err := source.begin(); err != nil {
		return nil, err
	}
	for {
		fields, done, err := source.next()
		if err != nil || done {
			return rows, err
		}
		row := source.where(false)
		for _, f := range fields {
			if !f.null && !validText(string(f.text)) {
				t.Fatalf("a field that is no text: %q", f.text)
			}
			row += fmt.Sprintf(" %q %v", f.text, f.null)
		}
		rows = append(rows, row)
	}
}

// FuzzCopyData reads any bytes, in one piece and byte by byte: both must give the same rows and the same
// error, whose SQLSTATE is one of those for bad data.
func FuzzCopyData(f *testing.F) {
	for i := range copyTestFormats {
		for _, data := range []string{
			"a\t1\nb\t\\N\n", "a\\tb\t\\x41\\101\\\\\r\n", "a,\"b\n\"\"c\",\\.\n", "x\n\\.\ny\n", "\xc3\xa9|\xff", "\\", "\"", "a\rb\r", "\\.", "\xe2\x82",
		} {
			f.Add([]byte(data), uint8(i))
		}
	}
	row := appendBinaryRow([]byte(copySignature+"\x00\x00\x00\x00\x00\x00\x00\x03ext"), [][]byte{[]byte("a"), nil})
	for _, end := range []string{"", "\xff\xff", "\xff\xffx", "\x00", "\x00\x02\x00\x00\x00\x02\xc3", "\x00\x02\x00\x00\x00\x01\xff", "\x00\x02\x7f\xff\xff\xff"} {
		f.Add(append(row[:len(row):len(row)], end...), uint8(0))
	}
	f.Fuzz(func(t *testing.T, data []byte, format uint8) {
		options := copyTestFormats[int(format)%len(copyTestFormats)]
		var bytewise [][]byte
		for i := range data {
			bytewise = append(bytewise, data[i:i+1], nil)
		}
		want, wantErr := copyRows(t, options, [][]byte{data})
		got, gotErr := copyRows(t, options, bytewise)
		if !slices.Equal(got, want) || code(gotErr) != code(wantErr) {
			t.Fatalf("%s of %q\nin one piece %q, %v\nbyte by byte %q, %v", options, data, want, wantErr, got, gotErr)
		}
		if c := code(wantErr); wantErr != nil && c != "22P04" && c != "22021" && c != "54000" {
			t.Errorf("%s of %q: %v", options, data, wantErr)
		}
	})
}

// What COPY TO writes COPY FROM reads, in every format, however it is cut.
func TestCopyRoundTrip(t *testing.T) {
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab\\,\"';|.Nx\t\r\n\v\b\f\x01 é🎈NUL")))
	rapid.Check(t, func(t *rapid.T) {
		options := rapid.SampledFrom(copyTestFormats[:losslessFormats]).Draw(t, "format")
		from, to := newMemory(), newMemory()
		for key, value := range rapid.MapOfN(text.Filter(func(s string) bool { return s != "" }), rapid.Ptr(text, true), 0, 5).Draw(t, "rows") {
			from.put(key, "")
			row := from.rows[key]
			if row.Value = nil; value != nil {
				row.Value = []byte(*value)
			}
			from.rows[key] = row
		}
		source, target := &client{}, &client{}
		runCopy(t, from, source, "copy kv to stdout "+strings.Replace(options, " match", "", 1))
		for data := source.copyOut; len(data) > 0; {
			n := rapid.IntRange(1, len(data)).Draw(t, "cut")
			target.copyIn = append(target.copyIn, data[:n])
			data = data[n:]
		}
		runCopy(t, to, target, "copy kv from stdin "+options)
		if len(from.rows) != len(to.rows) {
			t.Fatalf("%d rows became %d through %q", len(from.rows), len(to.rows), source.copyOut)
		}
		for key, row := range from.rows {
			if got := to.rows[key]; !bytes.Equal(got.Value, row.Value) || (got.Value == nil) != (row.Value == nil) {
				t.Fatalf("%q: value %q became %q through %q", key, row.Value, got.Value, source.copyOut)
			}
		}
	})
}

type fataler interface{ Fatal(args ...any) }

func runCopy(t fataler, m *memory, c *client, text string) {
	s, err := NewSession(c, m, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.ParseAll(context.Background(), text)
	if err == nil {
		_, err = s.Execute(context.Background(), list[0], pgwire.Args{}, nil, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// endless is data without an end of line.
type endless struct{ sent int }

func (e *endless) Next() ([]byte, error) {
	e.sent += 1 << 20
	return bytes.Repeat([]byte{'x'}, 1<<20), nil
}

func (e *endless) Close() {}

// A line that is too long is refused before it is kept, and the longest row that COPY TO can write is not.
func TestCopyLineLimit(t *testing.T) {
	slow.Test(t)
	format := copyFormat{delim: '\t', null: `\N`}
	src := &endless{}
	_, err := newLineReader(src, &format, anything{}.Hold).next()
	if code(err) != pgwire.CodeProgramLimitExceeded || src.sent > maxCopyLine+2<<20 {
		t.Errorf("after %d bytes of a line: %v, want %s after %d", src.sent, err, pgwire.CodeProgramLimitExceeded, maxCopyLine)
	}
	line := format.appendText(nil, bytes.Repeat([]byte{'\\'}, MaxKeyLen))
	line = append(line, '\t')
	line = append(format.appendText(line, bytes.Repeat([]byte{'\n'}, MaxValueLen)), '\n')
	lines := newLineReader(&copyChunks{chunks: [][]byte{line}}, &format, anything{}.Hold)
	if done, err := lines.next(); err != nil || done || len(lines.line) != len(line)-1 {
		t.Errorf("the longest row: %d of %d bytes, %v", len(lines.line), len(line)-1, err)
	}
}

// A line of delimiters costs no more than itself.
func TestCopyFieldsBounded(t *testing.T) {
	format := copyFormat{delim: '\t', null: `\N`}
	f := newFieldReader(&format, 2, anything{}.Hold)
	line := bytes.Repeat([]byte{'\t'}, 1<<16)
	if allocs := testing.AllocsPerRun(10, func() { f.split(line, false) }); allocs > 1 {
		t.Errorf("%v allocations for a line of delimiters", allocs)
	}
	if n, err := f.split(line, true); err != nil || n != 1<<16+1 || len(f.fields) != 2 {
		t.Errorf("%d fields (%v), want %d, of which 2 are kept", n, err, 1<<16+1)
	}
}

// brokenCopy is a client that gives up.
type brokenCopy struct {
	client
	err error
}

func (c *brokenCopy) CopyIn(context.Context, int, int16) (pgwire.CopyReader, error) { return c, nil }
func (c *brokenCopy) Close()                                                        {}
func (c *brokenCopy) Next() ([]byte, error) {
	if c.err == nil {
		return nil, io.EOF
	}
	return nil, c.err
}

// An error from the connection gets the line it came in, and an error that everybody shares stays as it is.
func TestCopyErrorContext(t *testing.T) {
	shared := pgwire.Errorf(pgwire.CodeQueryCanceled, "COPY from stdin failed: x")
	c := &brokenCopy{err: shared}
	s, err := NewSession(c, newMemory(), Identity{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.ParseAll(t.Context(), "copy kv from stdin")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Execute(t.Context(), list[0], pgwire.Args{}, nil, true)
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok || e.Where != "COPY kv, line 1" || e.Code != shared.Code || shared.Where != "" {
		t.Errorf("error %+v, want %v in line 1, and the original as it was: %+v", e, shared, shared)
	}
}

// BenchmarkCopyFrom measures what a row costs before it reaches the table.
func BenchmarkCopyFrom(b *testing.B) {
	for _, options := range []string{"", "csv"} {
		b.Run(options, func(b *testing.B) {
			separator := map[string]string{"": "\t", "csv": ","}[options]
			row := "key0000001" + separator + strings.Repeat("v", 100) + "\n"
			chunk := []byte(strings.Repeat(row, 500))
			nodes, _, _ := parseAll("copy kv from stdin "+options, anything{}.Hold, nil)
			format := readCopyOptions("", nodes[0].(*copyStmt))
			lines := newLineReader(&repeated{chunk}, &format, anything{}.Hold)
			fields := newFieldReader(&format, 2, anything{}.Hold)
			b.SetBytes(int64(len(row)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := lines.next(); err != nil {
					b.Fatal(err)
				}
				if n, err := fields.split(lines.line, lines.escapes); n != 2 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

type repeated struct{ chunk []byte }

func (r *repeated) Next() ([]byte, error) { return r.chunk, nil }
func (r *repeated) Close()                {}

// stoppedCopy is a client that gets some rows, and then something happens.
type stoppedCopy struct {
	client
	rows int
	then func() error
}

func (c *stoppedCopy) SendCopyData(...[]byte) error {
	if c.rows--; c.rows > 0 {
		return nil
	}
	return c.then()
}

// A COPY TO reads no further than its client gets: a cancel request and an error of the socket end it at once.
func TestCopyToStops(t *testing.T) {
	broken := errors.New("broken pipe")
	for name, test := range map[string]struct {
		then func(cancel func()) error
		want error
	}{
		"cancelled": {func(cancel func()) error { cancel(); return nil }, context.Canceled},
		"broken":    {func(func()) error { return broken }, broken},
	} {
		m := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		c := &stoppedCopy{rows: 3, then: func() error { return test.then(cancel) }}
		s, err := NewSession(c, m, Identity{})
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.ParseAll(ctx, "copy (select name from pg_settings) to stdout")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Execute(ctx, list[0], pgwire.Args{}, nil, true); !errors.Is(err, test.want) || c.rows != 0 {
			t.Errorf("%s: %v with %d rows too many, want %v", name, err, -c.rows, test.want)
		}
		if len(s.catalog.copies.running) != 0 {
			t.Errorf("%s: pg_stat_progress_copy shows it still", name)
		}
	}
}
