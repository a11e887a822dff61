package election

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A new witness counts once all that count, keep a table and stay stream: it lacks what was written
// before it came, so that who is away could not be brought forward from it. n1 is the primary.
func TestWitnessCounts(t *testing.T) {
	for _, c := range []struct {
		name    string
		members string // name, or name/2 for another disk of it, then marks: + counted, - leaving, w witness
		streams string
		counts  string
	}{
		{"with who keeps the table", "n1+ n2+ w:w", "n2 w", "n1 n2 w"},
		{"not while that one is away", "n1+ n2+ w:w", "w", "n1 n2"},
		{"not before it streams", "n1+ n2+ w:w", "n2", "n1 n2"},
		{"not while one of several is away", "n1+ n2+ n3+ w:w", "n2 w", "n1 n2 n3"},
		{"once, and for good", "n1+ n2+ w+:w", "", "n1 n2 w"},
		{"a new node does not count before it streams either", "n1+ n2 w:w", "w", "n1 w"},
		{"who leaves is not waited for", "n1+ n2+- w:w", "w", "n1 w"},
		{"nor another witness", "n1+ x+:w w:w", "w", "n1 x w"},
		{"in place of a dead one", "n1+ n2+ w+-:w w/2:w", "n2 w/2", "n1 n2 w/2"},
		{"in place of a dead one, while a node is away", "n1+ n2+ w+-:w w/2:w", "w/2", "n1 n2 w"},
		{"in place of a dead one, and there is nobody else", "n1+ w+-:w w/2:w", "w/2", "n1 w/2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := new(raftlog.State)
			for i, text := range strings.Fields(c.members) {
				text, witness := strings.CutSuffix(text, ":w")
				disk := strings.TrimRight(text, "+-")
				name, _, other := strings.Cut(disk, "/")
				// The zone tells two disks of one name apart.
				m := raftlog.Member{Name: name, ID: id(i + 1), Zone: disk, Witness: witness}
				if other {
					m.ID.Incarnation = 2
				}
				m.Counted, m.Leaving = strings.Contains(text, "+"), strings.Contains(text, "-")
				s.Members = append(s.Members, m)
			}
			s.Primary.ID = id(1)
			streams := func(m raftlog.Member) bool { return slices.Contains(strings.Fields(c.streams), m.Zone) }
			var counted []string
			for _, m := range s.Members {
				if m.ID == s.Primary.ID || counts(s, m, streams) {
					counted = append(counted, m.Zone)
				}
			}
			if got := strings.Join(counted, " "); got != c.counts {
				t.Errorf("%s count, want %s", got, c.counts)
			}
		})
	}
}

// The rule follows: two nodes, of which one is away, do not go on with a witness that has just come.
func TestKeeperNewWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "ANY MAJORITY (*)", 2)
		w.start(0)
		w.stream(2, 0x50)
		w.write(0x50)
		w.pass(time.Second)
		w.leave(2)
		w.write(0x60)
		w.join(3, "w")
		w.raft.edit(func(s *raftlog.State) { s.Members[2].Witness = true })
		w.stream(3, 0x60)
		w.pass(time.Minute)
		w.wantRule("1 of [2]")
		w.wantHorizon(0x50)
		w.stream(2, 0x60)
		w.pass(time.Minute)
		w.wantRule("1 of [2 3]")
		w.leave(2)
		w.write(0x70)
		w.flush(3, 0x70)
		w.wantHorizon(0x70)
		if l := w.raft.now().Rule.Listed; !slices.ContainsFunc(l, func(l syncrep.Listed) bool { return l.ID == id(3) && l.Witness }) {
			t.Errorf("the rule does not say who the witness is: %+v", l)
		}
		w.check()
	})
}

// A witness that comes while a standby lags, under a rule that asks for nothing, has the log from a point on that
// the standby has not reached: what only the witness acknowledges later could never be brought to it.
func TestKeeperNewWitnessWaitsForTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "", 2)
		w.start(0)
		w.stream(2, 0x50)
		w.write(0x90)
		w.join(3, "w")
		w.raft.edit(func(s *raftlog.State) { s.Members[2].Witness = true })
		w.stream(3, 0x90)
		w.pass(time.Minute)
		w.write(0xa0)
		w.flush(3, 0xa0)
		w.flush(2, 0x8f)
		w.pass(time.Minute)
		if w.raft.now().Members[2].Counted {
			t.Error("the witness counts, and has not what n2 needs")
		}
		w.flush(2, 0x90) // not all there is by now
		w.pass(time.Minute)
		if !w.raft.now().Members[2].Counted {
			t.Error("the witness does not count")
		}
		w.set("ANY 1 (*)")
		w.pass(time.Minute)
		w.wantRule("1 of [2 3]")
	})
}
