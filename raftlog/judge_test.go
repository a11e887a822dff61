package raftlog

import (
	"strings"
	"testing"
)

// Five members in the zones a, a, b, b, c; A is the primary.
func TestJudge(t *testing.T) {
	s := newSearch(5, 1, mutant{})
	s.zones = "aabbc"
	st := s.apply(&State{}, &Init{Member: Member{Name: "A", ID: diskID(0), RaftID: "A"}, Timeline: 1})
	st.Members = s.founded(st.Rule.Resolved).Members
	for text, want := range map[string]string{
		"":                           "",
		"ANY MAJORITY (*)":           "",
		"ANY 2 (*)":                  "",
		"ANY 1 (B, C)":               "nobody could take over if the primary and B are lost: without the primary 2 of the 2 listed must answer",
		"ANY 1 (B)":                  "nobody could take over if the primary and B are lost: without the primary 1 of the 1",
		"FIRST 2 (B, C, D)":          "",
		"ANY 1 (*)":                  "nobody could take over if the primary and B are lost: without the primary 4 of the 4 listed must answer",
		"ANY 3 (*) ZONES 3":          "",
		"ANY 4 (*) ZONES 4":          "fewer than 4 zones",
		"ANY 5 (*)":                  "5 must acknowledge and 4 match",
		"FIRST 1 (vault)":            "receivers alone may have a commit",
		"FIRST 1 (Archive)":          `"Archive" matches no member`,
		"ANY 3 (B, C)":               "refused: 3 standbys are to acknowledge, and 2 are listed",
		"ANY 1 (B, b)":               `refused: "b" is listed twice`,
		"FIRST 2 (*) ZONES 2":        `refused: invalid value`,
		"ANY 2 (B, C, D, E) ZONES 2": "",
	} {
		warnings, err := Judge(st, text, []string{"VAULT"})
		got := strings.Join(warnings, "; ")
		if err != nil {
			got = "refused: " + err.Error()
		}
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
