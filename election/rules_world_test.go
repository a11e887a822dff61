package election

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A world is a primary with its keeper and its group, the disks of the other members, and a Raft that
// does as it is told. It runs in a bubble.
type world struct {
	t       *testing.T
	raft    *fakeRaft
	group   *syncrep.Group
	keeper  *Keeper
	first   wal.LSN
	learnt  wal.LSN // horizon that the primary took office with
	text    string
	fall    raftlog.Fallback
	idle    atomic.Bool // what is written are heartbeats
	disks   map[syncrep.ID]*disk
	opened  int
	deposed []uint64
	stop    func()
	ended   chan error
}

// A disk is a member's copy of the log.
type disk struct {
	name   string
	id     syncrep.ID
	flush  wal.LSN // in the reign's log; 0: it holds nothing that older epochs have not
	handle *syncrep.Handle
}

func id(n int) syncrep.ID { return syncrep.ID{Node: uint64(n), Incarnation: 1} }

const runID = 77

// zone is where a member is in the beginning: n1, n4 and n7 in the same of three.
func zone(n int) string { return "abc"[(n-1)%3:][:1] }

// newWorld has n members, n1 the primary, which founded the cluster if epoch is 1. Otherwise it was named
// for epoch under rule, and its first record ends at 0/100.
func newWorld(t *testing.T, epoch uint64, text string, n int) *world {
	w := &world{t: t, text: text, disks: make(map[syncrep.ID]*disk), group: syncrep.NewGroup()}
	s := &raftlog.State{Epoch: epoch, Phase: raftlog.Steady, SteadyEpoch: epoch, SteadyPrimary: id(1)}
	s.Primary = raftlog.Office{ID: id(1), Name: "n1", RunID: runID}
	s.History = []raftlog.Reign{{Epoch: epoch, Primary: "n1", Steady: epoch == 1}}
	for i := 1; i <= n; i++ {
		s.Members = append(s.Members, raftlog.Member{Name: fmt.Sprintf("n%d", i), ID: id(i), Zone: zone(i), Voter: true, Counted: true})
		w.disks[id(i)] = &disk{name: fmt.Sprintf("n%d", i), id: id(i)}
	}
	rule := w.resolve(s, text)
	s.Rule = raftlog.Rule{Version: 1, Text: text, Resolved: rule}
	if epoch > 1 {
		w.first = 0x100
		s.Phase, s.SteadyEpoch, s.SteadyPrimary = raftlog.Opening, epoch-1, id(n)
		s.Opening = &raftlog.Rule{Version: 2, Text: text, Resolved: rule}
	}
	w.raft = &fakeRaft{state: s, seen: s, changed: make(chan struct{})}
	return w
}

func (w *world) resolve(s *raftlog.State, text string) syncrep.Resolved {
	rule, err := raftlog.Resolve(text, id(1), s.Members, func(m raftlog.Member) bool { return true })
	if err != nil {
		w.t.Fatal(err)
	}
	return rule
}

// start runs the keeper. The primary has flushed its first record.
func (w *world) start(leaseWait time.Duration) {
	w.keeper = NewKeeper(KeeperConfig{
		Raft: w.raft, Group: w.group, Epoch: w.raft.state.Epoch, RunID: runID, Self: id(1),
		First: w.first, LeaseWait: leaseWait,
		Text:      func() string { return w.text },
		Fallback:  func() raftlog.Fallback { return w.fall },
		Pending:   func() bool { return !w.idle.Load() },
		Streaming: w.streaming,
		Opened:    func() { w.opened++ },
		Deposed:   func(epoch uint64) { w.deposed = append(w.deposed, epoch) },
	})
	w.write(w.first)
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop, w.ended = cancel, make(chan error, 1)
	go func() { w.ended <- w.keeper.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); synctest.Wait() })
	synctest.Wait()
}

// write has the primary write and flush its log up to lsn.
func (w *world) write(lsn wal.LSN) {
	w.disks[id(1)].flush = max(w.disks[id(1)].flush, lsn)
	w.group.LocalFlush(lsn)
	synctest.Wait()
}

// stream has a member connect, and report that it has flushed up to lsn.
func (w *world) stream(n int, lsn wal.LSN) {
	d := w.disks[id(n)]
	if d.handle == nil {
		d.handle = w.group.Join(d.name, d.id)
		d.handle.SetState(syncrep.Streaming)
	}
	w.flush(n, lsn)
	w.keeper.Kick()
	synctest.Wait()
}

// flush has a member that streams report that it has flushed up to lsn.
func (w *world) flush(n int, lsn wal.LSN) {
	d := w.disks[id(n)]
	d.flush = max(d.flush, lsn)
	d.handle.Report(d.flush, d.flush, d.flush)
	synctest.Wait()
}

// leave ends a member's stream.
func (w *world) leave(n int) {
	d := w.disks[id(n)]
	if d.handle != nil {
		d.handle.Leave()
		d.handle = nil
	}
	w.keeper.Kick()
	synctest.Wait()
}

// join adds a member that has streamed nothing yet.
func (w *world) join(n int, name string) {
	w.disks[id(n)] = &disk{name: name, id: id(n)}
	w.raft.edit(func(s *raftlog.State) {
		s.Members = append(s.Members, raftlog.Member{Name: name, ID: id(n), Zone: zone(n)})
	})
}

// move has a member start in another zone.
func (w *world) move(n int, zone string) {
	w.raft.edit(func(s *raftlog.State) {
		i := slices.IndexFunc(s.Members, func(m raftlog.Member) bool { return m.ID == id(n) })
		s.Members[i].Zone = zone
	})
}

// remove has a member leave the cluster: at once if no rule lists it.
func (w *world) remove(n int) {
	w.raft.edit(func(s *raftlog.State) {
		i := slices.IndexFunc(s.Members, func(m raftlog.Member) bool { return m.ID == id(n) })
		s.Members[i].Leaving = true
	})
}

func (w *world) set(text string) {
	w.text = text
	w.keeper.Kick()
	synctest.Wait()
}

func (w *world) streaming() (ids []syncrep.ID) {
	for _, d := range w.disks {
		if d.handle != nil {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) horizon() wal.LSN { return w.group.Horizon().Load() }

func (w *world) wantHorizon(want wal.LSN) {
	w.t.Helper()
	if got := w.horizon(); got != want {
		w.t.Errorf("horizon %s, want %s", got, want)
	}
}

// wantRule compares the rule that Raft holds, K and who is listed, and its joint partner if there is one.
func (w *world) wantRule(want string) {
	w.t.Helper()
	if got := describe(w.raft.now()); got != want {
		w.t.Errorf("rule in Raft: %s, want %s", got, want)
	}
}

func describe(s *raftlog.State) string {
	text := func(r raftlog.Rule) string {
		var names []string
		for _, l := range r.Listed {
			names = append(names, fmt.Sprint(l.ID.Node)+l.Zone)
		}
		slices.Sort(names)
		if r.Degraded != nil {
			return "degraded"
		}
		if r.Zones > 0 {
			return fmt.Sprint(r.K, " in ", r.Zones, " zones of ", names)
		}
		return fmt.Sprint(r.K, " of ", names)
	}
	switch {
	case s.Phase == raftlog.Opening:
		return "opening " + text(*s.Opening)
	case s.Joint != nil:
		return text(s.Rule) + " + " + text(*s.Joint)
	default:
		return text(s.Rule)
	}
}

// check is what must hold at every moment (S13, with no majority asked for): each set of disks that may be
// sealed under the rules that Raft holds has all that was ever released, and, once the epoch is steady, all
// that older epochs acknowledged.
func (w *world) check() {
	w.t.Helper()
	s, released := w.raft.now(), w.horizon()
	if s.Phase == raftlog.Opening {
		if released != w.learnt {
			w.t.Fatalf("horizon moved to %s in an epoch that is not steady", released)
		}
		return
	}
	released = max(released, w.first)
	rules := []raftlog.Rule{s.Rule}
	if s.Joint != nil {
		rules = append(rules, *s.Joint)
	}
	var others []*disk
	for _, d := range w.disks {
		if d.id != id(1) {
			others = append(others, d)
		}
	}
	for set := range 1 << len(others) {
		sealable, longest := true, wal.LSN(0)
		for _, r := range rules {
			n, outside := 0, make(map[string]bool)
			for _, l := range r.Listed {
				i := slices.IndexFunc(others, func(d *disk) bool { return d.id == l.ID })
				if i >= 0 && set&(1<<i) != 0 {
					n++
				} else {
					outside[l.Zone] = true
				}
			}
			sealable = sealable && (n >= len(r.Listed)-r.K+1 || len(outside) < r.Zones)
		}
		for i, d := range others {
			if set&(1<<i) != 0 {
				longest = max(longest, d.flush)
			}
		}
		if sealable && longest < released {
			w.t.Fatalf("%s was acknowledged; under %s a seal may find no more than %s", released, describe(s), longest)
		}
	}
}

// A fakeRaft holds a state, and applies commands to it as the state machine does.
type fakeRaft struct {
	mu       sync.Mutex
	state    *raftlog.State // as the cluster has it
	seen     *raftlog.State // as this node has it
	changed  chan struct{}
	lag      bool                                       // this node does not hear of changes
	outcome  func(raftlog.Command) (apply, answer bool) // nil: both
	proposed []raftlog.Command
	steps    []string          // the rules it held
	lost     []raftlog.Command // proposed without an outcome: they may be applied yet
}

func (r *fakeRaft) now() *raftlog.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *fakeRaft) Watch() (*raftlog.State, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen, r.changed
}

func (r *fakeRaft) Propose(ctx context.Context, c raftlog.Command) (*raftlog.State, error) {
	r.mu.Lock()
	r.proposed = append(r.proposed, c)
	apply, answer := true, true
	if r.outcome != nil {
		apply, answer = r.outcome(c)
	}
	var err error
	if apply {
		err = r.applyLocked(c)
	} else {
		r.lost = append(r.lost, c)
	}
	seen := r.seen
	r.mu.Unlock()
	if !apply || !answer {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return seen, err
}

// answer says what becomes of proposals from now on; nil: they are applied and answered.
func (r *fakeRaft) answer(outcome func(raftlog.Command) (apply, answer bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome = outcome
}

// forget returns the rules that Raft held since it was called last.
func (r *fakeRaft) forget() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := r.steps
	r.steps = nil
	return steps
}

// late applies a command that was proposed a while ago.
func (r *fakeRaft) late(i int) {
	r.mu.Lock()
	c := r.lost[i]
	r.lost = slices.Delete(r.lost, i, i+1)
	r.applyLocked(c)
	r.mu.Unlock()
	synctest.Wait()
}

func (r *fakeRaft) setLag(lag bool) {
	r.mu.Lock()
	r.lag = lag
	r.tellLocked()
	r.mu.Unlock()
	synctest.Wait()
}

func (r *fakeRaft) edit(change func(*raftlog.State)) {
	r.mu.Lock()
	r.replaceLocked(change)
	r.mu.Unlock()
	synctest.Wait()
}

func (r *fakeRaft) tellLocked() {
	if !r.lag && r.seen != r.state {
		r.seen = r.state
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

func (r *fakeRaft) replaceLocked(change func(*raftlog.State)) {
	s := *r.state
	s.Members = slices.Clone(s.Members)
	s.Index++
	change(&s)
	s.Members = slices.DeleteFunc(s.Members, func(m raftlog.Member) bool {
		listed := s.Rule.Lists(m.ID) || s.Joint != nil && s.Joint.Lists(m.ID) || s.Opening != nil && s.Opening.Lists(m.ID)
		return m.Leaving && !listed && m.ID != s.Primary.ID && m.ID != s.SteadyPrimary
	})
	r.state = &s
	if step := describe(&s); len(r.steps) == 0 || r.steps[len(r.steps)-1] != step {
		r.steps = append(r.steps, step)
	}
	r.tellLocked()
}

// applyLocked has the state machine take a command.
func (r *fakeRaft) applyLocked(c raftlog.Command) error {
	next, err := r.state.Apply(r.state.Index+1, c)
	if err == nil {
		r.replaceLocked(func(s *raftlog.State) { *s = *next })
	}
	return err
}
