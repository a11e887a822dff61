package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/longship-db/longship/wal"
)

// What is on a disk may rot, and is not read again before it is needed: then it is too late. So each node
// reads its log again and again, slowly, in any role, up to where it is durable; what it finds damaged it
// repairs with what another member has. Until that is done it hands the damaged segments to nobody
// (wal.DamagedError), and is not promoted if its own recovery reads there (raftlog.Answer). All up to its position
// it has flushed all the same: what it acknowledges of new WAL counts.

const (
	scrubPause = time.Minute // between two passes
	readRetry  = time.Second // between two looks whether what an earlier role reads has been read
	forever    = 24 * time.Hour
)

// scrubbing is what a node knows of its log as the disk has it, whatever its roles.
type scrubbing struct {
	mu       sync.Mutex
	faults   []wal.Fault // found and not repaired
	unsaved  bool        // the control file does not say so yet
	segno    uint64      // that is read; 0: a pass has ended
	rest     time.Time   // until when none begins
	reading  bool        // something is being read, by a role that may have ended
	passes   int64
	passed   time.Time // when the last pass ended
	checked  int64     // bytes
	found    int64     // faults
	repaired int64
	event    string // the last thing to be said of a fault

	suspects chan wal.LSN // of records that a member has refused
}

// suspect has the scrubber look at the record at at. While it looks at another one nothing is done: whoever refused it
// asks for it again.
func (s *scrubbing) suspect(at wal.LSN) {
	select {
	case s.suspects <- at:
	default:
	}
}

// scrub reads the log again and repairs what it finds, until ctx ends.
func (r *reign) scrub(ctx context.Context) error {
	n := r.node
	s := newScrubber(r)
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.drop()
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
		case at := <-n.scrubbing.suspects:
			if err := s.inspect(ctx, at); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// A scrubber is the scrubbing of one reign.
type scrubber struct {
	r     *reign
	state *scrubbing

	mend       func(context.Context, wal.Fault) (how string, err error) // gets what a fault spoils from another member
	checkpoint func(context.Context) error
	closeUp    func(context.Context, wal.Fault) error // ends the segment that is being written, if a fault lies there
	replace    func()                                 // has a base copy take the place of this node's data

	rate   int64         // as of the last reading; -1: there was none
	pass   *wal.Scrubber // nil between two passes
	readAt time.Time     // when it may go on

	mended wal.LSN // where the last repair was

	tendAt   time.Time     // when faults are looked at again
	askAt    time.Time     // when others are asked for them again
	askPause time.Duration // how long that was after the time before
	lacking  time.Time     // since when this node's recovery reads what is damaged; zero: it does not
	warned   bool          // that there is no room for the list

	inspected   uint64    // the segment that was suspected last
	inspectedAt time.Time // when
}

func newScrubber(r *reign) *scrubber {
	s := &scrubber{r: r, state: &r.node.scrubbing, rate: -1}
	s.checkpoint, s.closeUp, s.replace = r.checkpointer.Request, r.closeUp, r.replaceByCopy
	s.mend = func(ctx context.Context, f wal.Fault) (string, error) {
		return r.node.mend(ctx, r.found.Dir, r.found.History, f, s.r.writing())
	}
	return s
}

// next does the next small thing, and says how long to wait before the one after. An error ends the process.
func (s *scrubber) next(ctx context.Context, rate int64) (pause time.Duration, err error) {
	if ctx.Err() != nil {
		return forever, nil
	}
	if err := s.tend(ctx); err != nil {
		return 0, err
	}
	pause, err = s.read(ctx, rate)
	return min(pause, s.untilTend()), err
}

// read reads a little, if it is time for that, and says how long to wait. Who changes the rate is shown at once what it
// is like: the next pass begins.
func (s *scrubber) read(ctx context.Context, rate int64) (pause time.Duration, err error) {
	if s.rate != rate && s.rate >= 0 {
		s.readAt = time.Time{}
		s.state.setRest(time.Time{})
	}
	s.rate = rate
	if rate == 0 {
		return forever, nil
	}
	if wait := time.Until(s.readAt); wait > 0 {
		return wait, nil
	}
	if s.state.isReading() {
		return readRetry, nil
	}
	if s.pass == nil {
		if wait := s.begin(); s.pass == nil {
			return wait, nil
		}
	}
	n, err := s.step(ctx)
	if err != nil || s.pass == nil {
		return 0, err
	}
	pause = time.Duration(float64(n) / float64(rate) * float64(time.Second))
	s.readAt = time.Now().Add(pause)
	return pause, nil
}

// again has the pass go back to a fault.
func (s *scrubber) again(f wal.Fault) {
	first, _ := f.Segments(s.r.found.Dir.Format.SegmentSize)
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if s.state.segno == 0 || first < s.state.segno {
		s.state.segno = first
		s.drop()
	}
}

// drop ends reading.
func (s *scrubber) drop() {
	if s.pass == nil {
		return
	}
	if err := s.pass.Close(); err != nil {
		s.r.node.log.Warn("close a segment", "err", err)
	}
	s.pass = nil
}

// inspectRate is how fast a suspected segment is read, in bytes per second: somebody waits for it.
const inspectRate = 32 << 20

// inspect reads the segment of a record that a member has refused, and the next one, in which the record may
// end. It does so once a minute at the most, should nothing be wrong with it here.
func (s *scrubber) inspect(ctx context.Context, at wal.LSN) error {
	dir := s.r.found.Dir
	segno := dir.Format.SegmentSize.Segno(at)
	if at >= s.r.flushed().Load() || s.state.isReading() || segno == s.inspected && time.Since(s.inspectedAt) < repairRetryMax {
		return nil
	}
	s.inspected, s.inspectedAt = segno, time.Now()
	before := s.pass
	s.pass = wal.NewScrubber(dir, s.r.found.History, segno)
	defer func() { s.drop(); s.pass = before }()
	for s.pass.Segno() <= segno+1 {
		r, ok := s.readSome(ctx)
		switch {
		case !ok:
			return nil
		case r.err != nil:
			s.r.node.log.Warn("cannot read the log again where a member refused it", "at", at, "err", r.err)
			return nil
		case r.fault != nil:
			if err := s.found(ctx, *r.fault); err != nil {
				return err
			}
		case r.n == 0:
			return nil
		}
		select {
		case <-time.After(time.Duration(r.n) * time.Second / inspectRate):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// begin begins a pass: where the one before was broken off, or with the oldest segment there is, or not yet: then it
// says how long to wait.
func (s *scrubber) begin() (wait time.Duration) {
	dir, h := s.r.found.Dir, s.r.found.History
	oldest, ok, err := dir.Oldest(h)
	if err != nil {
		s.r.node.log.Warn("cannot read the log again: will try later", "err", err)
	}
	if err != nil || !ok {
		return scrubPause
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if wait = time.Until(s.state.rest); s.state.segno == 0 && wait > 0 {
		return wait
	}
	s.state.segno = max(oldest, s.state.segno)
	s.pass = wal.NewScrubber(dir, h, s.state.segno)
	return 0
}

// A reading is what has come of reading a little.
type reading struct {
	n     int
	fault *wal.Fault
	err   error
}

// readSome reads a little, or gives up when the role ends: a disk may keep who reads waiting for longer than a failover
// may wait. Nothing comes of what is read then, and nobody reads before that has ended.
func (s *scrubber) readSome(ctx context.Context) (r reading, ok bool) {
	pass, limit, done := s.pass, s.r.flushed().Load(), make(chan reading)
	s.state.setReading(true)
	go func() {
		n, fault, err := pass.Step(limit)
		s.state.setReading(false)
		select {
		case done <- reading{n, fault, err}:
		case <-ctx.Done():
			pass.Close()
		}
	}()
	select {
	case r := <-done:
		return r, true
	case <-ctx.Done():
		s.pass = nil
		return r, false
	}
}

func (s *scrubbing) setReading(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = on
}

func (s *scrubbing) isReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reading
}

// step reads a little. At the end of a pass there is none any more.
func (s *scrubber) step(ctx context.Context) (n int, err error) {
	r, ok := s.readSome(ctx)
	if !ok {
		return 0, nil
	}
	n, fault, err := r.n, r.fault, r.err
	st := s.state
	st.mu.Lock()
	st.checked += int64(n)
	st.segno = s.pass.Segno()
	st.mu.Unlock()
	_, removed := errors.AsType[*wal.RemovedError](err)
	switch {
	case removed: // a checkpoint was faster
		s.end(0)
	case err != nil:
		s.r.node.log.Warn("cannot read the log again: will try later", "err", err)
		s.end(scrubPause)
	case fault != nil:
		return n, s.found(ctx, *fault)
	case n == 0:
		s.end(scrubPause)
		st.mu.Lock()
		defer st.mu.Unlock()
		st.passes, st.passed = st.passes+1, time.Now()
	}
	return n, nil
}

// end ends a pass. The next one begins with the oldest segment, after a pause.
func (s *scrubber) end(pause time.Duration) {
	s.pass = nil
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.segno, s.state.rest = 0, time.Now().Add(pause)
}

func (s *scrubbing) setRest(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = until
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
		repaired, err := s.repairAtOnce(ctx, f)
		if err != nil {
			return err
		}
		if repaired {
			s.pass.Mended(f)
			return nil
		}
		s.passBy(ctx, f)
		s.r.doubt()
	}
	s.pass.Skip(f)
	return nil
}

// repairAtOnce repairs what has just been found, unless it was just repaired: a disk that garbles what is written to it
// would have that done without end.
func (s *scrubber) repairAtOnce(ctx context.Context, f wal.Fault) (done bool, err error) {
	now := time.Now()
	s.tendAt = now.Add(repairRetry)
	if f.From == s.mended {
		s.askAt = now.Add(s.askPause)
		return false, nil
	}
	s.askAt, s.askPause = s.tendAt, 0
	return s.repair(ctx, f, true)
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
