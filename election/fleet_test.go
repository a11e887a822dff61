package election

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A fleet is a cluster of ships, each a node with its coordinator, in a bubble. Raft is one state that
// all see at once, and changes only while a majority of the ships is up.
type fleet struct {
	t     *testing.T
	ships []*ship

	mu      sync.Mutex // guards all of it, ships too
	state   *raftlog.State
	changed chan struct{}
	leader  int // index into ships
	led     chan struct{}
	events  []string                            // what coordinators did
	cut     map[[2]int]bool                     // from, to: what is sent gets lost
	hook    func(from int, event string)        // before and after each thing a coordinator does; holds no lock
	holding func(s *ship, r HoldRequest) error  // nil: the target has all
	fetches func(s *ship, r FetchRequest) error // nil: it works
	moves   int                                 // leadership was given up
	stray   map[string]Health                   // who answers at an address where no ship is
}

// A ship is a node: a data path in miniature that follows the rules of its role.
type ship struct {
	n      int
	f      *fleet
	c      *Coordinator
	member raftlog.Member
	stop   func()

	up, hung bool
	barred   bool // does not take office
	dull     bool // an open epoch of its own does not get steady
	behind   bool // gets nothing from the primary, and promises nothing

	runID    uint64
	promised uint64
	sealed   uint64
	position raftlog.Position
	reign    uint64 // in office
	follows  uint64
	heard    time.Time
	held     bool
	releases int
}

const testTimeout = 2 * time.Second

// sail runs a test with n ships, n1 the primary of epoch 1 and the last one the Raft leader.
func sail(t *testing.T, text string, n int, test func(f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, text, n)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { f.tide(ctx) })
		for _, s := range f.ships {
			f.launch(s)
		}
		defer wg.Wait()
		defer cancel()
		defer func() {
			for _, s := range f.ships {
				s.stop()
			}
		}()
		f.pass(time.Second)
		f.wantPrimary("n1", 1)
		test(f)
	})
}

func newFleet(t *testing.T, text string, n int) *fleet {
	f := &fleet{t: t, changed: make(chan struct{}), led: make(chan struct{}), cut: make(map[[2]int]bool), leader: n - 1}
	s := &raftlog.State{Epoch: 1, Phase: raftlog.Steady, SteadyEpoch: 1, SteadyPrimary: id(1), SystemID: 77}
	s.History = []raftlog.Reign{{Epoch: 1, Primary: "n1", Steady: true}}
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("n%d", i)
		m := raftlog.Member{Name: name, ID: id(i), RaftID: "raft-" + name, Address: name + ":5433", RaftAddress: name + ":5533", Priority: 100, Voter: true, Counted: true}
		s.Members = append(s.Members, m)
		sh := &ship{n: i - 1, f: f, member: m, up: true, runID: uint64(100 * i), promised: 1, position: raftlog.Position{Epoch: 1, LSN: 0x1000}}
		f.ships = append(f.ships, sh)
	}
	resolved, err := raftlog.Resolve(text, id(1), s.Members, func(raftlog.Member) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	s.Rule = raftlog.Rule{Version: 1, Text: text, Resolved: resolved}
	s.Primary = raftlog.Office{ID: id(1), Name: "n1", RunID: f.ships[0].runID}
	f.ships[0].reign = 1
	f.state = s
	return f
}

// launch starts the coordinator of a ship.
func (f *fleet) launch(s *ship) {
	peers := &lanes{f, s}
	alive := func(m raftlog.Member) bool { return f.peek(m.Name).up }
	s.c = NewCoordinator(CoordinatorConfig{
		Self: func() syncrep.ID { return s.member.ID }, Name: s.member.Name, Raft: &view{f, s}, Peers: peers,
		FailoverTimeout: func() time.Duration { return testTimeout }, Alive: alive,
	})
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.c.Run(ctx) }()
	s.stop = func() { cancel(); <-done }
}

// tide moves the data path on, all of it every ten milliseconds.
func (f *fleet) tide(ctx context.Context) {
	for t := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			f.mu.Lock()
			for _, s := range f.ships {
				s.step(f.state)
			}
			f.open()
			f.mu.Unlock()
		}
	}
}

// step is what a node does by itself.
func (s *ship) step(st *raftlog.State) {
	if !s.up || s.hung {
		return
	}
	if s.reign != 0 && (st.Epoch > s.reign || st.Phase == raftlog.Sealing) {
		s.reign = 0
	}
	mine := st.Primary.ID == s.member.ID && st.Primary.RunID == s.runID
	if st.Phase == raftlog.Opening && mine && s.reign == 0 && !s.barred && s.position == st.Primary.Position && s.promised <= st.Epoch {
		s.reign, s.promised, s.follows, s.sealed, s.held = st.Epoch, st.Epoch, 0, 0, false
		s.position = raftlog.Position{Epoch: st.Epoch, LSN: s.position.LSN + 0x100}
	}
	if s.reign != 0 {
		if !s.held && st.Phase == raftlog.Steady {
			s.position.LSN += 8
		}
		return
	}
	p := s.f.inOffice(st)
	if p == nil || p == s || s.behind || s.f.cut[[2]int{p.n, s.n}] || s.promised > st.Epoch {
		return
	}
	s.promised, s.follows, s.sealed, s.heard, s.position = st.Epoch, st.Epoch, 0, time.Now(), p.position
}

// inOffice is the ship that streams to the others, or nil.
func (f *fleet) inOffice(st *raftlog.State) *ship {
	for _, s := range f.ships {
		if s.up && !s.hung && s.reign == st.Epoch && s.member.ID == st.Primary.ID && st.Phase != raftlog.Sealing {
			return s
		}
	}
	return nil
}

// open makes an epoch steady that enough follow.
func (f *fleet) open() {
	st := f.state
	p := f.inOffice(st)
	if st.Phase != raftlog.Opening || p == nil || p.dull {
		return
	}
	have := 0
	for _, s := range f.ships {
		if s.up && !s.hung && s.follows == st.Epoch && st.Opening.Lists(s.member.ID) {
			have++
		}
	}
	if have >= st.Opening.K {
		next := *st
		next.Phase, next.SteadyEpoch, next.SteadyPrimary = raftlog.Steady, st.Epoch, st.Primary.ID
		next.Rule, next.Opening = *st.Opening, nil
		f.set(&next)
	}
}

// set replaces the state. The lock is held.
func (f *fleet) set(s *raftlog.State) {
	s.Index++
	f.state = s
	close(f.changed)
	f.changed = make(chan struct{})
}

// apply has the state machine take a command. The lock is held.
func (f *fleet) apply(c raftlog.Command) error {
	next, err := f.state.Apply(f.state.Index+1, c)
	if err != nil {
		return err
	}
	next.Index = f.state.Index // set counts
	f.set(next)
	return nil
}

// did notes what a coordinator does, and lets the test interfere.
func (f *fleet) did(from int, event string) {
	f.mu.Lock()
	f.events = append(f.events, event)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		hook(from, event)
	}
}

// elect makes a ship the Raft leader.
func (f *fleet) elect(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = n
	close(f.led)
	f.led = make(chan struct{})
}

// kill is kill -9. The ship's Raft leadership goes to the next one that is up.
func (f *fleet) kill(name string) {
	s := f.ship(name)
	f.mu.Lock()
	s.up, s.reign, s.follows, s.held = false, 0, 0, false
	was, next := f.leader == s.n, -1
	for i, o := range f.ships {
		if o.up && !o.hung && o != s {
			next = i
		}
	}
	f.mu.Unlock()
	if was && next >= 0 {
		f.elect(next)
	}
}

// start starts it again: another process with the disk as it was.
func (f *fleet) start(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.ship(name)
	s.up, s.hung = true, false
	s.runID++
}

func (f *fleet) ship(name string) *ship {
	return f.ships[slices.IndexFunc(f.ships, func(s *ship) bool { return s.member.Name == name })]
}

// peek is a ship as it is now.
func (f *fleet) peek(name string) ship {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.ship(name)
}

// saw reports whether a coordinator has done something since an earlier event.
func (f *fleet) saw(since int, what string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.events[since:], func(e string) bool { return strings.HasPrefix(e, what) })
}

// count is how many events there were.
func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.events)
}

// movesSoFar is how often leadership was given up.
func (f *fleet) movesSoFar() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moves
}

// pass lets time go by.
func (f *fleet) pass(d time.Duration) {
	f.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// change does something to the fleet at once.
func (f *fleet) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
}

// now is the state.
func (f *fleet) now() *raftlog.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// wantPrimary fails the test unless an epoch is steady, with its primary in office and no other one.
func (f *fleet) wantPrimary(name string, epoch uint64) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	if s.Phase != raftlog.Steady || s.Primary.Name != name || s.Epoch != epoch || f.ship(name).reign != epoch {
		f.t.Fatalf("epoch %d is %s, with %s; want epoch %d steady with %s in office\n%s\n%+v", s.Epoch, s.Phase, s.Primary.Name, epoch, name,
			strings.Join(f.events[max(0, len(f.events)-20):], "\n"), f.ships[f.leader].c.Report())
	}
}

// awaitSteady waits until a later epoch is steady. It returns how long that took.
func (f *fleet) awaitSteady(after uint64, limit time.Duration) time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		f.mu.Lock()
		s, changed := f.state, f.changed
		f.mu.Unlock()
		if s.Phase == raftlog.Steady && s.Epoch > after {
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-time.After(limit):
			f.t.Fatalf("epoch %d is %s after %v\n%+v", s.Epoch, s.Phase, limit, f.ships[f.leader].c.Report())
		}
	}
}
