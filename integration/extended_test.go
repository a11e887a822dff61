package integration

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Short names for the messages of extended query.
func parse(name, text string, oids ...uint32) *pgproto3.Parse {
	return &pgproto3.Parse{Name: name, Query: text, ParameterOIDs: oids}
}

func bind(portal, statement string, values ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: statement}
	for _, v := range values {
		if v == "NULL" {
			b.Parameters = append(b.Parameters, nil)
		} else {
			b.Parameters = append(b.Parameters, []byte(v))
		}
	}
	return b
}

// bindBinary binds values that are, like the results, in binary format.
func bindBinary(statement string, values ...string) *pgproto3.Bind {
	b := bind("", statement, values...)
	b.ParameterFormatCodes, b.ResultFormatCodes = []int16{1}, []int16{1}
	return b
}

func describe(object byte, name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: object, Name: name}
}

func execute(portal string, maxRows uint32) *pgproto3.Execute {
	return &pgproto3.Execute{Portal: portal, MaxRows: maxRows}
}

func closeOf(object byte, name string) *pgproto3.Close {
	return &pgproto3.Close{ObjectType: object, Name: name}
}

var (
	syncMsg  = &pgproto3.Sync{}
	flushMsg = &pgproto3.Flush{}
)

type msgs = []pgproto3.FrontendMessage

// extendedTalks are conversations in extended query, one after the other on one connection; kv holds a to e
// with values 1 to 5.
var extendedTalks = []msgs{
	// Statements.
	{parse("", "select key, value from kv where key = $1"), describe('S', ""), bind("", "", "b"), describe('P', ""), execute("", 0), syncMsg},
	{bind("", "", "c"), execute("", 0), syncMsg}, // the unnamed statement is still there
	{parse("s1", "select value from kv where key = $1", 25), describe('S', "s1"), syncMsg},
	{parse("s1", "select 1"), parse("x", "select 2"), syncMsg},
	{bind("", "s1", "a"), execute("", 0), bind("", "s1", "b"), execute("", 0), syncMsg},
	{bind("", "nope", "a"), execute("", 0), syncMsg},
	{describe('S', "nope"), syncMsg}, {describe('P', "nope"), syncMsg}, {execute("nope", 0), syncMsg},
	{closeOf('S', "nope"), closeOf('P', "nope"), syncMsg},
	{closeOf('S', "s1"), bind("", "s1", "a"), syncMsg},
	{parse("", "select $1::int4 + $2::int8, $3::bool, $4::pg_lsn, $5::timestamptz, $6"), describe('S', ""), syncMsg},
	{parse("", ""), describe('S', ""), bind("", ""), describe('P', ""), execute("", 0), syncMsg},
	{parse("", "; ;"), bind("", ""), execute("", 0), syncMsg},
	{parse("", "select 1; select 2"), syncMsg},
	{parse("", "select nope from kv"), bind("", ""), syncMsg},
	{parse("", "select $1"), describe('S', ""), syncMsg},
	{parse("", "select $2::int4"), describe('S', ""), syncMsg},
	{parse("", "selec"), syncMsg},
	{simple("select 1"), bind("", ""), syncMsg}, // a simple query takes the unnamed statement away
	{parse("", "select 1"), parse("", "selec"), bind("", ""), syncMsg},
	{bind("", ""), syncMsg}, // …and so does a Parse that fails
	// Portals.
	{parse("q", "select key from kv order by key"), syncMsg},
	{bind("p", "q"), bind("p", "q"), syncMsg},
	{bind("p", "q"), execute("p", 2), execute("p", 2), execute("p", 2), execute("p", 2), syncMsg},
	{execute("p", 0), syncMsg}, // its transaction has ended
	{bind("", "q"), execute("", 5), execute("", 1), execute("", 1), syncMsg},
	{bind("", "q"), execute("", 0), execute("", 0), execute("", 3), syncMsg},
	{simple("begin"), bind("p1", "q"), execute("p1", 1), bind("p2", "q"), execute("p2", 3), execute("p1", 1), execute("p2", 3), syncMsg},
	{execute("p1", 2), describe('P', "p1"), syncMsg, closeOf('P', "p1"), execute("p1", 1), syncMsg},
	{execute("p2", 1), syncMsg}, {simple("rollback")},
	{simple("begin"), bind("p1", "q"), execute("p1", 2), simple("select 1"), execute("p1", 1), syncMsg, simple("commit"), execute("p1", 1), syncMsg},
	{simple("begin"), bind("p1", "q"), execute("p1", 2), bind("", "q"), execute("", 1), parse("", "insert into kv values ('a', 'dup')"), bind("", ""), execute("", 0), syncMsg, execute("p1", 1), syncMsg, simple("rollback")},
	{simple("begin"), bind("p1", "q"), execute("p1", 1), simple("insert into kv values ('aa', 'new')"), execute("p1", 2), syncMsg, simple("rollback")}, // sees what was there when it began
	{simple("begin"), simple("insert into kv values ('aa', 'new')"), bind("p1", "q"), execute("p1", 3), syncMsg, simple("delete from kv"), execute("p1", 9), syncMsg, simple("rollback")},
	{parse("", "insert into kv values ('f', '6'), ('g', '7') returning key"), bind("", ""), describe('P', ""), execute("", 1), execute("", 1), execute("", 1), syncMsg},
	{parse("", "delete from kv where key in ('f', 'g')"), bind("", ""), describe('P', ""), execute("", 1), execute("", 1), syncMsg},
	{parse("", "insert into kv values ('f', '6')"), bind("", ""), execute("", 0), execute("", 0), syncMsg},
	{simple("select count(*) from kv where key = 'f'; delete from kv where key = 'f'")},
	{parse("", "select key from kv where key > $1 order by key limit $2"), bind("", "", "b", "2"), execute("", 0), closeOf('S', ""), syncMsg},
	{bind("", "q"), closeOf('S', "q"), execute("", 2), syncMsg}, // the portal outlives its statement
	{bind("", "q"), syncMsg},
	// Cursors, which are portals.
	{simple("declare c cursor for select 1"), simple("declare c cursor for select 1; fetch c"), simple("fetch c"), parse("", "declare c cursor for select 1"), bind("", ""), execute("", 0), syncMsg},
	{parse("q", "select key, value from kv order by key"), simple("begin"), simple("declare c no scroll cursor for select key, value from kv order by key"), describe('P', "c"), execute("c", 2), parse("", "fetch 2 from c"),
		describe('S', ""), bind("", ""), describe('P', ""), execute("", 0), syncMsg, simple("move 1 in c"), simple("fetch all c"), simple("fetch c"), closeOf('P', "c"), syncMsg, simple("fetch c"), simple("rollback")},
	{simple("begin"), bind("p", "q"), syncMsg, simple("fetch 2 p"), execute("p", 1), syncMsg, simple("move p"), bind("p", "q"), syncMsg, simple("rollback")},
	{simple("begin"), bind("p", "q"), execute("p", 1), syncMsg, simple("declare p cursor for select 1"), simple("rollback"), simple("begin"), bind("p", "q"), syncMsg, simple("close p"), execute("p", 1), syncMsg, simple("rollback")},
	{simple("begin"), parse("d", "declare d cursor for select key, $1::int4 from kv where key > $2 order by key"), describe('S', "d"), bind("", "d", "41", "c"), describe('P', ""), execute("", 0), describe('P', "d"),
		parse("fd", "fetch 1 from d"), bindBinary("fd"), describe('P', ""), execute("", 0), syncMsg, simple("close all"), simple("fetch d"), simple("rollback"), bind("", "fd"), describe('P', ""), syncMsg}, // to describe fd itself would end PostgreSQL with a signal 11
	{simple("begin; declare c cursor for select key from kv order by key; declare k cursor for select key, value from kv where key in ('a', 'b') order by key; update kv set value = 'new'; delete from kv where key = 'b'; insert into kv values ('aa', 'new')"),
		simple("fetch 2 c; fetch all k"), simple("savepoint s; fetch c; declare d cursor for select 1; selec"), simple("rollback to s; fetch c"), simple("fetch d"), simple("rollback to s; close k; fetch c"), simple("commit and chain"), simple("fetch c"), simple("rollback"),
		simple("select key, value from kv order by key")},
	{simple("delete from kv where key = 'aa'; insert into kv values ('b', '2'); update kv set value = '1' where key = 'a'; update kv set value = '3' where key = 'c'; update kv set value = '4' where key = 'd'; update kv set value = '5' where key = 'e'")},
	{simple("begin; declare c cursor for select 1 / (1 - value::int) from kv order by key; savepoint s; fetch 5 c"), simple("rollback to s; fetch c"), simple("rollback"), simple("begin; declare next cursor for select 1; fetch next; move 0 next; close next; close next"), simple("rollback")},
	{closeOf('S', "q"), parse("q", "select key from kv order by key"), syncMsg},
	// Pipelines.
	{parse("w", "insert into kv values ($1, $2)"), bind("", "w", "h", "8"), execute("", 0), bind("", "w", "a", "dup"), execute("", 0), bind("", "w", "i", "9"), execute("", 0), syncMsg,
		simple("select key from kv where key in ('h', 'i')")},
	{bind("", "w", "h", "8"), execute("", 0), syncMsg, bind("", "w", "h", "dup"), execute("", 0), syncMsg, bind("", "w", "i", "9"), execute("", 0), syncMsg,
		simple("select key from kv where key in ('h', 'i')"), simple("delete from kv where key in ('h', 'i')")},
	{parse("", "begin"), bind("", ""), execute("", 0), bind("", "w", "h", "8"), execute("", 0), syncMsg, bind("", "w", "h", "dup"), execute("", 0), syncMsg,
		bind("", "w", "i", "9"), syncMsg, parse("", "rollback"), bind("", ""), execute("", 0), syncMsg, simple("select key from kv where key in ('h', 'i')")},
	{bind("", "w", "h", "8"), execute("", 0), parse("", "begin"), bind("", ""), execute("", 0), bind("", "w", "i", "9"), execute("", 0), syncMsg, simple("rollback"),
		simple("select key from kv where key in ('h', 'i')"), simple("delete from kv where key in ('h', 'i')")},
	{bind("", "w", "h", "8"), execute("", 0), parse("", "commit"), bind("", ""), execute("", 0), bind("", "w", "a", "dup"), execute("", 0), syncMsg,
		simple("select key from kv where key in ('h', 'i')"), simple("delete from kv where key in ('h', 'i')")},
	{parse("", "begin"), bind("", ""), execute("", 0), parse("", "commit"), bind("", ""), execute("", 0), parse("", "select 1"), bind("", ""), execute("", 0), syncMsg},
	{execute("", 0), parse("", "select 1"), flushMsg, syncMsg, syncMsg},
	{simple("select 1/0; select 2"), simple("select 1; select nope; select 2"), simple("select 1; selec"), simple(""), simple(" ; ")},
	{simple("insert into kv values ('h', '8'); select 1/0"), simple("select key from kv where key = 'h'")},
	{simple("begin; insert into kv values ('h', '8'); commit; select 1/0"), simple("delete from kv where key = 'h'")},
	{simple("begin; select 1/0; commit"), simple("commit"), simple("commit"), simple("rollback")},
	{simple("begin; begin"), simple("commit and chain"), simple("rollback and no chain")},
	// Savepoints.
	{simple("savepoint a"), simple("release a"), simple("rollback to a"), simple("savepoint a; select 1"), simple("begin; savepoint a; commit")},
	{simple("begin"), simple("insert into kv values ('h', '8')"), simple("savepoint a"), simple("insert into kv values ('i', '9')"), simple("update kv set value = 'x' where key = 'h'"),
		simple("savepoint b"), simple("delete from kv"), simple("rollback to savepoint b"), simple("select key, value from kv where key > 'e' order by key"),
		simple("rollback work to a"), simple("select key, value from kv where key > 'e' order by key"), simple("rollback to b"), simple("select 1"),
		simple("release a"), simple("rollback to a"), simple("savepoint c"), simple("commit")},
	{simple("begin"), simple("savepoint a"), simple("savepoint a"), simple("insert into kv values ('h', '8')"), simple("release savepoint a"), simple("insert into kv values ('i', '9')"),
		simple("rollback transaction to savepoint a"), simple("select count(*) from kv"), simple("release a"), simple("release a"), simple("rollback")},
	{simple("begin"), simple("insert into kv values ('h', '8')"), simple("savepoint a"), simple("set application_name = 'one'"), simple("set local statement_timeout = 77"), simple("selec"),
		simple("release a"), simple("savepoint b"), simple("rollback to nope"), simple("rollback to a"), simple("show application_name"), simple("show statement_timeout"),
		simple("commit"), simple("select key from kv where key = 'h'"), simple("delete from kv where key = 'h'")},
	{simple("begin"), simple("savepoint a"), simple("set transaction read only"), simple("insert into kv values ('h', '8')"), simple("rollback to a"), simple("insert into kv values ('h', '8')"), simple("rollback")},
	{simple("begin"), parse("sp", "savepoint a"), bind("", "sp"), execute("", 0), parse("rb", "rollback to a"), bind("", "w", "a", "dup"), execute("", 0), syncMsg,
		bind("", "sp"), syncMsg, bind("", "rb"), execute("", 0), syncMsg, bind("", "w", "h", "8"), execute("", 0), syncMsg, simple("select value from kv where key = 'h'"), simple("rollback")},
	{simple("savepoint"), simple("release"), simple("rollback to"), simple("savepoint select"), simple("begin; savepoint \"A b\"; release \"A b\"; rollback")},
	// Formats.
	{parse("f", "select $1::text, $2::int4, $3::int8, $4::bool, $5::pg_lsn, $6::timestamptz"), describe('S', "f"),
		bind("", "f", "é", "-5", "9000000000", "yes", "16/B374D848", "2026-01-02 03:04:05.678901+00"), describe('P', ""), execute("", 0), syncMsg},
	{bindBinary("f", "é", "\xff\xff\xff\xfb", "\x00\x00\x00\x02\x18\x71\x1a\x00", "\x01", "\x00\x00\x00\x16\xb3\x74\xd8\x48", "\x00\x02\xea\x3c\x11\x22\x33\x44"), describe('P', ""), execute("", 0), syncMsg},
	{bindBinary("f", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bindBinary("f", "x", "\xff\xff\xff", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bindBinary("f", "x", "\xff\xff\xff\xff\xff", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bindBinary("f", "\xff", "NULL", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "a\x00b", "NULL", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "x", "five", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "x", "5000000000", "NULL", "NULL", "NULL", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "x", "5", "NULL", "maybe", "NULL", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "x", "5", "NULL", "NULL", "G/0", "NULL"), execute("", 0), syncMsg},
	{bind("", "f", "x", "5"), execute("", 0), syncMsg},
	{&pgproto3.Bind{PreparedStatement: "f", Parameters: make([][]byte, 6), ParameterFormatCodes: []int16{0, 1}}, syncMsg},
	{&pgproto3.Bind{PreparedStatement: "f", Parameters: make([][]byte, 6), ResultFormatCodes: []int16{0, 1}}, syncMsg},
	{&pgproto3.Bind{PreparedStatement: "f", Parameters: make([][]byte, 6), ResultFormatCodes: []int16{2}}, execute("", 0), syncMsg},
	{&pgproto3.Bind{PreparedStatement: "f", Parameters: make([][]byte, 6), ResultFormatCodes: []int16{0, 1, 0, 1, 0, 1}}, describe('P', ""), execute("", 0), syncMsg},
	// What takes prepared statements and portals away.
	{parse("d1", "select 1"), parse("d2", "select 2"), syncMsg, simple("deallocate d1"), bind("", "d1"), syncMsg, simple("deallocate d1"), bind("", "d2"), execute("", 0), syncMsg},
	{simple("deallocate all"), bind("", "d2"), syncMsg, parse("d2", "select 2"), syncMsg, simple("discard all"), bind("", "d2"), syncMsg},
	{simple("begin"), simple("discard all"), simple("rollback"), simple("discard plans; discard all"), simple("discard temp")},
	{parse("d3", "deallocate d3"), bind("", "d3"), execute("", 0), execute("", 0), syncMsg, bind("", "d3"), syncMsg},
	{describe('x', ""), syncMsg, closeOf('x', ""), syncMsg},
	{simple("begin read only"), parse("", "insert into kv values ('z', '1')"), bind("", ""), execute("", 0), syncMsg, parse("", "select 1"), syncMsg, parse("", "commit"), bind("", ""), execute("", 0), syncMsg},
	{simple("begin"), simple("select nope"), parse("", "select 1"), syncMsg, describe('S', ""), syncMsg, bind("", ""), syncMsg, parse("", ""), bind("", ""), execute("", 0), syncMsg,
		parse("r", "rollback"), describe('S', "r"), bind("", "r"), execute("", 0), syncMsg},
	{&pgproto3.Parse{Name: strings.Repeat("n", 100), Query: "select 1"}, describe('S', strings.Repeat("n", 100)), syncMsg},
}

// sameExtended compares extended query.
func sameExtended(t *testing.T, both func(*testing.T) (theirs, ours *wire)) {
	theirs, ours := both(t)
	checkSame(t, theirs, ours, copyFrom("copy kv from stdin", "a\t1\nb\t2\nc\t3\nd\t4\ne\t5\n")...)
	checkSame(t, theirs, ours, simple("set time zone 'UTC'"))
	for _, m := range extendedTalks {
		checkSame(t, theirs, ours, m...)
	}
	checkSame(t, theirs, ours, simple("delete from kv"))
	// A client that leaves its block alone is told once, whatever state the block is in.
	for _, m := range []msgs{
		{simple("set idle_in_transaction_session_timeout = 20"), simple("begin")},
		{simple("set idle_in_transaction_session_timeout = 20"), simple("begin; selec"), simple("begin"), simple("select nope")},
		{simple("set idle_session_timeout = 20")},
	} {
		theirs, ours := both(t)
		checkSame(t, theirs, ours, m...)
		compare(t, m, theirs.receive(1), ours.receive(1))
	}
}
