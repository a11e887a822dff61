package election

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A vigil is the watch over one primary: over the process that Raft named, at the address it has.
type vigil struct {
	epoch   uint64
	office  raftlog.Office
	address string
	since   time.Time
	tries   int // this and those before it that did not open their epoch

	seen chan sighting // from the goroutine that probes
	stop func()        // ends it, and waits for that

	// Owned by the goroutine that leads.
	heard    time.Time // it answered last, or since
	took     bool      // it has been in office
	gone     int       // times in a row that nobody was there
	failures int       // times in a row without its answer
}

// A sighting is what came of one probe.
type sighting struct {
	health Health
	err    error
}

// gone reports whether the sighting says that the process is not there: nobody listens at its address,
// or somebody else does.
func (s sighting) gone(office raftlog.Office) bool {
	return Gone(s.err) || s.err == nil && s.health.ID != office.ID
}

// maxTries bounds the patience with primaries that do not take office, in failover_timeouts.
const maxTries = 8

// A verdict is what a vigil makes of a sighting.
type verdict int

const (
	fine   verdict = iota // or not known to be otherwise yet
	silent                // no answer for failover_timeout
	dead                  // certainly not in office
)

// watch waits for the next thing to happen while somebody is named, and begins a failover if that is
// that the primary is not there.
func (c *Coordinator) watch(ctx context.Context, s *raftlog.State, changed <-chan struct{}) {
	v := c.keepVigil(ctx, s)
	if v == nil {
		c.suspect(ctx, s, "it is no member any more")
		return
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case o := <-c.orders:
		c.obey(ctx, o)
	case seen := <-v.seen:
		c.weigh(ctx, s, v, seen)
	}
}

// weigh acts on a sighting of the primary.
func (c *Coordinator) weigh(ctx context.Context, s *raftlog.State, v *vigil, seen sighting) {
	timeout := c.failoverTimeout()
	verdict, why := v.judge(seen, time.Now(), timeout)
	if seen.err == nil && seen.health.InOffice && seen.health.ID == v.office.ID && c.reach.Compare(seen.health.Position) < 0 {
		c.reach = seen.health.Position
	}
	switch verdict {
	case dead:
		c.suspect(ctx, s, why)
	case silent:
		c.inquire(ctx, s, why)
	default:
		c.isolated.reset()
		c.sayWatching(s)
	}
}

// inquire asks the others about a primary that is silent. A standby that hears of it speaks for it. If
// too few of them answer for a failover, it may be this node that is cut off, though Raft reaches it: it
// would only depose the primary, and another one may see more.
func (c *Coordinator) inquire(ctx context.Context, s *raftlog.State, why string) {
	hears, answered := c.survey(ctx, s)
	switch {
	case ctx.Err() != nil:
	case hears != "":
		c.say(fmt.Sprintf("%s does not answer, but %s streams from it", s.Primary.Name, hears))
	case answered < raftlog.Majority(s):
		c.say(fmt.Sprintf("%s does not answer, and %d of %d members do, too few for a failover: this node may be cut off",
			s.Primary.Name, answered, len(s.Members)))
		c.giveUp(ctx, s, &c.isolated, tooFew)
	default:
		c.suspect(ctx, s, why)
	}
}

func (c *Coordinator) sayWatching(s *raftlog.State) {
	if s.Phase == raftlog.Opening {
		c.say(fmt.Sprintf("waiting for %s to open epoch %d", s.Primary.Name, s.Epoch))
	} else {
		c.say("watching " + s.Primary.Name)
	}
}

// suspect begins a failover, unless the state has changed meanwhile.
func (c *Coordinator) suspect(ctx context.Context, s *raftlog.State, why string) {
	c.seal(ctx, s, 0, s.Primary.Name+": "+why)
}

// judge decides on a sighting.
//
// A process that is gone, was started again or has left office is done with at once: it never goes on
// with its epoch. One that is silent has failover_timeout for an answer; then more than one probe must
// have gone unanswered, since it may be this node that stood still. One that has not taken office yet
// has as long for that, and longer each time that nobody made it: else a cluster that is slow would
// never get there.
func (v *vigil) judge(seen sighting, now time.Time, timeout time.Duration) (verdict, string) {
	switch {
	case seen.gone(v.office):
		v.gone++
		v.failures++
		if v.gone > 1 {
			return dead, "the process is gone"
		}
		return fine, ""
	case seen.err != nil:
		v.gone = 0
		v.failures++
		if v.failures > 1 && now.Sub(v.heard) >= timeout {
			return silent, fmt.Sprintf("no answer for %v", timeout)
		}
		return fine, ""
	}
	v.heard, v.gone, v.failures = now, 0, 0
	switch h := seen.health; {
	case h.RunID != v.office.RunID:
		return dead, "the process was started again"
	case h.InOffice && h.Epoch == v.epoch:
		v.took = true
		return fine, ""
	case v.took:
		return dead, "it has left office"
	}
	if patience := timeout * time.Duration(min(v.tries, maxTries)); now.Sub(v.since) >= patience {
		return dead, fmt.Sprintf("it did not take office within %v", patience)
	}
	return fine, ""
}

// keepVigil returns the watch over the primary of a state, begun if need be; nil if that is no member.
func (c *Coordinator) keepVigil(ctx context.Context, s *raftlog.State) *vigil {
	m, ok := s.Member(s.Primary.ID)
	if !ok {
		c.relax()
		return nil
	}
	if v := c.vigil; v != nil {
		if v.epoch == s.Epoch && v.office == s.Primary && v.address == m.Address {
			return v
		}
		c.relax()
	}
	ctx, cancel := context.WithCancel(ctx)
	v := newVigil(s, m, time.Now())
	var wg sync.WaitGroup
	wg.Go(func() { c.probe(ctx, v) })
	v.stop = func() { cancel(); wg.Wait() }
	c.vigil = v
	return v
}

// newVigil begins a watch over the primary of a state, which is m.
func newVigil(s *raftlog.State, m raftlog.Member, now time.Time) *vigil {
	v := &vigil{
		epoch: s.Epoch, office: s.Primary, address: m.Address, since: now, heard: now, seen: make(chan sighting),
	}
	for _, r := range s.History {
		if r.Epoch > s.SteadyEpoch {
			v.tries++
		}
	}
	v.tries = max(v.tries, 1)
	return v
}

// relax ends the watch over the primary.
func (c *Coordinator) relax() {
	if c.vigil != nil {
		c.vigil.stop()
		c.vigil = nil
	}
}

// probe asks the primary how it is, again and again, until ctx ends.
func (c *Coordinator) probe(ctx context.Context, v *vigil) {
	for ctx.Err() == nil {
		var seen sighting
		seen.health, seen.err = c.ask(ctx, v.address)
		select {
		case <-ctx.Done():
			return
		case v.seen <- seen:
		}
		wait := probeEvery
		if seen.gone(v.office) {
			wait = probeAgain
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-c.cfg.Hint:
		}
		t.Stop()
	}
}

// ask asks a process how it is, and waits for a quarter of failover_timeout.
func (c *Coordinator) ask(ctx context.Context, address string) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.failoverTimeout()/4, probeTimeoutMin))
	defer cancel()
	return c.cfg.Peers.Probe(ctx, address, ProbeRequest{})
}

// survey asks all but the primary how they are. It returns the name of a standby that has heard of the
// primary of the present epoch within failover_timeout, "" if there is none, and how many of those who
// count have answered.
func (c *Coordinator) survey(ctx context.Context, s *raftlog.State) (hears string, answered int) {
	timeout := c.failoverTimeout()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, m := range s.Members {
		if m.ID == s.Primary.ID {
			continue
		}
		wg.Go(func() {
			h, err := c.ask(ctx, m.Address)
			if err != nil || h.ID != m.ID {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if m.Counted {
				answered++
			}
			if h.hears(m.ID, s.Epoch, timeout) {
				hears = m.Name
				cancel() // no need to wait for the others
			}
		})
	}
	wg.Wait()
	return hears, answered
}

// hears reports whether this is how a member is that has heard of the primary of an epoch lately.
func (h Health) hears(id syncrep.ID, epoch uint64, lately time.Duration) bool {
	return h.ID == id && h.StreamEpoch == epoch && h.StreamSilence >= 0 && h.StreamSilence < lately
}
