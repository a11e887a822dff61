package syncrep

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// Each script line between bars is one setting: blanks count.
func TestParseRule(t *testing.T) {
	datadriven.RunTest(t, "testdata/parse", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			rule, err := ParseRule(strings.Trim(line, "|\n"))
			fmt.Fprintln(&out, describe(rule, err))
		}
		return out.String()
	})
}

func describe(rule Rule, err error) string {
	if e, ok := errors.AsType[*SyntaxError](err); ok {
		return e.Detail
	}
	switch {
	case err != nil:
		return err.Error()
	case rule.Empty():
		return "empty"
	default:
		return rule.String()
	}
}

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]Level{
		"off": Off, "FALSE": Off, "no": Off, "0": Off, "local": Local, "remote_write": RemoteWrite,
		"On": On, "true": On, "yes": On, "1": On, "remote_apply": RemoteApply,
	} {
		if got, err := ParseLevel(text); got != want || err != nil {
			t.Errorf("ParseLevel(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "remote", "on ", "2"} {
		if got, err := ParseLevel(text); err == nil {
			t.Errorf("ParseLevel(%q) = %v, want an error", text, got)
		}
	}
	for l := Off; l < numLevels; l++ {
		if got, err := ParseLevel(l.String()); got != l || err != nil {
			t.Errorf("ParseLevel(%q) = %v, %v", l.String(), got, err)
		}
	}
}

// Whatever is accepted is written in a form that means the same, and asks for someone.
func FuzzParseRule(f *testing.F) {
	for _, text := range []string{
		"", "s1", "s1, s2", "*", `"*"`, "2,3", "2(3,4)", "FIRST 2 (a, b)", `any 1 ("any", "first", "")`,
		"ANY MAJORITY (*)", "any majority (a)", `ANY "MAJORITY" (*)`, "ANY 99999999999 (a)", "0 (a)", `"a""b"`,
		`"a`, "s1 s2", "café", "a$1", "$a", "ANY 1 ()", " ", "\x00",
		"ANY 3 (*) ZONES 2", "any majority(*)zones 3", "ANY 2 (zones) ZONES 0", "FIRST 1 (*) ZONES 1", "zones, zones",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			if !reflect.DeepEqual(rule, Rule{}) {
				t.Fatalf("ParseRule(%q) = %v with error %v", text, rule, err)
			}
			return
		}
		if rule.Empty() != (text == "") {
			t.Fatalf("ParseRule(%q) is empty", text)
		}
		if text != "" && rule.Num < 1 && rule.Method != Majority {
			t.Fatalf("ParseRule(%q) waits for nobody", text)
		}
		again, err := ParseRule(rule.String())
		if err != nil || !reflect.DeepEqual(again, rule) {
			t.Fatalf("ParseRule(%q).String() = %q, read back as %v, %v", text, rule, again, err)
		}
	})
}
