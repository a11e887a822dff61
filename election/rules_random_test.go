package election

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// texts are rules under which a sealed majority need not meet an acknowledging set.
var texts = []string{
	"", "ANY MAJORITY (*)", "ANY 1 (*)", "FIRST 1 (*)", "FIRST 2 (n3, n2, n4, n5)", "FIRST 1 (n4, n3)",
	"ANY 1 (n2)", "ANY 1 (n3)", "ANY 1 (n4)", "ANY 1 (n5)", "ANY 1 (n3, n4)", "ANY 1 (archive, n3)",
	"ANY 2 (*) ZONES 2", "ANY 2 (n3, n4, n6) ZONES 2", "ANY MAJORITY (*) ZONES 2",
}

// Whatever happens, and whenever Raft's answers come, if they do: no seal that the rules in Raft allow misses
// what was acknowledged; and once everything is well, what is wanted comes true, and commits go on.
func TestKeeperAtRandom(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 20
	}
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			c := newChaos(t, r)
			for range 200 {
				c.step()
				c.check()
			}
			c.heal()
		})
	}
}

// A chaos is a world in which anything may happen next.
type chaos struct {
	*world
	r       *rand.Rand
	end     wal.LSN // of the log
	nodes   int     // the highest number of one
	archive *syncrep.Handle
}

func newChaos(t *testing.T, r *rand.Rand) *chaos {
	w := newWorld(t, 1+2*r.Uint64N(2), texts[r.IntN(len(texts))], 3+r.IntN(3))
	c := &chaos{world: w, r: r, end: 0x100, nodes: len(w.disks)}
	w.raft.answer(c.outcome())
	w.start(time.Duration(r.IntN(2)) * time.Second)
	return c
}

// outcome is one of: Raft works, it has no majority, its answers are lost, or any of these each time.
func (c *chaos) outcome() func(raftlog.Command) (apply, answer bool) {
	mode, r := max(0, c.r.IntN(7)-3), rand.New(rand.NewPCG(c.r.Uint64(), 1)) // the keeper's own, as it asks at any time
	return func(raftlog.Command) (apply, answer bool) {
		m := mode
		if m == 3 {
			m = r.IntN(3)
		}
		return m != 1, m == 0
	}
}

func (c *chaos) any() int { return 2 + c.r.IntN(c.nodes-1) }

func (c *chaos) step() {
	switch n := c.any(); c.r.IntN(25) {
	case 24:
		c.fallBack(raftlog.Fallback{Degrade: c.r.IntN(3) > 0, After: time.Duration(c.r.IntN(5)) * time.Second, Limit: wal.LSN(c.r.IntN(2) * 0x80)})
	case 0, 1, 2:
		c.end += wal.LSN(0x10 * (1 + c.r.IntN(3)))
		c.write(c.end)
	case 3, 4, 5, 6, 7, 8, 9, 10:
		c.stream(n, c.reach(n))
	case 11, 12:
		c.leave(n)
	case 13, 14:
		c.set(texts[c.r.IntN(len(texts))])
	case 15:
		c.change()
	case 16:
		c.raft.answer(c.outcome())
	case 17:
		c.raft.setLag(c.r.IntN(4) == 0)
	case 18:
		if len(c.raft.lost) > 0 {
			c.raft.late(c.r.IntN(len(c.raft.lost)))
		}
	case 19:
		c.reportArchive()
	case 20:
		c.pass(time.Duration(c.r.IntN(10000)) * time.Millisecond)
	default:
		c.pass(time.Duration(c.r.IntN(800)) * time.Millisecond)
	}
}

// fallBack sets synchronous_mode.
func (w *world) fallBack(f raftlog.Fallback) {
	w.fall = f
	w.keeper.Kick()
	synctest.Wait()
}

// reach is how far a disk is by now: a little further.
func (c *chaos) reach(n int) wal.LSN {
	from := c.disks[id(n)].flush
	if c.r.IntN(5) == 0 || from == 0 && c.r.IntN(2) == 0 {
		return c.end
	}
	return min(c.end, from+wal.LSN(c.r.IntN(0x20)))
}

// change is one of the members: one more, one fewer, or one in the place of another.
func (c *chaos) change() {
	members := slices.DeleteFunc(slices.Clone(c.raft.now().Members), func(m raftlog.Member) bool {
		return m.Leaving || m.ID == id(1)
	})
	grow, i := len(members) < 6 && c.nodes < 9, 0
	name := fmt.Sprintf("n%d", c.nodes+1)
	if len(members) > 0 {
		i = c.r.IntN(len(members))
	}
	switch c.r.IntN(4) {
	case 3:
		if len(members) > 0 {
			c.move(int(members[i].ID.Node), zone(1+c.r.IntN(3)))
		}
		return
	case 0:
		if len(members) > 0 {
			c.remove(int(members[i].ID.Node))
		}
		return
	case 1:
		if len(members) > 0 && grow {
			name = members[i].Name
			c.remove(int(members[i].ID.Node))
		}
	}
	if grow {
		c.nodes++
		c.join(c.nodes, name)
	}
}

func (c *chaos) reportArchive() {
	if c.archive == nil {
		c.archive = c.group.Join("archive", syncrep.ID{})
		c.archive.SetState(syncrep.Streaming)
	}
	c.archive.Report(c.end, c.end, c.end)
	synctest.Wait()
}

// heal makes everything well, and waits for what is wanted to come true.
func (c *chaos) heal() {
	c.raft.mu.Lock()
	c.raft.outcome, c.raft.lost = nil, nil
	c.raft.mu.Unlock()
	c.raft.setLag(false)
	for _, m := range c.raft.now().Members {
		if m.ID != id(1) && (!m.Leaving || c.disks[m.ID].handle != nil) {
			c.stream(int(m.ID.Node), c.end)
		}
	}
	c.reportArchive()
	c.set("ANY MAJORITY (*)")
	c.write(c.end)
	c.pass(2 * backOffMax)
	c.check()
	c.wantHorizon(c.end)
	s := c.raft.now()
	if s.Phase != raftlog.Steady || s.Joint != nil || s.Rule.Text != c.text || s.Rule.K != len(s.Members)/2 {
		c.t.Errorf("after all is well: %s %s of %d members", s.Phase, describe(s), len(s.Members))
	}
}
