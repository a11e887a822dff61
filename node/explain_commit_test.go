package node

import (
	"hash/fnv"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Each line of an explain command is a fact; the last ones of a kind count:
//
//	commit LSN
//	primary n1 inserted flushed horizon      the group has flushed and the rules only; the horizon follows
//	standby n2 flushed applied horizon [primary address]
//	witness n2 flushed horizon [primary address]
//	rule text | K of names [| K of names]    two while it changes; a:r is a receiver, a:w a witness, a@east a member there
//	stream name state write flush apply ms   ms: of silence
//	hold LSN, hold forever
//	phase steady|opening|sealing
//	fork timeline LSN                        timeline ended at LSN, and its child goes on
//	oldest LSN
//	shut
//	lapsed                                   the lease
func TestExplainCommit(t *testing.T) {
	datadriven.RunTest(t, "testdata/explain_commit", func(t *testing.T, d *datadriven.TestData) string {
		s := &factsScript{t: t, d: d, group: syncrep.NewGroup(), c: commitFacts{
			history: wal.History{Timeline: 1}, silence: map[syncrep.Listed]time.Duration{}, lease: time.Hour,
			state: &raftlog.State{Epoch: 3, Target: 4, Phase: raftlog.Steady, History: []raftlog.Reign{
				{Epoch: 1, Timeline: 1, Primary: "n1"}, {Epoch: 2, Timeline: 2, Primary: "n2"}, {Epoch: 3, Timeline: 3, Primary: "n1"},
			}},
		}}
		for line := range strings.Lines(d.Input) {
			s.fact(strings.Fields(line))
		}
		s.c.group = s.group.Snapshot()
		if s.c.primary {
			s.c.horizon = s.c.group.Horizon
		}
		s.c.rules = rulesInForce(s.c.state, s.c.group)
		return strings.Join(s.c.lines(), "\n") + "\n"
	})
}

type factsScript struct {
	t     *testing.T
	d     *datadriven.TestData
	c     commitFacts
	group *syncrep.Group
}

func (s *factsScript) fact(f []string) {
	switch f[0] {
	case "commit":
		s.c.lsn = s.lsn(f[1])
	case "primary":
		s.c.primary, s.c.node, s.c.inserted = true, f[1], s.lsn(f[2])
		s.group.LocalFlush(s.lsn(f[3]))
	case "standby":
		s.c.node, s.c.flushed, s.c.applied, s.c.horizon = f[1], s.lsn(f[2]), s.lsn(f[3]), s.lsn(f[4])
		if len(f) > 5 {
			s.c.state.Primary.Name, s.c.primaryAddress = f[5], f[6]
		}
	case "witness":
		s.c.witness, s.c.node, s.c.flushed, s.c.applied, s.c.horizon = true, f[1], s.lsn(f[2]), s.lsn(f[3]), s.lsn(f[3])
		if len(f) > 4 {
			s.c.state.Primary.Name, s.c.primaryAddress = f[4], f[5]
		}
	case "rule":
		s.rule(strings.Split(strings.Join(f[1:], " "), "|"))
	case "stream":
		name, id := entry(f[1])
		h := s.group.Join(name, id)
		for i := range syncrep.Stopping + 1 {
			if i.String() == f[2] {
				h.SetState(i)
			}
		}
		h.Report(s.lsn(f[3]), s.lsn(f[4]), s.lsn(f[5]))
		ms, err := strconv.Atoi(f[6])
		if err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		s.c.silence[listedAs(name, id)] = time.Duration(ms) * time.Millisecond
	case "hold":
		if f[1] == "forever" {
			s.group.Hold(syncrep.Unbounded)
		} else {
			s.group.Hold(s.lsn(f[1]))
		}
	case "phase":
		s.c.state.Phase = raftlog.Phase(f[1])
		if s.c.state.Phase == raftlog.Opening {
			s.c.state.Opening = &s.c.state.Rule
		}
	case "fork":
		tli, _ := strconv.Atoi(f[1])
		s.c.history = s.c.history.Child(wal.TimelineID(tli+1), s.lsn(f[2]), "")
	case "oldest":
		s.c.oldest = s.lsn(f[1])
	case "shut":
		s.c.shut = true
	case "lapsed":
		s.c.lease = -time.Second
	default:
		s.d.Fatalf(s.t, "unknown fact %q", f[0])
	}
}

func (s *factsScript) lsn(text string) wal.LSN {
	lsn, err := wal.ParseLSN(text)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return lsn
}

func (s *factsScript) rule(parts []string) {
	text := strings.Trim(parts[0], " -")
	view, err := syncrep.ParseRule(text)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	var rules []syncrep.Resolved
	for _, part := range parts[1:] {
		f := strings.Fields(part)
		k, err := strconv.Atoi(f[0])
		if err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		r := syncrep.Resolved{K: k, Zones: view.Zones}
		for _, name := range f[2:] {
			name, zone, _ := strings.Cut(name, "@")
			name, witness := strings.CutSuffix(name, ":w")
			name, id := entry(name)
			r.Listed = append(r.Listed, syncrep.Listed{Name: name, ID: id, Zone: zone, Witness: witness})
		}
		rules = append(rules, r)
	}
	s.c.state.Rule = raftlog.Rule{Text: text}
	if len(rules) == 2 {
		s.c.state.Joint = &raftlog.Rule{Text: "the next"}
	}
	s.group.SetRules(view, rules...)
}

// entry is a name in a rule: of a member, or with :r of a receiver.
func entry(text string) (name string, id syncrep.ID) {
	name, receiver := strings.CutSuffix(text, ":r")
	if receiver {
		return name, syncrep.ID{}
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return name, syncrep.ID{Node: h.Sum64(), Incarnation: 1}
}
