package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// This file is what becomes of damaged WAL: what is known of it, what it means, and how it is repaired.

const (
	repairRetry    = 3 * time.Second  // between two looks whether it can be read again
	repairRetryMax = time.Minute      // between two times that the others are asked, at the most
	readTimeout    = 10 * time.Second // for a member to answer with a part of its log
	repairPatience = time.Minute      // for the others to repair what this node's recovery reads; then a base copy is taken
	othersLook     = 10 * time.Second // between two looks of a primary whether others have damage where it writes
	maxFaults      = 64               // that are noted, in a file of limited size; the others are found again
)

// load takes over what the control file says.
func (s *scrubbing) load(faults []wal.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.unsaved, s.segno = slices.Clone(faults), false, 0
}

// add notes what another recovery has found.
func (s *scrubbing) add(faults []wal.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		if !slices.ContainsFunc(s.faults, func(o wal.Fault) bool { return o.From == f.From }) {
			s.faults = append(s.faults, f)
		}
	}
}

// cut forgets what lay behind the end of a log that has been cut. The control file has done so already.
func (s *scrubbing) cut(end wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = wal.FaultsBefore(s.faults, end)
}

func (s *scrubbing) list() []wal.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// set replaces the list. It is not in the control file yet.
func (s *scrubbing) set(faults []wal.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.unsaved = faults, true
}

// damage says where the last damaged segment ends, 0 if there is none, and whether recovery, which begins at redo,
// reads what is damaged: a segment is handed out or not, but read from redo on.
func (s *scrubbing) damage(size wal.SegmentSize, redo wal.LSN) (to wal.LSN, lacking bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		_, last := f.Segments(size)
		to = max(to, size.Start(last+1))
		lacking = lacking || f.To > redo
	}
	return to, lacking
}

// damage is that of this node, whose log is log.
func (n *Node) damage(log *startup.Recovered) (to wal.LSN, lacking bool) {
	redo := log.Control.Redo
	if r, _ := n.present.load(); r != nil {
		redo = r.checkpointer.Control().Redo
	}
	return n.scrubbing.damage(log.Dir.Format.SegmentSize, redo)
}

// forgetRemoved forgets what lay in segments that have been removed, before anybody hears of it, and keeps what is
// damaged from being handed out. A crash may have come between their removal and that.
func (r *reign) forgetRemoved() error {
	n, dir := r.node, r.found.Dir
	below, err := r.removedBelow()
	if err != nil {
		return err
	}
	known := n.scrubbing.list()
	left := slices.DeleteFunc(slices.Clone(known), func(f wal.Fault) bool {
		_, last := f.Segments(dir.Format.SegmentSize)
		return last < below
	})
	if len(left) < len(known) {
		n.log.Info("damaged WAL has been removed, since nobody needs it", "places", len(known)-len(left))
		n.scrubbing.set(left)
	}
	r.refuse(left)
	return nil
}

// refuse keeps what is damaged from being handed out, and from being acknowledged.
func (r *reign) refuse(faults []wal.Fault) {
	r.found.Dir.SetDamaged(faults, r.writing())
	r.doubt()
}

// doubt has a standby acknowledge nothing from where its log is damaged and somebody may have to do without: no commit
// may rely on it.
func (r *reign) doubt() {
	if r.stream == nil {
		return
	}
	vital, from := r.vital(), noLimit
	for _, f := range r.node.scrubbing.list() {
		if f.To > vital {
			from = min(from, f.From)
		}
	}
	r.stream.Doubt(from)
}

// vital is where the part of a standby's log begins that is in nothing else of what a failover may rely on. Where its
// own recovery begins: with damage behind that it is not promoted, and whoever is in its place may have to fetch the log
// from it across that. A node that is never promoted, a witness above all, has nothing but its log for those that may
// be: for it that is where the last of the members is that follow the primary.
func (r *reign) vital() wal.LSN {
	n, from := r.node, r.checkpointer.Control().Redo
	if n.cfg.priority() > 0 {
		return from
	}
	if !n.raft.CaughtUp() {
		return 0 // what the state knows of slots may be old
	}
	s := n.raft.State()
	for _, slot := range s.Slots {
		if m, ok := s.Member(slot.Member); ok && m.ID != n.memberID() && m.ID != s.Primary.ID && slot.Restart != 0 {
			from = min(from, slot.Restart)
		}
	}
	return from
}

// writing is the start of the segment that is being written.
func (r *reign) writing() wal.LSN {
	return r.found.Dir.Format.SegmentSize.SegmentStart(r.flushed().Load())
}

// closeUp has a primary end the segment that it writes if a fault lies there: only a file that nobody writes can be
// replaced. A standby's is full when its primary's is: see tendOthers.
func (r *reign) closeUp(ctx context.Context, f wal.Fault) error {
	size := r.found.Dir.Format.SegmentSize
	if _, last := f.Segments(size); r.primary == nil || size.Start(last) < r.writing() {
		return nil
	}
	r.node.log.Warn("ending the segment that is being written, since it is damaged", "from", f.From)
	return r.endSegment(ctx)
}

// endSegment ends the segment that a primary writes.
func (r *reign) endSegment(ctx context.Context) error {
	w := r.primary.writer
	if _, err := r.backups.finishSegment(w); err != nil {
		return fmt.Errorf("end the segment that is damaged, and is being written: %w", err)
	}
	return w.Flush(ctx, w.Inserted().Load())
}

// tendOthers does for the others what closeUp does for a primary, until ctx ends. One that can repair its log only when
// its segment is full may acknowledge nothing until then: commits that wait for it would wait for each other.
func (r *reign) tendOthers(ctx context.Context) error {
	tick := time.NewTicker(othersLook)
	defer tick.Stop()
	for {
		asked := make(chan map[string]election.Health, 1)
		go func() { asked <- r.node.health() }() // who does not answer does not keep the role from ending
		var err error
		select {
		case members := <-asked:
			err = r.closeUpForOthers(ctx, members)
		case <-ctx.Done():
			return nil
		}
		if wal.IsFatal(err) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			r.node.log.Warn("cannot end a segment that is damaged on another member", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// closeUpForOthers ends the segment that is being written if the log of a member that follows is damaged there.
func (r *reign) closeUpForOthers(ctx context.Context, members map[string]election.Health) error {
	for name, h := range members {
		if h.ID == r.node.memberID() || h.Position.Epoch != r.epoch || h.Damaged <= r.writing() {
			continue
		}
		r.node.log.Warn("ending the segment that is being written, since it is damaged on another member", "member", name)
		return r.endSegment(ctx)
	}
	return nil
}

// removedBelow is the number of the segment before which all have been removed, as far as nobody needs one of them:
// then it was lost.
func (r *reign) removedBelow() (uint64, error) {
	dir := r.found.Dir
	oldest, ok, err := dir.Oldest(r.found.History)
	if err != nil || !ok {
		return dir.RemovedBelow(), err
	}
	needs := r.walNeeds()
	needs.Redo = r.checkpointer.Control().Redo
	return max(dir.RemovedBelow(), min(oldest, r.node.retention().Oldest(needs))), nil
}

// tend saves what is not saved yet, and repairs what can be repaired, if it is time for that.
func (s *scrubber) tend(ctx context.Context) error {
	now := time.Now()
	if now.Before(s.tendAt) {
		return nil
	}
	s.tendAt = now.Add(repairRetry)
	if err := s.save(); err != nil {
		return err
	}
	faults := s.state.list()
	ask := len(faults) > 0 && !now.Before(s.askAt)
	if ask {
		s.askPause = min(max(2*s.askPause, repairRetry), repairRetryMax)
		s.askAt = now.Add(s.askPause)
	}
	for _, f := range faults {
		repaired, err := s.repair(ctx, f, ask)
		if err != nil {
			return err
		}
		if repaired { // what comes behind it in its segment has not been read
			s.again(f)
		} else if ask {
			s.passBy(ctx, f)
		}
	}
	s.r.doubt()
	s.giveUp()
	return nil
}

// giveUp has a standby take a base copy when its recovery has read for too long where nobody could repair its log. Not
// one that is never promoted: a copy begins where the others may not be yet, to whom it would have to hand on what comes
// before. It waits until its checkpoints have got past the damage.
func (s *scrubber) giveUp() {
	if s.r.node.cfg.priority() == 0 {
		return
	}
	redo := s.r.checkpointer.Control().Redo
	switch _, lacking := s.state.damage(s.r.found.Dir.Format.SegmentSize, redo); {
	case !lacking:
		s.lacking = time.Time{}
	case s.lacking.IsZero():
		s.lacking = time.Now()
	case time.Since(s.lacking) >= repairPatience:
		s.replace()
	}
}

// replaceByCopy ends the stream of a standby that follows a primary: a base copy takes the place of its data.
func (r *reign) replaceByCopy() {
	select {
	case <-r.opened:
	default:
		return // of a standby: the stream has not begun
	}
	if r.stream != nil && r.fetch == nil {
		r.stopStream(errBeyondRepair)
	}
}

// untilTend is how long there is nothing to tend to.
func (s *scrubber) untilTend() time.Duration {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if len(s.state.faults) == 0 && !s.state.unsaved {
		return forever
	}
	return max(0, time.Until(s.tendAt))
}

// change changes the list of faults, and the control file. If there is no room for that, what is known is known for as
// long as the process lives, and saved when there is room.
func (s *scrubber) change(change func([]wal.Fault) []wal.Fault) error {
	faults := change(s.state.list())
	s.state.set(faults)
	s.r.refuse(faults)
	return s.save()
}

// save writes the list to the control file, if it is not there.
func (s *scrubber) save() error {
	s.state.mu.Lock()
	faults, unsaved := slices.Clone(s.state.faults), s.state.unsaved
	s.state.mu.Unlock()
	if !unsaved {
		return nil
	}
	err := s.r.node.dir.SetDamage(faults)
	if _, full := errors.AsType[*wal.NoRoomError](err); full {
		if !s.warned {
			s.r.node.log.Warn("cannot note which WAL is damaged for lack of disk space, or of file descriptors: will try again", "err", err)
		}
		s.warned = true
		return nil
	}
	s.warned = false
	s.state.mu.Lock()
	s.state.unsaved = err != nil
	s.state.mu.Unlock()
	return err
}

// passBy makes a checkpoint, to have recovery do without a place that cannot be repaired, if it would read there. It
// begins to read in the segment of the byte before redo.
func (s *scrubber) passBy(ctx context.Context, f wal.Fault) {
	size := s.r.found.Dir.Format.SegmentSize
	if _, last := f.Segments(size); last < size.PrevSegno(s.r.checkpointer.Control().Redo) {
		return
	}
	if err := s.checkpoint(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, startup.ErrSealed) {
		s.r.node.log.Warn("no checkpoint behind damaged WAL", "err", err)
	}
}

// repair clears a fault whose segments have been removed, or can be read again, or if it may ask for them, get what it
// spoils from another member. An error ends the process.
func (s *scrubber) repair(ctx context.Context, f wal.Fault, ask bool) (done bool, err error) {
	n, dir := s.r.node, s.r.found.Dir
	below, err := s.r.removedBelow()
	if err != nil {
		n.log.Warn("cannot tell which WAL is there: will try later", "err", err)
		return false, nil
	}
	_, last := f.Segments(dir.Format.SegmentSize)
	how := "its segment has been removed, since nobody needs it"
	switch {
	case last < below:
	case (ask || f.From != s.mended) && dir.Readable(s.r.found.History, f):
		how = "it can be read again"
	case !ask:
		return false, nil
	default:
		if err = s.closeUp(ctx, f); err == nil {
			how, err = s.mend(ctx, f)
		}
		if wal.IsFatal(err) {
			return false, err
		}
		if err != nil {
			if ctx.Err() == nil {
				s.say(nil, "damaged WAL cannot be repaired now", f, err.Error())
			}
			return false, nil
		}
	}
	err = s.change(func(faults []wal.Fault) []wal.Fault {
		return slices.DeleteFunc(faults, func(o wal.Fault) bool { return o == f })
	})
	if err != nil {
		return false, err
	}
	s.mended = f.From
	s.say(&s.state.repaired, "damaged WAL is repaired", f, how)
	return true, nil
}

// recover finds the end of the log, and has the other members mend it first if it is damaged before that. What
// recovery can do without is mended too, if somebody is there to do it now: in the segment that will be written
// it could not be later.
func (n *Node) recover(ctx context.Context) (*startup.Recovered, error) {
	deadline := time.Now().Add(mendPatience)
	for spare := true; ; {
		log, err := startup.Recover(n.dir, n.identity(), n.log.With("component", "startup"))
		if err == nil && log.Spared != nil && spare {
			spare = false
			if err := n.mendSpared(ctx, log); err != nil {
				return nil, err
			}
			continue
		}
		damage, ok := errors.AsType[*startup.DamageError](err)
		if !ok {
			if err == nil {
				n.useDirect(log.Dir)
			}
			return log, explainRecovery(err, n.dir.Path)
		}
		how, failed := n.mend(ctx, damage.Dir, damage.History, damage.Fault, noLimit)
		if wal.IsFatal(failed) {
			return nil, failed
		}
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

// mendSpared asks the others once for what recovery can do without. An error ends the process.
func (n *Node) mendSpared(ctx context.Context, log *startup.Recovered) error {
	ctx, cancel := context.WithTimeout(ctx, spareTimeout)
	defer cancel()
	how, err := n.mend(ctx, log.Dir, log.History, *log.Spared, noLimit)
	switch {
	case wal.IsFatal(err):
		return err
	case err != nil:
		n.log.Warn("the log is damaged before redo, and goes on so", "from", log.Spared.From, "members", err)
	default:
		n.log.Error("the log was damaged before redo, and is repaired", "from", log.Spared.From, "because", log.Spared.Reason, "detail", how)
	}
	return nil
}

// spareTimeout is how long a start waits for what it can do without.
const spareTimeout = 3 * time.Second

// mendPatience is how long a start looks for a member that has what is damaged here: after a failure of all of
// them the others may still be starting, too.
const mendPatience = 30 * time.Second

var errNoHelpers = errors.New("there is none")

// noLimit is that of a log that nobody writes.
const noLimit = ^wal.LSN(0)

// mend replaces what a fault spoils, below limit, by what another member has: the first one whose log can be read
// there. After a *wal.IOError the process must end.
func (n *Node) mend(ctx context.Context, dir *wal.Dir, h wal.History, f wal.Fault, limit wal.LSN) (how string, err error) {
	var failed []error
	for _, m := range n.helpers() {
		to, changed, err := dir.Mend(ctx, h, f, limit, n.readFrom(m, dir, h))
		if wal.IsFatal(err) {
			return "", err
		}
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
