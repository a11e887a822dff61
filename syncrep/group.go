package syncrep

import (
	"sync"
	"sync/atomic"

	"github.com/longship-db/longship/wal"
)

// A Group is the standbys of one primary in one epoch, and the commits that wait for them. Reports
// come in from the streams and from the primary's own flusher; each may release commits and move the
// horizon. All methods may be called by any goroutine; none but Wait blocks.
//
// What a Group knows it was told in this epoch: a primary makes a new one each time it takes office,
// so an acknowledgement given to an older epoch never counts (invariant I1).
type Group struct {
	horizon wal.Position

	// takeover asks the next report to be evaluated even if it changes nothing: a stream has
	// stopped counting, and another one may take its place in the rule.
	takeover atomic.Bool

	mu      sync.Mutex // guards the rest, and the fields of each Handle that say so
	ruled   bool       // SetRule was called: until then nothing is released
	rule    Rule
	members int
	hold    wal.LSN   // nothing is released before the horizon may reach it; 0 = no hold
	flushed wal.LSN   // by the primary itself
	streams []*Handle // by array slot; nil = free
	met     Released  // by the streams, under the rule
	scratch evaluation

	released [numLevels]wal.LSN // forward only; Off is unused
	waiting  [numLevels]queue   // every waiter's LSN is past released of its level
	waiters  sync.Pool          // of *waiter; its own, so that channels stay in one synctest bubble
}

// NewGroup returns a group without standbys. It releases nothing before it is told its rule: a
// primary must not acknowledge commits during start-up under a rule it has not read yet.
func NewGroup() *Group {
	g := &Group{}
	g.waiters.New = func() any { return &waiter{done: make(chan struct{}, 1)} }
	return g
}

// Horizon is the highest LSN that is durable under the rule: the primary has flushed it, and so have
// as many standbys as the rule asks for; under an empty rule, the primary alone. It moves before the
// commits it covers are released, so who hears of a commit from its owner also sees it.
//
// A primary that takes office with a horizon it learnt before advances the position to it (I7).
func (g *Group) Horizon() *wal.Position { return &g.horizon }

// SetRule makes rule the one that binds, in a cluster of so many members, the primary included. The
// positions reported so far are judged by it at once: waiters it satisfies are released, the others
// stay. Nothing that was released is taken back.
func (g *Group) SetRule(rule Rule, members int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ruled, g.rule, g.members = true, rule, members
	for _, h := range g.streams {
		if h != nil {
			h.priority = rule.priority(h.name, h.member)
		}
	}
	g.evaluate()
	g.release()
}

// Hold stops everything: no commit is released, at any level, and the horizon does not move, until
// the horizon may move to lsn or further. A primary in its first epoch has no need of it; one that was
// promoted holds at the end of its first record (I1). Each call replaces the hold before, and
// Hold(Unbounded) lets nothing pass any more.
func (g *Group) Hold(lsn wal.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = lsn
	g.release()
}

// LocalFlush says that the primary has flushed its log up to lsn.
func (g *Group) LocalFlush(lsn wal.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if lsn > g.flushed {
		g.flushed = lsn
		g.release()
	}
}

// A Stream is one stream in a Snapshot.
type Stream struct {
	Handle  *Handle
	Standby Standby
	Status  Status
}

// A Snapshot is a group at one moment, for views.
type Snapshot struct {
	Rule       Rule
	Members    int
	LocalFlush wal.LSN
	Horizon    wal.LSN
	Hold       wal.LSN  // 0 = none
	Released   Released // by the streams, under the rule
	Streams    []Stream // by array slot
}

// Snapshot returns the group as it is now.
func (g *Group) Snapshot() Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Snapshot{
		Rule: g.rule, Members: g.members, LocalFlush: g.flushed,
		Horizon: g.horizon.Load(), Hold: g.hold, Released: g.met,
	}
	var standbys []Standby
	for _, h := range g.streams {
		if h != nil {
			standbys = append(standbys, h.standby())
			s.Streams = append(s.Streams, Stream{Handle: h})
		}
	}
	statuses, _ := Evaluate(g.rule, g.members, standbys)
	for i := range s.Streams {
		s.Streams[i].Standby, s.Streams[i].Status = standbys[i], statuses[i]
	}
	return s
}

// evaluate works out what the streams have met under the rule. The caller holds mu, as for all that
// follows.
func (g *Group) evaluate() {
	g.takeover.Store(false)
	g.scratch.begin(g.rule, g.members)
	for slot, h := range g.streams {
		if h != nil && h.counts() {
			g.scratch.add(candidate{slot: slot, priority: h.priority, at: h.positions()})
		}
	}
	g.met = g.scratch.end()
}

// shrink is called when a stream stops counting. What only it had is not met any more; and nothing is
// met because of it, though FIRST may now look at a standby that is further: that one takes over with
// its next report, as in PostgreSQL.
func (g *Group) shrink() {
	before := g.met
	g.evaluate()
	g.met = Released{
		Write: min(before.Write, g.met.Write),
		Flush: min(before.Flush, g.met.Flush),
		Apply: min(before.Apply, g.met.Apply),
		OK:    before.OK && g.met.OK,
	}
	g.takeover.Store(true)
}

// release lets go whoever waits for no more than what is reached now. It is cheap when nothing is.
func (g *Group) release() {
	if !g.ruled {
		return
	}
	reached := g.reached()
	if reached[On] < g.hold {
		return
	}
	g.hold = 0
	g.horizon.Advance(reached[On])
	for level := Local; level < numLevels; level++ {
		if reached[level] > g.released[level] {
			g.released[level] = reached[level]
			g.waiting[level].release(reached[level])
		}
	}
}

// reached is the position that each level may be released at.
func (g *Group) reached() (at [numLevels]wal.LSN) {
	at[Local] = g.flushed
	at[On] = min(g.flushed, g.met.Flush)
	at[RemoteWrite] = max(at[On], min(g.flushed, g.met.Write)) // what is flushed was written
	at[RemoteApply] = min(at[On], g.met.Apply)
	return at
}
