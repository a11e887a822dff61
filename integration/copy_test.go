package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// copyInputs are pairs of a COPY FROM's options and its data.
var copyInputs = [][]string{
	{"", "a\t1\nb\t2\n"},
	{"", "a\t1\nb\t2"},
	{"", ""},
	{"", "\n"},
	{"", "a\t1\n", "b", "\t", "2", "\n"},
	{"", "a\t1\r\nb\t2\r\n"},
	{"", "a\t1\rb\t2\r"},
	{"", "a\t1\nb\t2\r\n"},
	{"", "a\t1\r\nb\t2\n"},
	{"", "a\t1\rb\t2\n"},
	{"", "a\t1\r\nb\t2\rc\t3\r\n"},
	{"", "a\t1\n\\.\nb\t2\n"},
	{"", "a\t1\n\\."},
	{"", "a\t1\n\\.\r\n"},
	{"", "a\t1\r\n\\.\r\n", "x"},
	{"", "a\t1\r\n\\.\n"},
	{"", "a\t1\r\n\\.x"},
	{"", "a\t1\r\\.\n"},
	{"", "a\t1\\.\n"},
	{"", "a\t1\n\\.x\n"},
	{"", "\\."},
	{"", "\\.\n"},
	{"", "a\\tb\t\\b\\f\\n\\r\\t\\v\\\\\\q\\\"\n"},
	{"", "a\\\nb\t1\n"},
	{"", "a\t\\101\\7\\12\\1011\\x41\\x4\\xg\\x414\\18\n"},
	{"", "a\t\\377\n"},
	{"", "a\t\\303\\251\\xc3\\xa9\n"},
	{"", "a\t\\0\n"},
	{"", "a\t\\x00\n"},
	{"", "a\t1\nb\\400\t1\n"},
	{"", "a\t\\N\n"},
	{"", "\\N\t1\n"},
	{"", "a\t\\N1\n"},
	{"", "a\t\\\\N\n"},
	{"", "a\t1\\"},
	{"", "a\t\\"},
	{"", "a\n"},
	{"", "a\t1\t2\n"},
	{"", "a\t1\nb\n"},
	{"", "a\t1\na\t2\n"},
	{"", "a\t\xff\n"},
	{"", "a\t\xe2\x28\xa1\n"},
	{"", "a\t1\nb\t\xc3"},
	{"", "a\t\xc3", "\xa9\n"},
	{"", "a\t\xc3", "\x28\n"},
	{"", "a\t\xed\xa0\x80\n"},
	{"", "a\t\x00\n"},
	{"", "a\t1\nb\t1\x00\n"},
	{"", "a\t" + strings.Repeat("x", 200) + "\tc\n"},
	{"", strings.Repeat("é", 70) + "\n"},
	{"(delimiter '|')", "a|1\nb\\|c|2\n"},
	{"(delimiter '|', null '')", "a|\n|1\n"},
	{"(null 'NULL')", "a\tNULL\nb\t\\NULL\n"},
	{"delimiter as ';' null as 'x'", "a;x\nb;\\x41\n"},
	{"using delimiters ','", "a,1\n"},
	{"(header)", "whatever\na\t1\n"},
	{"(header)", ""},
	{"(header)", "key\tvalue"},
	{"(header match)", "key\tvalue\na\t1\n"},
	{"(header match)", "key\tval\na\t1\n"},
	{"(header match)", "key\n"},
	{"(header match)", "key\tvalue\tlsn\n"},
	{"(header match)", "\\N\tvalue\n"},
	{"(header match)", ""},
	{"(header false)", "a\t1\n"},
	{"(freeze)", "a\t1\n"},
	{"(freeze off)", "a\t1\n"},
	{"(format text, encoding 'utf-8')", "a\té\n"},
	{"csv", "a,1\nb,2\n"},
	{"csv", "a,\"1\n2\"\nb,2\n"},
	{"csv", "a,\"1\r\n2\"\r\nb\r\n"},
	{"csv", "a,1\r\nb,\"x\ny\"\n"},
	{"csv", "a,1\rb,2\r"},
	{"csv", "a,1\nb,2\r\n"},
	{"csv", "a,\"x\n\ny\"\nb\n"},
	{"csv", "a,\"x\r\ry\"\rb\r"},
	{"csv", "a,\"1"},
	{"csv", "a,\"1\n"},
	{"csv", "a,1\"2\"3\n"},
	{"csv", "a,\"1\"\"2\"\n"},
	{"csv", "a,\"\"\nb,\n\"\",x\n"},
	{"csv", ",1\n"},
	{"csv", "a,\\.\n"},
	{"csv", "\\.\n"},
	{"csv", "a,1\n\\.\nb,2\n"},
	{"csv", "a,1\n\\.b,2\n"},
	{"csv", "\\.,2\n"},
	{"csv", "a,1\n\\."},
	{"csv", "a,1\r\n\\.\r\n"},
	{"csv", "a,1\r\n\\.\n"},
	{"csv", "a,1\r\\.\n"},
	{"csv", "a,\"\n\\.\n\"\nb,1\n"},
	{"csv", "a,b\\n\\t\\\\\n"},
	{"csv", "a,1,2\n"},
	{"csv", "a\n"},
	{"csv", "a,1\n\n"},
	{"csv", "a, b \n"},
	{"csv quote '''' ", "a,'x,''y'\n"},
	{"csv escape '\\'", "a,\"x\\\"y\\\\z\\w\"\n"},
	{"csv escape '\\'", "a,\"x\\"},
	{"csv escape '\\'", "a,\"x\\\\\"\nb,\"y\\\"\nz\"\n"},
	{"csv quote '$' escape '\\' delimiter ';' null 'n'", "a;$x$\nb;n\nc;$n$\n"},
	{"csv force not null value", "a,\n"},
	{"csv force null value", "a,\"\"\n"},
	{"(format csv, force_null (value), force_not_null (value))", "a,\"\"\nb,\n"},
	{"(format csv, null 'x', force_not_null (value))", "a,x\n"},
	{"csv header", "\"\n\n\",\na,1\n"},
	{"(format csv, header match)", "key,\"value\"\na,1\n"},
	{"(format csv, header match)", "key,\na,1\n"},
	{"(format csv, header match)", "key,VALUE\n"},
	{"csv", "a,\xff\n"},
	{"csv", "a,\"\r\xff\"\n"},
	{"csv", "a,\\\xff\n"},
	{"where key <> 'b'", "a\t1\nb\t2\n\\N\t3\n"},
	{"where value is null", "a\t1\nb\t\\N\n"},
	{"where lsn is null", "a\t1\n"},
	{"where nope", "a\t1\n"},
	{"where 1", "a\t1\n"},
	{"where value::int > 1", "a\t1\nb\t2\nc\tx\n"},
	// Options.
	{"(format foo)"}, {"(format)"}, {"(foo)"}, {"(delimiter ',', delimiter ';')"}, {"(delimiter 'ab')"}, {"(delimiter '')"},
	{"(delimiter 'a')"}, {"(delimiter '.')"}, {"(delimiter '\\')"}, {"(delimiter 5)"}, {"(delimiter E'\\n')"}, {"(delimiter E'\\r')"}, {"(null E'a\\nb')"},
	{"(null E'a\\tb')"}, {"(quote '\"')"}, {"(escape '\"')"}, {"csv quote 'ab'"}, {"csv quote ''"}, {"csv escape 'ab'"}, {"csv delimiter '\"'"},
	{"csv null '\"'"}, {"csv null ','"}, {"csv force quote key"}, {"force not null key"}, {"force null key"},
	{"csv force null key, key"}, {"csv force null nope"}, {"csv force null lsn"}, {"(header 2)"}, {"(header 1)", "x\n"}, {"(header 'maybe')"},
	{"(header on)", "x\n"}, {"(header 'MATCH')", "key\tvalue\n"}, {"(freeze 'x')"}, {"(format csv, force_null *)"}, {"(format csv, force_null 1)"},
	{"(format csv, force_null)"}, {"(delimiter *)", "a*1\n"}, {"(delimiter (a))"}, {"(delimiter (b, c))"}, {"(format 'csv', format 'csv')"}, {"csv csv"}, {"csv binary"},
	{"delimiter ',' delimiter ','"}, {"()"}, {"(format csv,)"}, {"csv,"}, {"delimiter"}, {"delimiter x"}, {"force"}, {"force quote"}, {"with"}, {"with csv", "a,1\n"},
	{"with (format csv) where key = 'a'", "a,1\nb,1\n"}, {"(null -1)", "a\t-1\n"}, {"(null +1)", "a\t1\n"}, {"(null 1.5)", "a\t1.5\n"}, {"(\"format\" csv)", "a,1\n"}, {"(\"FORMAT\" csv)"},
	{"csv header header"}, {"encoding 'utf8'", "a\t1\n"}, {"(header true)", "x\n"}, {"header", "x\n"}, {"null 'x' csv quote 'y'", "a,x\n"},
}

// copyColumns are other beginnings of a COPY FROM, with data.
var copyColumns = [][]string{
	{"copy kv (value, key) from stdin", "1\ta\n"},
	{"copy kv (key) from stdin", "a\nb\n"},
	{"copy kv (key) from stdin csv", "\\.\nb\n"},
	{"copy kv (value) from stdin", "1\n"},
	{"copy kv (lsn) from stdin"}, {"copy kv (key, key) from stdin"}, {"copy kv (key, nope) from stdin"}, {"copy kv () from stdin"},
	{"copy nope from stdin"}, {"copy kv from"}, {"copy kv"}, {"copy"}, {"copy kv form stdin"}, {"copy kv from stdin stdin"},
	{"copy public.kv from stdout", "a\t1\n"}, {"COPY \"kv\"(\"key\",value)FROM STDIN", "a\t1\n"},
	{"copy kv (key) from stdin (format csv, force_null (value))"},
	{"copy (select 1) from stdin"}, {"copy (select 1)"},
	{"copy kv from stdin; select 1", "a\t1\n"},
	{"insert into kv values ('x', '1'); copy kv from stdin; select count(*) from kv", "a\t1\n"},
	{"insert into kv values ('x', '1'); copy kv from stdin", "a\n"},
	{"insert into kv values ('x', '1'); copy kv from stdin", "x\t2\n"},
}

// copiesOut are COPY TO of a table that has been filled.
var copiesOut = []string{
	"copy kv to stdout", "copy kv (value, key) to stdout", "copy kv (key) to stdout csv", "copy kv to stdin", "copy kv to stdout csv",
	"copy kv to stdout csv header", "copy kv to stdout (header)", "copy kv to stdout (header match)", "copy kv to stdout (header match, format foo)",
	"copy kv to stdout csv force quote *", "copy kv to stdout csv force quote value", "copy kv to stdout (format csv, force_quote (value, key))",
	"copy kv to stdout (format csv, force_quote *)", "copy kv to stdout (format csv, force_quote (value, value))", "copy kv to stdout (format csv, force_quote (nope))",
	"copy kv (key) to stdout (format csv, force_quote (value))", "copy kv to stdout force quote *", "copy kv to stdout csv force not null key",
	"copy kv to stdout csv force null key", "copy kv to stdout (null 'x')", "copy kv to stdout csv null 'x'", "copy kv to stdout (delimiter ',')",
	"copy kv to stdout (delimiter E'\\x01')", "copy kv to stdout csv quote 'x'", "copy kv to stdout csv escape 'e'", "copy kv to stdout csv quote 'e' escape 'x' delimiter 'k'",
	"copy kv to stdout where key = 'a'", "copy kv to stdout freeze", "copy kv to stdout (freeze)",
	"copy (select key, value from kv where key >= 'b' order by key desc limit 2) to stdout", "copy (select count(*) from kv) to stdout csv header",
	"copy (select 1, 'x', null, true) to stdout", "copy (select 1 as a, null as \"b,c\") to stdout csv header", "copy (select 1 as a) to stdout csv force quote a",
	"copy (select 1 as a) to stdout csv force quote b", "copy (select nope from kv) to stdout", "copy (select $1) to stdout",
	"copy (select 1) to stdout where true", "copy (select 1) to stdout using delimiters ','", "copy (select '\\.') to stdout csv", "copy (select '\\.', 1) to stdout csv",
	"copy (fetch) to stdout", "copy (begin) to stdout", "copy (select 1; select 2) to stdout",
	"copy kv (lsn) to stdout", "copy kv (nope) to stdout", "copy nope to stdout", "copy pg_settings to stdout", "copy kv to stdout; select 1",
	"copy kv to stdout (format csv, header, force_quote *, null 'N', quote '''')",
}

// sameCopies compares COPY both ways.
func sameCopies(t *testing.T, both func(*testing.T) (theirs, ours *wire)) {
	theirs, ours := both(t)
	for _, in := range copyInputs {
		text := "copy kv from stdin " + in[0]
		checkSame(t, theirs, ours, copyFrom(text, in[1:]...)...)
		checkSame(t, theirs, ours, simple("copy (select key, value from kv order by key) to stdout; delete from kv"))
	}
	for _, in := range copyColumns {
		checkSame(t, theirs, ours, copyFrom(in[0], in[1:]...)...)
		checkSame(t, theirs, ours, simple("copy (select key, value from kv order by key) to stdout; delete from kv"))
	}
	tricky := "a\t1\nb\t\\N\nc\t\\n\\r\\t\\\\\\b\\f\\v\\001\nd\t\"x\",y\ne\t\nf\t\\\\.\ng\tNULL\nh\té🎈\ni\tx\nx\te\n"
	checkSame(t, theirs, ours, copyFrom("copy kv from stdin", tricky)...)
	for _, text := range copiesOut {
		checkSame(t, theirs, ours, simple(text))
	}
	sameCopyTalk(t, theirs, ours)
}

// sameCopyTalk compares what is said around the data.
func sameCopyTalk(t *testing.T, theirs, ours *wire) {
	data := &pgproto3.CopyData{Data: []byte("talk\t1\n")}
	done := &pgproto3.CopyDone{}
	with := func(more ...pgproto3.FrontendMessage) msgs {
		return append(msgs{parse("", "copy kv from stdin"), bind("", ""), describe('P', ""), execute("", 0)}, more...)
	}
	for _, m := range []msgs{
		{simple("copy kv from stdin"), data, &pgproto3.CopyFail{Message: "no more"}},
		{simple("copy kv from stdin"), &pgproto3.CopyFail{}},
		{simple("copy kv from stdin"), data, &pgproto3.Flush{}, done},
		{simple("delete from kv where key = 'talk'")},
		{simple("begin"), simple("copy kv from stdin"), data, done, simple("select value from kv where key = 'talk'"), simple("rollback"),
			simple("select value from kv where key = 'talk'")},
		{simple("begin"), simple("copy kv from stdin"), data, data, done, simple("select 1"), simple("rollback")},
		{simple("begin read only"), simple("copy kv from stdin"), simple("rollback")},
		{simple("begin read only"), simple("copy kv (key) to stdout csv"), simple("commit")},
		with(data, done, syncMsg),
		with(data, done, syncMsg), // a duplicate now: what follows is skipped
		{simple("delete from kv where key = 'talk'")},
		{parse("", "copy (select 1) to stdout"), bind("", ""), describe('P', ""), execute("", 1), execute("", 0), syncMsg},
		{parse("c", "copy nope to stdout"), describe('S', "c"), bind("", "c"), execute("", 0), syncMsg},
		{data, done, &pgproto3.CopyFail{Message: "late"}, simple("select 1")},
	} {
		checkSame(t, theirs, ours, m...)
	}
	// libpq's Sync right behind the Execute is swallowed by the COPY; one of the two is answered.
	for _, w := range []*wire{theirs, ours} {
		w.send(with(syncMsg, data, done)...)
	}
	checkSame(t, theirs, ours, syncMsg)
	checkSame(t, theirs, ours, simple("copy kv from stdin"), simple("select 1")) // ends the connection
}

// sameRandomCopies compares what both make of data in which everything that means something occurs.
func sameRandomCopies(t *testing.T, both func(*testing.T) (theirs, ours *wire)) {
	theirs, ours := both(t)
	rounds := 300
	if os.Getenv("LONGSHIP_LONG") != "" {
		rounds = 20_000
	}
	random := rand.New(rand.NewPCG(1, 2))
	options := []string{"", "csv", "csv escape '\\'", "csv quote '''' escape 'x'", "(delimiter '|', null 'b')", "csv null 'b' force not null value", "csv force null value"}
	pieces := []string{"\n", "\n", "\r\n", "\r", "\t", "\t", ",", ",", "a", "b", "x", "\\", "\"", "\"", "'", "\\.", "\\N", "\\x4", "\\1", "é", "\xff", "|", " "}
	for i := range rounds {
		data := make([]string, 1+random.IntN(3))
		for j := range data {
			for range random.IntN(12) {
				data[j] += pieces[random.IntN(len(pieces))]
			}
			if j == 0 && random.IntN(3) > 0 { // a good beginning, so that more gets further
				data[j] = fmt.Sprintf("k%d%sv\n", i, [...]string{"\t", ","}[random.IntN(2)]) + data[j]
			}
		}
		msgs := copyFrom("copy kv from stdin "+options[random.IntN(len(options))], data...)
		want, got := theirs.talk(msgs...), ours.talk(msgs...)
		if len(got) == 3 && len(want) == 3 && strings.Contains(got[1], " 23505: ") && strings.Contains(want[1], " 22") {
			continue // PostgreSQL looks for duplicates a thousand rows at a time, and has found a later error first
		}
		compare(t, msgs, want, got)
		if i%10 == 9 {
			checkSame(t, theirs, ours, simple("copy (select key, value from kv order by key) to stdout; delete from kv"))
		}
		if t.Failed() {
			t.Fatalf("in round %d", i)
		}
	}
}
