package sql

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// sampleValues are values of every type that can be sent both ways.
func sampleValues() []Value {
	return []Value{
		BoolValue(true), BoolValue(false), TextValue("naïve"), TextValue(""), NameValue("n"),
		{typ: Int2, n: -2}, Int4Value(math.MinInt32), Int8Value(math.MaxInt64), OIDValue(math.MaxUint32), {typ: XID, n: 7},
		Float8Value(-1.5), Float8Value(1e300), Float8Value(math.Inf(1)), LSNValue(math.MaxUint64), LSNValue(0x1_0000_0000),
		NumericValue(0), NumericValue(math.MaxUint64), {typ: Numeric, s: "-12345.6780"}, {typ: Numeric, s: "0.00001"}, {typ: Numeric, s: "100000000.5"},
		TimeValue(time.Date(2026, 11, 21, 4, 3, 3, 123456000, time.UTC)), TimeValue(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)),
		IntervalValue(90 * time.Minute), IntervalValue(-time.Second), {typ: Interval, months: 14, days: 3, n: 5},
		{typ: Interval, months: -1, days: 2, n: -5}, InetValue(netip.MustParseAddr("127.0.0.1")), InetValue(netip.MustParseAddr("::1")),
		{typ: Inet, s: "10.0.0.0/8"}, TextArrayValue(nil), TextArrayValue([]string{"a", "", "b c", `q"\`, "null", nullElem}),
		arrayValue(Int4Array, []string{"1", nullElem, "-3"}), arrayValue(Int2Vector, []string{"1", "2"}), charValue("r"), charValue(""),
		{typ: Float4, n: int64(math.Float64bits(1.5))}, arrayValue(BoolArray, []string{"t", "f"}),
		{typ: Date, n: 0}, {typ: Date, n: -1_000_000}, {typ: Date, n: infiniteDay}, {typ: Date, n: minusInfDay}, {typ: Date, n: endDay - 1}, {typ: Date, n: minDay},
		{typ: Time, n: 0}, {typ: Time, n: usPerLongDay}, {typ: Time, n: 3_723_000_004}, {typ: Timestamp, n: -1}, {typ: Timestamp, n: infinitelyLate},
		{typ: Timestamp, n: minTimestamp}, {typ: Bytea, s: "a\x00\xff\\"}, {typ: Bytea}, uuidValue([16]byte{1, 15: 255}), {typ: XID8, n: -1},
		{typ: JSON, s: ` {"b":1.50, "a":null}`}, {typ: JSONB, s: `{"a": [1.50, "\u0001é"], "bb": {}}`},
		arrayValue(DateArray, []string{"2020-01-02", nullElem}), arrayValue(UUIDArray, []string{"00000000-0000-0000-0000-000000000005"}),
		arrayValue(NumericArray, []string{"1.50"}), arrayValue(Float8Array, []string{"0.1"}), arrayValue(LSNArray, []string{"0/10"}),
	}
}

// What is printed, in text or binary, reads back as the same value.
func TestValuesRoundTrip(t *testing.T) {
	helsinki, err := time.LoadLocation("Europe/Helsinki")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range sampleValues() {
		for _, loc := range []*time.Location{time.UTC, helsinki} {
			text := textOf(v, loc)
			if got, err := parseValue(text, v.typ, loc, nil); err != nil || got != v {
				t.Errorf("%s %q reads back as %+v, %v; want %+v", v.typ, text, got, err, v)
			}
		}
		if got, err := parseBinary(appendBinary(nil, v, nil), v.typ, nil); err != nil || got != v {
			t.Errorf("binary %s %q reads back as %+v, %v; want %+v", v.typ, textOf(v, time.UTC), got, err, v)
		}
	}
}

func TestIntervalText(t *testing.T) {
	// Each as PostgreSQL 15 prints it.
	for input, want := range map[string]string{
		"1 mon": "1 mon", "61 days": "61 days", "-3 hours": "-03:00:00", "-1 day 2 hours": "-1 days +02:00:00",
		"1.5 months": "1 mon 15 days", "14 months 1 day": "1 year 2 mons 1 day", "0": "00:00:00", "1:02:03.5": "01:02:03.5",
		"90": "00:01:30", "2 weeks": "14 days", "1 day ago": "-1 days", "10ms": "00:00:00.01",
	} {
		v, err := parseInterval(input)
		if err != nil {
			t.Errorf("%q: %v", input, err)
		} else if got := textOf(v, time.UTC); got != want {
			t.Errorf("%q prints as %q, want %q", input, got, want)
		}
	}
}

func TestArraysAndRecords(t *testing.T) {
	array := TextArrayValue([]string{"a", "", "b c", `q"\`, "null"})
	if got, want := textOf(array, time.UTC), `{a,"","b c","q\"\\","null"}`; got != want {
		t.Errorf("array prints as %s, want %s", got, want)
	}
	if got := textOf(TextArrayValue(nil), time.UTC); got != "{}" {
		t.Errorf("empty array prints as %s", got)
	}
	record := recordValue([]Value{TextValue("a b"), Null, TextValue(""), TextValue(`q"`), Int4Value(3)}, time.UTC)
	if got, want := record.s, `("a b",,"","q""",3)`; got != want {
		t.Errorf("record prints as %s, want %s", got, want)
	}
}

// FuzzParse: the parser and the analyzer never panic, and an error's position lies in the text.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"select 1", "insert into kv values ('a', $1) on conflict (key) do update set value = excluded.value where kv.lsn < '0/1' returning *",
		"update kv set value = value || 'x' where key between 'a' and $1 and not lsn is null", "delete from kv where key like 'a%' or key in ('b', $2)",
		"select count(*), max(key) from kv where case when true then key = 'x' else null end limit 1 offset 2",
		"begin read only; set local x.y = 1, 'b'; show all; rollback and chain", "select E'\\u00e9\\x41' || $$a$$ -- c\n/* /* */ */",
		"select -1::int2, +2.5e-3, interval '1 day' + now(), extract(epoch from now())", "select \"q\"\"q\", a.b, a.* from a", "wait for lsn '0/1' timeout 5", "explain failover", "explain commit '16/B374D848'", "explain commit 'x'",
		"select distinct a.x, (select 1) from pg_class c left join pg_type t on c.oid = t.oid, generate_series(1, 2) as a(x) where exists (select 1) union all select 1, 2 order by 1",
		"select array[1, 2][1], array(select oid from pg_class), 'a' ~ '(' collate \"C\", x operator(pg_catalog.~~) any ('{a}'::text[]), trim(both 'x' from 'y'), substring('a' from 1 for 2)",
		"with recursive t(a) as (select 1 union select a + 1 from t where a < 3), u as (select 1) select a, count(distinct a order by a) filter (where a > 1) from t group by 1 having true for update",
		"select exists (select * from kv where key = 'a'), date '2020-01-01' at time zone 'UTC', '{}'::jsonb", "update kv set key = $1, value = $2 where key = $1",
		"declare c no scroll cursor without hold for select $1", "fetch forward all in c", "move 3 c; close c; close all",
		"select (key, $1) in (('a', 2), row(kv, value)) from kv, 1 ^ 2, timestamp with time zone 'x', pg_catalog.int4 '5', 'a'\n-- c\n'b', e'a'\n'b'",
		"set constraints a, b deferred; set session authorization 'x'; set role none", "copy kv from stdin with (format csv, delimiter ';', null '', quote '\"', header match, force_null (key))", "copy (select key from kv) to stdout (format 'binary', encoding utf8)",
		strings.Repeat("select (", 600) + "1" + strings.Repeat(")", 600), "select 1" + strings.Repeat(" union select 1", 1000),
		strings.Repeat("(", 600), "select " + strings.Repeat("not ", 600) + "true", "select " + strings.Repeat("1+", 11000) + "1",
	} {
		f.Add(text)
	}
	s := stillSession(f)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := s.ParseAll(t.Context(), text)
		checkClientError(t, text, err)
		for _, st := range list {
			st.Columns()
			checkClientError(t, text, st.(*statement).err)
		}
		_, err = s.Parse(t.Context(), text, nil)
		checkClientError(t, text, err)
	})
}

func checkClientError(t *testing.T, text string, err error) {
	if err == nil {
		return
	}
	e, ok := errors.AsType[*pgwire.Error](err)
	if !ok || len(e.Code) != 5 || e.Message == "" || e.Code == pgwire.CodeInternalError {
		t.Errorf("%q: not a client error: %#v", text, err)
	} else if e.Position > len([]rune(text))+1 {
		t.Errorf("%q: position %d is outside", text, e.Position)
	}
}

// FuzzValues: decoding never panics, and what it accepts round-trips.
func FuzzValues(f *testing.F) {
	for _, v := range sampleValues() {
		f.Add(uint32(v.typ), false, []byte(textOf(v, time.UTC)))
		f.Add(uint32(v.typ), true, appendBinary(nil, v, nil))
	}
	f.Fuzz(func(t *testing.T, oid uint32, binary bool, b []byte) {
		typ := Type(oid)
		var v Value
		var err error
		if binary {
			v, err = parseBinary(b, typ, nil)
		} else {
			v, err = parseValue(string(b), typ, time.UTC, nil)
		}
		if err != nil {
			return
		}
		again, err := parseBinary(appendBinary(nil, v, nil), v.typ, nil)
		if err != nil || again != v {
			t.Errorf("%s %q: binary reads back as %+v, %v; want %+v", typ, b, again, err, v)
		}
		if text := textOf(v, time.UTC); typ.family() == familyTime || typ == JSONB || typ == Bytea || typ == Time {
			if again, err := parseValue(text, typ, time.UTC, nil); err != nil || again != v {
				t.Errorf("%q: %s reads back as %+v, %v; want %+v", b, text, again, err, v)
			}
		}
	})
}

func FuzzLike(f *testing.F) {
	f.Add("abc", "a%c")
	f.Add("é", "_")
	f.Add("a%", `a\%`)
	f.Fuzz(func(t *testing.T, s, pattern string) {
		ok, err := matchLike(s, pattern, &pacer{ctx: t.Context()})
		if err == nil && ok && !strings.HasPrefix(s, likePrefix(pattern)) {
			t.Errorf("%q matches %q but does not begin with %q", s, pattern, likePrefix(pattern))
		}
	})
}

// A timestamp in binary form is one that PostgreSQL takes, or refused: pgx sends infinity as the largest number.
func TestBinaryTimestampRange(t *testing.T) {
	for _, test := range []struct {
		us int64
		ok bool
	}{
		{minTimestamp, true}, {minTimestamp - 1, false}, {endTimestamp - 1, true}, {endTimestamp, false},
		{math.MaxInt64, true}, {math.MaxInt64 - 1, false}, {math.MinInt64, true}, {math.MinInt64 + 1, false}, {0, true},
	} {
		_, err := parseBinary(binary.BigEndian.AppendUint64(nil, uint64(test.us)), Timestamptz, nil)
		if (err == nil) != test.ok {
			t.Errorf("%d µs: %v", test.us, err)
		}
	}
}
