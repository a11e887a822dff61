package election

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// Quotes and everything else in a request survive the way to the other member.
func TestCommandRoundTrip(t *testing.T) {
	id := syncrep.ID{Node: 1, Incarnation: 1 << 63}
	for _, test := range []struct {
		verb    Verb
		request any
	}{
		{VerbProbe, &ProbeRequest{}},
		{VerbSeal, &SealRequest{Epoch: 7}},
		{VerbPropose, &ProposeRequest{Command: []byte{1, 0, '\'', 0xff}}},
		{VerbJoin, &JoinRequest{Member: raftlog.Member{Name: "o'neill''", ID: id, Address: "h:1"}, RunID: 1 << 63}},
		{VerbHold, &HoldRequest{Epoch: 3, Target: id, Limit: time.Second}},
		{VerbFetch, &FetchRequest{Epoch: 4, Source: id, Address: "'", Position: raftlog.Position{Epoch: 2, LSN: 1 << 40}}},
		{VerbSwitchover, &SwitchoverRequest{To: "n2"}},
		{VerbFailover, &FailoverRequest{AcceptLoss: true}},
	} {
		text, err := Format(test.verb, test.request)
		if err != nil {
			t.Fatal(err)
		}
		v, body, err := Parse(text)
		if err != nil || v != test.verb {
			t.Fatalf("Parse(%s) = %s, %v", text, v, err)
		}
		got := reflect.New(reflect.TypeOf(test.request).Elem())
		if err := decode(v, body, got.Interface()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Interface(), test.request) {
			t.Errorf("%s: got %+v, want %+v", test.verb, got.Interface(), test.request)
		}
	}
}

// What is no command is refused with a reason a member's author can act on.
func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ text, code, detail string }{
		{"", pgwire.CodeSyntaxError, "want LONGSHIP_"},
		{"SHOW x", pgwire.CodeSyntaxError, "want LONGSHIP_"},
		{"LONGSHIP_", pgwire.CodeSyntaxError, "unknown verb"},
		{"LONGSHIP_DANCE '{}'", pgwire.CodeSyntaxError, "unknown verb"},
		{"LONGSHIP_PROBE", pgwire.CodeSyntaxError, "want a string"},
		{"LONGSHIP_PROBE {}", pgwire.CodeSyntaxError, "want a string"},
		{"LONGSHIP_PROBE '", pgwire.CodeSyntaxError, "want a string"},
		{"LONGSHIP_PROBE '{}' '{}'", pgwire.CodeSyntaxError, "something follows"},
		{"LONGSHIP_PROBE '{}''", pgwire.CodeSyntaxError, "something follows"},
		{"LONGSHIP_PROBE '" + strings.Repeat("x", MaxText) + "'", pgwire.CodeProgramLimitExceeded, ""},
	} {
		_, _, err := Parse(test.text)
		e, ok := errors.AsType[*pgwire.Error](err)
		if !ok || e.Code != test.code || !strings.Contains(e.Detail, test.detail) {
			t.Errorf("Parse(%.40q) = %v, want %s %q", test.text, err, test.code, test.detail)
		}
	}
	if v, body, err := Parse(" longship_probe  '{}' "); v != VerbProbe || string(body) != "{}" || err != nil {
		t.Errorf("Parse = %s %s, %v", v, body, err)
	}
}

// A command is at most MaxText long: just that long is fine, one byte more is not sent.
func TestFormatLimit(t *testing.T) {
	empty, _ := Format(VerbRemove, RemoveRequest{})
	fits := strings.Repeat("'", (MaxText-len(empty))/2) // each counts twice
	text, err := Format(VerbRemove, RemoveRequest{Name: fits})
	if err != nil || len(text) > MaxText || len(text) < MaxText-1 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	if _, _, err := Parse(text); err != nil {
		t.Error(err)
	}
	if _, err := Format(VerbRemove, RemoveRequest{Name: fits + "''"}); err == nil {
		t.Error("too long, and not refused")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"LONGSHIP_PROBE '{}'", `LONGSHIP_SEAL '{"epoch":7}'`, `longship_remove '{"name":"o''neill"}'`,
		"LONGSHIP_PROBE '{}", "LONGSHIP_X ''", `LONGSHIP_JOIN '{"member":{"id":"0000000000000001/000000000000000a"},"run_id":"9"}'`,
		`LONGSHIP_HOLD '{"epoch":1,"target":"1/2","limit":5}'`, `LONGSHIP_PROPOSE '{"command":"AQ=="}'`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, body, err := Parse(text)
		if err != nil {
			if _, ok := errors.AsType[*pgwire.Error](err); !ok {
				t.Fatalf("Parse(%q): %v carries no SQLSTATE", text, err)
			}
			return
		}
		if !IsCommand(text) || !v.known() || len(body) > len(text) {
			t.Fatalf("Parse(%q) = %s %q", text, v, body)
		}
		if !json.Valid(body) {
			return
		}
		again, err := Format(v, json.RawMessage(body))
		if err != nil {
			return // JSON grows when it is made safe for HTML
		}
		v2, body2, err := Parse(again)
		var a, b any
		if err != nil || v2 != v || json.Unmarshal(body, &a) != nil || json.Unmarshal(body2, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}
