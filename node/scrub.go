package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// What is on a disk may rot, and is not read again before it is needed: then it is too late. So each node
// reads the closed segments of its log again and again, slowly, in any role; what it finds damaged it
// repairs with what another member has. Until that is done the node is not promoted (raftlog.Answer), and
// hands the damaged segments to nobody (wal.DamagedError). All up to its position it has flushed all the
// same: what it acknowledges of new WAL counts.

const (
	scrubPause  = time.Minute      // between two passes
	repairRetry = 3 * time.Second  // between two attempts to repair
	readTimeout = 10 * time.Second // for a member to answer with a part of its log
	maxFaults   = 64               // that are noted, in a file of limited size; the others are found again
)

// scrubbing is what a node knows of its closed segments, whatever its roles.
type scrubbing struct {
	mu       sync.Mutex
	faults   []wal.Fault // found and not repaired
	segno    uint64      // that is read
	passes   int64
	passed   time.Time // when the last pass ended
	checked  int64     // bytes
	found    int64     // faults
	repaired int64
	event    string // the last thing to be said of a fault
}

// load takes over what the control file says.
func (s *scrubbing) load(faults []wal.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.segno = slices.Clone(faults), 0
}

// damaged is where the last damaged place ends, 0 if there is none.
func (s *scrubbing) damaged() (to wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		to = max(to, f.To)
	}
	return to
}

func (s *scrubbing) list() []wal.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// scrub reads the closed segments again and repairs what it finds, until ctx ends.
func (r *reign) scrub(ctx context.Context) error {
	n := r.node
	s := &scrubber{r: r, state: &n.scrubbing}
	r.found.Dir.SetDamaged(s.state.list())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := n.settings.Changed()
		pause, err := s.next(ctx, n.settings.Bytes("wal_scrub_rate"))
		if err != nil {
			return err
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// A scrubber is the scrubbing of one reign.
type scrubber struct {
	r     *reign
	state *scrubbing
	pass  *wal.Scrubber // nil between two passes
	tried time.Time     // when repairs were last tried
}

// limit is the beginning of the segment that is being written.
func (s *scrubber) limit() wal.LSN {
	return s.r.found.Dir.Format.SegmentSize.SegmentStart(s.r.flushed().Load())
}

// next does the next small thing, and says how long to wait before the one after. An error ends the process.
func (s *scrubber) next(ctx context.Context, rate int64) (pause time.Duration, err error) {
	if faults := s.state.list(); len(faults) > 0 && time.Since(s.tried) >= repairRetry {
		s.tried = time.Now()
		for _, f := range faults {
			repaired, err := s.repair(ctx, f)
			if err != nil {
				return 0, err
			}
			if repaired { // what comes behind it in its segment has not been read
				s.again(f)
			}
		}
	}
	if rate == 0 {
		return repairRetry, nil
	}
	if s.pass == nil {
		if err := s.begin(); err != nil || s.pass == nil {
			return scrubPause, err
		}
	}
	n, err := s.step(ctx)
	if err != nil {
		return 0, err
	}
	if s.pass == nil {
		return min(scrubPause, repairRetry), nil
	}
	return time.Duration(float64(n) / float64(rate) * float64(time.Second)), nil
}

// again has the pass go back to a fault.
func (s *scrubber) again(f wal.Fault) {
	first, _ := f.Segments(s.r.found.Dir.Format.SegmentSize)
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.segno, s.pass = min(first, s.state.segno), nil
}

// begin begins a pass: where the reign before was, or with the oldest segment there is.
func (s *scrubber) begin() error {
	dir, h := s.r.found.Dir, s.r.found.History
	oldest, ok, err := dir.Oldest(h)
	if err != nil || !ok {
		return err
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.segno = max(oldest, s.state.segno)
	s.pass = wal.NewScrubber(dir, h, s.state.segno)
	return nil
}

// step reads a little. At the end of a pass there is none any more.
func (s *scrubber) step(ctx context.Context) (n int, err error) {
	n, fault, err := s.pass.Step(s.limit())
	st := s.state
	st.mu.Lock()
	st.checked += int64(n)
	st.segno = s.pass.Segno()
	st.mu.Unlock()
	_, removed := errors.AsType[*wal.RemovedError](err)
	switch {
	case removed: // a checkpoint was faster
		s.pass = nil
		st.restart()
		return n, nil
	case err != nil:
		s.r.node.log.Warn("cannot read the log again: will try later", "err", err)
		s.pass = nil
		return 0, nil
	case fault != nil:
		return n, s.found(ctx, *fault)
	case n == 0:
		s.pass = nil
		st.restart()
		st.mu.Lock()
		defer st.mu.Unlock()
		st.passes, st.passed = st.passes+1, time.Now()
	}
	return n, nil
}

// restart has the next pass begin with the oldest segment.
func (s *scrubbing) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segno = 0
}

// found notes a fault, before anything else is done about it, and repairs it if that can be done at once.
func (s *scrubber) found(ctx context.Context, f wal.Fault) error {
	noted := s.state.list()
	known := slices.ContainsFunc(noted, func(o wal.Fault) bool { return o.From == f.From })
	if !known && len(noted) < maxFaults {
		if err := s.change(func(faults []wal.Fault) []wal.Fault { return append(faults, f) }); err != nil {
			return err
		}
		s.say(&s.state.found, "WAL is damaged", f, "")
		s.tried = time.Now()
		repaired, err := s.repair(ctx, f)
		if err != nil {
			return err
		}
		if repaired {
			s.pass.Mended(f)
			return nil
		}
		s.checkpoint(ctx, f)
	}
	s.pass.Skip(f)
	return nil
}

// change changes the list of faults, first in the control file.
func (s *scrubber) change(change func([]wal.Fault) []wal.Fault) error {
	faults := change(s.state.list())
	if err := s.r.node.dir.SetDamage(faults); err != nil {
		return err
	}
	s.r.found.Dir.SetDamaged(faults)
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.faults = faults
	return nil
}

// say reports what has become of a fault, and counts it.
func (s *scrubber) say(count *int64, what string, f wal.Fault, more string) {
	r := s.r
	size := r.found.Dir.Format.SegmentSize
	first, _ := f.Segments(size)
	segment := size.FileName(r.found.History.FileTimeline(first, size), first)
	event := fmt.Sprintf("%s: segment %s from %s to %s, %s", what, segment, f.From, f.To, f.Reason)
	if more != "" {
		event += ": " + more
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if count != nil {
		*count++
	}
	if s.state.event != event { // attempts to repair are many
		r.node.log.Error(what, "segment", segment, "from", f.From, "to", f.To, "because", f.Reason, "detail", more)
	}
	s.state.event = event
}

// checkpoint has recovery do without a place that cannot be repaired, if it would need it.
func (s *scrubber) checkpoint(ctx context.Context, f wal.Fault) {
	c := s.r.checkpointer
	if f.To <= c.Control().Redo {
		return
	}
	if err := c.Request(ctx); err != nil && ctx.Err() == nil {
		s.r.node.log.Warn("no checkpoint behind damaged WAL", "err", err)
	}
}

// repair gets what a fault spoils from another member. It is none any more once its segments are removed.
func (s *scrubber) repair(ctx context.Context, f wal.Fault) (done bool, err error) {
	n, dir := s.r.node, s.r.found.Dir
	_, last := f.Segments(dir.Format.SegmentSize)
	how := "its segment has been removed, since nobody needs it"
	switch {
	case last < dir.RemovedBelow():
	case dir.Readable(s.r.found.History, f):
		how = "it can be read again"
	default:
		if how, err = n.mend(ctx, dir, s.r.found.History, f, s.limit()); err != nil {
			if ctx.Err() == nil {
				s.say(nil, "damaged WAL cannot be repaired now: this node is not promoted before it is", f, err.Error())
			}
			return false, nil
		}
	}
	err = s.change(func(faults []wal.Fault) []wal.Fault {
		return slices.DeleteFunc(faults, func(o wal.Fault) bool { return o == f })
	})
	if err == nil {
		s.say(&s.state.repaired, "damaged WAL is repaired", f, how)
	}
	return err == nil, err
}

// recover finds the end of the log, and has the other members mend it first if it is damaged before that.
func (n *Node) recover(ctx context.Context) (*startup.Recovered, error) {
	deadline := time.Now().Add(mendPatience)
	for {
		log, err := startup.Recover(n.dir, n.identity(), n.log.With("component", "startup"))
		damage, ok := errors.AsType[*startup.DamageError](err)
		if !ok {
			return log, explainRecovery(err, n.dir.Path)
		}
		how, failed := n.mend(ctx, damage.Dir, damage.History, damage.Fault, noLimit)
		if failed == nil {
			n.log.Error("the log was damaged, and is repaired", "from", damage.Fault.From, "because", err, "detail", how)
			deadline = time.Now().Add(mendPatience)
			continue
		}
		n.log.Warn("the log is damaged: looking for a member to repair it from", "err", err, "members", failed)
		if errors.Is(failed, errNoHelpers) || time.Now().After(deadline) {
			return nil, fmt.Errorf("%w. No other member could help: %w", explainRecovery(err, n.dir.Path), failed)
		}
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// mendPatience is how long a start looks for a member that has what is damaged here: after a failure of all of
// them the others may still be starting, too.
const mendPatience = 30 * time.Second

var errNoHelpers = errors.New("there is none")

// noLimit is that of a log that nobody writes.
const noLimit = ^wal.LSN(0)

// mend replaces what a fault spoils, below limit, by what another member has: the first one whose log can be read
// there.
func (n *Node) mend(ctx context.Context, dir *wal.Dir, h wal.History, f wal.Fault, limit wal.LSN) (how string, err error) {
	var failed []error
	for _, m := range n.helpers() {
		to, changed, err := dir.Mend(ctx, h, f, limit, n.readFrom(m, dir, h))
		if err == nil {
			return fmt.Sprintf("%d bytes up to %s are %s's now", changed, to, m.Name), nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", m.Name, err))
	}
	if len(failed) == 0 {
		return "", errNoHelpers
	}
	return "", errors.Join(failed...)
}

// helpers are the other members, the primary last: it has enough to do.
func (n *Node) helpers() []raftlog.Member {
	s := n.raft.State()
	members := s.Members
	if len(members) == 0 {
		members = n.knownPeers()
	}
	others := slices.DeleteFunc(slices.Clone(members), func(m raftlog.Member) bool { return m.ID == n.memberID() })
	slices.SortStableFunc(others, func(a, b raftlog.Member) int {
		switch s.Primary.ID {
		case a.ID:
			return 1
		case b.ID:
			return -1
		}
		return 0
	})
	return others
}

// readFrom reads a member's log.
func (n *Node) readFrom(m raftlog.Member, dir *wal.Dir, h wal.History) wal.Source {
	size := dir.Format.SegmentSize
	return func(ctx context.Context, p []byte, at wal.LSN) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		reply, err := n.peers.Read(ctx, m.Address, election.ReadRequest{
			Timeline: h.FileTimeline(size.Segno(at), size), Start: at, Length: len(p),
		})
		return copy(p, reply.Data), err
	}
}
