package syncrep

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/longship-db/longship/wal"
)

// A Group is the standbys of one primary in one epoch, and the commits that wait for them. Reports
// come in from the streams and from the primary's own flusher; each may release commits and move the
// horizon. All methods may be called by any goroutine; none but Wait and WaitLease blocks.
//
// What a Group knows it was told in this epoch: a primary makes a new one each time it takes office,
// so nothing that was acknowledged or promised to an older epoch ever counts (invariant I1).
type Group struct {
	// OnRelease, if it is set before the first use, is called when commits have been let go. The group is
	// locked meanwhile: only Waiting may be asked.
	OnRelease func()

	horizon wal.Position
	lease   lease
	debt    debt
	bare    atomic.Uint64 // LSN up to which the log was released with nobody having acknowledged it

	mu      sync.Mutex // guards the rest, what lease says, and the fields of each Handle that say so
	view    Rule
	rules   []Resolved // all of which bind; none until SetRules: nothing is released
	held    *wal.Position
	hold    wal.LSN // nothing is released before the horizon may reach it; 0 = no hold
	flushed wal.LSN // by the primary itself
	streams []*Handle
	met     Released // by the streams, under the rules
	scratch evaluation

	released [numLevels]wal.LSN // forward only; Off is unused
	waiting  [numLevels]queue   // every waiter's LSN is past released of its level
	waiters  sync.Pool          // of *waiter; its own, so that channels stay in one synctest bubble
}

// NewGroup returns a group without standbys. It releases nothing before it is told its rules: a
// primary must not acknowledge commits during start-up under rules it has not read yet.
func NewGroup() *Group {
	g := &Group{}
	g.lease.begin()
	g.waiters.New = func() any { return &waiter{done: make(chan struct{}, 1)} }
	return g
}

// Horizon is the highest LSN that is durable under the rules: the primary has flushed it, and so have
// as many of the listed as each rule asks for; under an empty rule, the primary alone. It moves before
// the commits it covers are released, so who hears of a commit from its owner also sees it.
//
// A primary that takes office with a horizon it learnt before advances the position to it (I7).
func (g *Group) Horizon() *wal.Position { return &g.horizon }

// SetRules makes rules the ones that bind, all of them at once: two while a rule changes (I2). Without
// any, nothing is released. The positions reported so far are judged by them at once: waiters they
// satisfy are released, the others stay; nothing that was released is taken back. view is the text
// that views show.
//
// It returns how far the log has been held under exactly these rules since, own flush included,
// whatever Hold says: by it a primary knows that a new rule may stand alone, or its epoch be steady.
// The position of an earlier call stops moving.
func (g *Group) SetRules(view Rule, rules ...Resolved) (held *wal.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.view, g.rules = view, slices.Clone(rules)
	g.held, g.scratch = new(wal.Position), newEvaluation(g.rules)
	for _, h := range g.streams {
		h.places = find(g.rules, h.name, h.id)
	}
	g.evaluate()
	g.release()
	g.renewLease()
	return g.held
}

// Names reports whether a rule in force lists a receiver of that name. The horizon may wait for its
// report, so it must be sent the log before.
func (g *Group) Names(receiver string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return find(g.rules, receiver, ID{}).listed()
}

// Hold stops everything: no commit is released, at any level, and the horizon does not move, until
// the horizon may move to lsn or further. A primary in its first epoch has no need of it; one that was
// promoted holds all, Hold(Unbounded), until Raft knows its epoch as steady, and then at the end of its
// first record (I1). There is no read lease meanwhile (I11). Each call replaces the hold before.
func (g *Group) Hold(lsn wal.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = lsn
	g.release()
	g.renewLease()
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
	Resolved   []Resolved // the rules in force
	LocalFlush wal.LSN
	Horizon    wal.LSN
	Hold       wal.LSN  // 0 = none
	Released   Released // by the streams, under the rules
	Streams    []Stream // the eldest first
	ApplyWaits bool     // a commit waits at remote_apply alone: all else that it needs is there

	Acknowledged [numLevels]wal.LSN // by level: commits up to there have been let go; Off is unused
	Bare         wal.LSN            // up to there the log was released with nobody having acknowledged it
}

// Snapshot returns the group as it is now.
func (g *Group) Snapshot() Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Snapshot{
		Rule: g.view, Resolved: slices.Clone(g.rules), LocalFlush: g.flushed,
		Horizon: g.horizon.Load(), Hold: g.hold, Released: g.met,
		Acknowledged: g.released, Bare: wal.LSN(g.bare.Load()),
	}
	first := g.waiting[RemoteApply].first
	s.ApplyWaits = first != nil && first.lsn <= g.released[On]
	var standbys []Standby
	for _, h := range g.streams {
		standbys = append(standbys, h.standby())
		s.Streams = append(s.Streams, Stream{Handle: h})
	}
	statuses, _ := Evaluate(g.view, g.rules, standbys)
	for i := range s.Streams {
		s.Streams[i].Standby, s.Streams[i].Status = standbys[i], statuses[i]
	}
	return s
}

// evaluate works out what the streams have met under the rules. The caller holds mu, as for all that
// follows. When a stream stops counting, what only it had is not met any more, and nothing else is met
// because of it: so there is nothing to release.
func (g *Group) evaluate() {
	g.scratch.begin()
	for _, h := range g.streams {
		if h.counts() {
			g.scratch.add(h.places, h.positions())
		}
	}
	g.met = g.scratch.end()
}

// release lets go whoever waits for no more than what is reached now. It is cheap when nothing is.
func (g *Group) release() {
	if len(g.rules) == 0 {
		return
	}
	reached := g.reached()
	g.held.Advance(reached[On])
	if limit := g.debt.limit; limit != 0 {
		for level := RemoteWrite; level < numLevels; level++ {
			reached[level] = min(reached[level], limit)
		}
	}
	if reached[On] < g.hold {
		return
	}
	if g.hold != 0 {
		g.hold = 0
		defer g.renewLease()
	}
	if g.met.Flush == Unbounded {
		g.bare.Store(max(g.bare.Load(), uint64(reached[On])))
	}
	g.horizon.Advance(reached[On])
	any := false
	for level := Local; level < numLevels; level++ {
		if reached[level] > g.released[level] {
			g.released[level] = reached[level]
			any = g.waiting[level].release(reached[level]) || any
		}
	}
	if any && g.OnRelease != nil {
		g.OnRelease()
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
