package sql

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/longship-db/longship/pgwire"
)

// A jsonb is written as PostgreSQL writes it.
func TestJSONB(t *testing.T) {
	for text, want := range map[string]string{
		` { "bb" : 1, "a":[ ] , "c":{}, "a":[true ,false,null] } `: `{"a": [true, false, null], "c": {}, "bb": 1}`,
		`[{"b":{"d":1,"c":[{"f":1,"e":2}]},"a":2}, {"z":1,"y":2}]`: "" +
			`[{"a": 2, "b": {"c": [{"e": 2, "f": 1}], "d": 1}}, {"y": 2, "z": 1}]`,
		`{"a":{"x":1,"w":2},"a":{"v":1}}`:               `{"a": {"v": 1}}`,
		`"q\"\\\/\b\u00e9\u0001,:{}[]"`:                 `"q\"\\/\bé\u0001,:{}[]"`,
		`{"\u0062":1,"a\"":2}`:                          `{"b": 1, "a\"": 2}`,
		`[-0,0.50,-1e2,1E-3,12345678901234567890,-0.0]`: `[0, 0.50, -100, 0.001, 12345678901234567890, 0.0]`,
		"\t1": "1", `""`: `""`, `{"":""}`: `{"": ""}`,
	} {
		if v, err := parseValue(text, JSONB, nil, nil); err != nil || v.s != want {
			t.Errorf("%s: %s, %v; want %s", text, v.s, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"a":}`: "22P02", ``: "22P02", `"\u0000"`: "22P05", `{"\u0000":1}`: "22P05", `1e9999`: "22003", `1 2`: "22P02",
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000): "22P02",
		"[" + strings.Repeat("1e999,", 70_000) + "1]":             pgwire.CodeProgramLimitExceeded,
	} {
		if _, err := parseValue(text, JSONB, nil, nil); code(err) != want {
			t.Errorf("%.40s: %v, want %s", text, err, want)
		}
	}
}

// However deep its objects, a jsonb takes time in proportion to its text.
func TestDeepJSONB(t *testing.T) {
	const deep = 5000
	text := strings.Repeat(`{"b":`, deep) + `"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat(`,"a":1}`, deep)
	v, err := parseValue(text, JSONB, nil, nil)
	if err != nil || !strings.HasPrefix(v.s, strings.Repeat(`{"a": 1, "b": `, deep)+`"xxx`) {
		t.Errorf("%.40s…, %v", v.s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, _ := newHolder(t, newMemory(), 1<<30)
	s.pace = pacer{ctx: ctx}
	cast := &castExpr{&constExpr{Text, TextValue(text)}, JSONB}
	if _, err := cast.eval(&env{ctx: ctx, session: s}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its statement was cancelled: %v", err)
	}
}

// What is counted for a jsonb while it is read is about what that takes.
func TestJSONSize(t *testing.T) {
	for _, text := range []string{
		"[" + strings.Repeat(`{"a":1,"b":2},`, 100_000) + "1]",
		`{"k":0` + strings.Repeat(`,"k":1`, 200_000) + "}",
		`{"k":0` + strings.Repeat(`,"k":{"a":{}}`, 100_000) + "}",
	} {
		w := &jsonWriter{text: text}
		if err := w.order(); err != nil {
			t.Fatal(err)
		}
		taken, counted := 16*cap(w.objects)+24*(cap(w.members)+cap(w.open)), jsonSize(text)
		if taken > counted || counted > 3*taken {
			t.Errorf("%.30s: %d bytes are taken, %d are counted", text, taken, counted)
		}
	}
}

// A parameter is counted like a value in the text of the statement.
func TestParametersHoldMemory(t *testing.T) {
	jsonb, array := "["+strings.Repeat(`{"a":1},`, 50_000)+"1]", "{"+strings.Repeat("1,", 50_000)+"1}"
	for text, param := range map[string]string{"select $1::jsonb is null": jsonb, "select $1::int[] is null": array} {
		s, c := newHolder(t, newMemory(), 2<<20)
		st, err := s.Parse(t.Context(), text, nil)
		if err != nil {
			t.Fatal(err)
		}
		args := pgwire.Args{Values: [][]byte{[]byte(param)}}
		if err := s.Bind(st, args); err != nil || c.held != 0 { // which leaves what is large to Execute
			t.Errorf("%s: Bind() = %v, and %d bytes are held", text, err, c.held)
		}
		if _, err := s.Execute(t.Context(), st, args, &rowList{}, true); code(err) != pgwire.CodeOutOfMemory || c.held != 0 {
			t.Errorf("%s: Execute() = %v, and %d bytes are held; want %s", text, err, c.held, pgwire.CodeOutOfMemory)
		}
	}
}
