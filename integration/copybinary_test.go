package integration

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// binaryHeader is what COPY's data in binary format begins with.
const binaryHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// binaryRow is a row in binary format. NULL is a field of "\x00".
func binaryRow(fields ...string) string {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(fields)))
	for _, f := range fields {
		if f == "\x00" {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return string(b)
}

// binaryInputs are data of COPY FROM in binary format, a message each string.
var binaryInputs = [][]string{
	{}, {""}, {"PGCOPY\n"}, {"a\t1\n"}, {binaryHeader}, {binaryHeader[:11]}, {binaryHeader[:13]}, {binaryHeader[:15]}, {binaryHeader[:17]},
	{binaryHeader[:11] + "\x00\x01\x00\x00\x00\x00\x00\x00"}, {binaryHeader[:11] + "\x00\x02\x00\x00\x00\x00\x00\x00"},
	{binaryHeader[:11] + "\x80\x00\x00\x00\x00\x00\x00\x00"}, {binaryHeader[:11] + "\x00\x00\xff\xff\x00\x00\x00\x00"},
	{binaryHeader[:15] + "\x00\x00\x00\x03ext" + binaryRow("a", "1")}, {binaryHeader[:15] + "\x00\x00\x00\x03ex"}, {binaryHeader[:15] + "\xff\xff\xff\xff"},
	{binaryHeader, binaryRow("a", "1"), "\xff\xff"}, {binaryHeader + "\xff\xff"}, {binaryHeader + "\xff\xffx"}, {binaryHeader + "\xff\xff", "", ""},
	{binaryHeader + "\xff\xff", "x"}, {binaryHeader + "\xff"}, {binaryHeader + binaryRow("a", "1") + "\x00"},
	{binaryHeader, binaryRow("a", "\x00"), binaryRow("b", "")}, {binaryHeader, binaryRow("\x00", "1")}, {binaryHeader, binaryRow("", "1")},
	{binaryHeader, binaryRow("a")}, {binaryHeader, binaryRow("a", "b", "c")}, {binaryHeader, binaryRow()}, {binaryHeader + "\xff\xfe"},
	{binaryHeader, binaryRow("a", "1"), binaryRow("b", "\xff")}, {binaryHeader, binaryRow("a\x00b", "1")}, {binaryHeader, binaryRow("a", "é🎈\n\t\\")},
	{binaryHeader, binaryRow("a", "1"), binaryRow("a", "2"), "\xff\xff"}, {binaryHeader, "\x00\x02\xff\xff\xff\xfe"}, {binaryHeader, "\x00\x02\x00\x00\x00\x02a"},
	{binaryHeader, "\x00\x02\x00\x00"}, {binaryHeader, "\x00\x02\x00\x00\x00\x01a"}, {binaryHeader, "\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00"},
}

var binaryOptions = []string{
	"(format binary)", "(format 'binary', header)", "(format binary, delimiter ',', null '')", "binary null ''", "binary csv", "(format binary, header false)",
	"(format binary, quote 'x')", "(format binary, escape 'x', header)", "(format binary, force_null (key))", "(format binary, encoding 'utf8')",
}

var binaryOut = []string{
	"copy kv to stdout binary", "copy binary kv to stdout", "copy kv (value) to stdout (format binary)", "copy kv to stdout (format binary, header)",
	"copy kv to stdout (format binary, force_quote (key))", "copy (select key, value from kv where false) to stdout binary",
	"copy (select 1, 2::int8, true, 1.5::numeric, null, '1/2'::pg_lsn, 'x'::name, timestamptz '2026-11-21 00:00:00+00', interval '1 day') to stdout binary",
	"copy (select 1.5::float8, '{a,NULL}'::text[], '::1'::inet) to stdout (format binary)", "copy (select nope from kv) to stdout binary",
}

// sameBinaryCopies compares COPY in binary format both ways.
func sameBinaryCopies(t *testing.T, both func(*testing.T) (theirs, ours *wire)) {
	theirs, ours := both(t)
	in := func(text string, data ...string) {
		t.Helper()
		checkSame(t, theirs, ours, copyFrom(text, data...)...)
		checkSame(t, theirs, ours, simple("copy (select key, value from kv order by key) to stdout; delete from kv"))
	}
	for _, data := range binaryInputs {
		in("copy kv from stdin binary", data...)
	}
	for _, options := range binaryOptions {
		in("copy kv from stdin "+options, binaryHeader, binaryRow("a", "1"))
	}
	in("copy binary kv (value, key) from stdin where key > 'a'", binaryHeader, binaryRow("1", "a"), binaryRow("1", "b"))
	checkSame(t, theirs, ours, copyFrom("copy kv from stdin binary", binaryHeader, binaryRow("a", "1"), binaryRow("b", "\x00"), binaryRow("c", ""))...)
	for _, text := range binaryOut {
		checkSame(t, theirs, ours, simple(text))
	}
	rounds := 200
	if os.Getenv("LONGSHIP_LONG") != "" {
		rounds = 20_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		msgs := copyFrom("copy kv from stdin binary", damaged(random)...)
		want, got := theirs.talk(msgs...), ours.talk(msgs...)
		if len(got) < 2 || !strings.Contains(got[1], " 54000: field of ") { // which we refuse before it comes, or does not
			compare(t, msgs, want, got)
		}
		checkSame(t, theirs, ours, simple("copy (select key, value from kv order by key) to stdout; delete from kv"))
	}
}

// damaged is good data in binary format, in pieces, of which a byte or two may be wrong.
func damaged(random *rand.Rand) (pieces []string) {
	data := []byte(binaryHeader)
	for i := range random.IntN(3) {
		data = append(data, binaryRow(fmt.Sprint("k", i), [...]string{"", "v", "\x00"}[random.IntN(3)])...)
	}
	if random.IntN(2) == 0 {
		data = append(data, 0xff, 0xff)
	}
	for range random.IntN(3) {
		data[random.IntN(len(data))] = [...]byte{0, 1, 2, 0xff, 'x'}[random.IntN(5)]
	}
	if random.IntN(3) == 0 {
		data = data[:random.IntN(len(data))]
	}
	for len(data) > 0 {
		n := 1 + random.IntN(len(data))
		pieces = append(pieces, string(data[:n]))
		data = data[n:]
	}
	return pieces
}

// pgx's CopyFrom, which is COPY in binary format and nothing else.
func TestPgxCopyFrom(t *testing.T) {
	t.Parallel()
	ctx, cancel := testContext(t)
	defer cancel()
	conn := newCluster(t, 1).primary().connect()
	source := pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
		if i%2 == 0 {
			return []any{fmt.Sprintf("k%03d", i), nil}, nil
		}
		return []any{fmt.Sprintf("k%03d", i), fmt.Sprint(i)}, nil
	})
	if n, err := conn.CopyFrom(ctx, pgx.Identifier{"kv"}, []string{"key", "value"}, source); n != 1000 || err != nil {
		t.Fatalf("CopyFrom: %d rows, %v", n, err)
	}
	var rows, values, sum int
	if err := conn.QueryRow(ctx, "SELECT count(*), count(value), sum(value::int) FROM kv").Scan(&rows, &values, &sum); err != nil {
		t.Fatal(err)
	}
	if rows != 1000 || values != 500 || sum != 250_000 {
		t.Errorf("%d rows, %d values with the sum %d; want 1000, 500, 250000", rows, values, sum)
	}
	again := pgx.CopyFromRows([][]any{{"new", "1"}, {"k001", "2"}})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"public", "kv"}, []string{"key", "value"}, again); sqlState(err) != "23505" {
		t.Errorf("a key that is there: %v, want 23505", err)
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM kv").Scan(&rows); err != nil || rows != 1000 {
		t.Errorf("%d rows (%v) after a COPY that failed, want 1000", rows, err)
	}
}
