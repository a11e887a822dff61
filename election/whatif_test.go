package election

import (
	"strings"
	"testing"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// What the loss of n2 leads to depends on what the primary says of itself: which of the receivers that the
// rule lists stream, and what it does when the rule cannot be met. Nobody else is believed.
func TestWhatIfByWhatThePrimarySays(t *testing.T) {
	state := &raftlog.State{SystemID: 1, Phase: raftlog.Steady, Epoch: 4, SteadyEpoch: 4, SteadyPrimary: id(1), Primary: raftlog.Office{ID: id(1), Name: "n1"}}
	for i, name := range []string{"n1", "n2", "n3"} {
		state.Members = append(state.Members, raftlog.Member{Name: name, ID: id(i + 1), Priority: 1, Voter: true, Counted: true})
	}
	health := func(n int) *Health {
		return &Health{ID: id(n), Position: raftlog.Position{Epoch: 4, LSN: 0x4000}, Epoch: 4, StreamEpoch: 4, InOffice: n == 1}
	}
	fallback := &raftlog.Fallback{Degrade: true, After: 5 * time.Second, Limit: wal.LSN(64 << 20)}
	listed := []syncrep.Listed{{ID: id(2), Name: "n2"}, {Name: "vault"}}
	for name, c := range map[string]struct {
		k      int
		says   func(primary, standby *Health)
		then   string
		writes bool
	}{
		"a receiver streams":              {1, func(p, _ *Health) { p.Receivers = []string{"Vault"} }, "writes go on", true},
		"none does":                       {1, func(p, _ *Health) {}, "writes wait: the rule is not met", false},
		"a standby has one":               {1, func(_, s *Health) { s.Receivers = []string{"vault"} }, "writes wait", false},
		"the primary does without":        {2, func(p, _ *Health) { p.Fallback = fallback }, "writes wait for 5s, then go on without the rule, up to 64 MB", true},
		"a standby says it would":         {2, func(_, s *Health) { s.Fallback = fallback }, "writes wait: the rule is not met", false},
		"a standby says it is in office":  {2, func(_, s *Health) { s.Fallback, s.InOffice = fallback, true }, "writes wait: the rule is not met", false},
		"one that was it before would":    {2, func(p, _ *Health) { p.Fallback, p.Epoch = fallback, 3 }, "writes wait: the rule is not met", false},
		"one out of office has receivers": {1, func(p, _ *Health) { p.Receivers, p.InOffice = []string{"vault"}, false }, "writes wait", false},
	} {
		state.Rule.Resolved = syncrep.Resolved{K: c.k, Listed: listed}
		state.Rule.Text = map[int]string{1: "ANY 1 (n2, vault)", 2: "ANY 2 (n2, vault)"}[c.k]
		all := []Seen{{Name: "n1", Health: health(1)}, {Name: "n2", Health: health(2)}, {Name: "n3", Health: health(3)}}
		c.says(all[0].Health, all[1].Health)
		got := WhatIf(state, all)[1]
		if got.Lose[0] != "n2" || !strings.Contains(got.Then, c.then) || got.Writes != c.writes {
			t.Errorf("%s: %+v, want %q, %v", name, got, c.then, c.writes)
		}
	}
}
