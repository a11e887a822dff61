package election

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A coreAct is a kind of event.
type coreAct uint8

const (
	actPass    coreAct = iota // time passes: N milliseconds
	actWrite                  // the primary A writes N records
	actFlush                  // the primary A flushes
	actStream                 // the standby A and its primary: N records; B: what it reports is late
	actDeliver                // a late report of A arrives
	actPart                   // the stream of A ends; B: its primary notices
	actHear                   // A hears what Raft has agreed on: all, or N entries
	actTurn                   // A acts on its duty
	actLook                   // the keeper of A looks; N: what becomes of its proposal
	actLate                   // the N-th command that was under way is agreed on
	actProbe                  // A, as coordinator, probes the primary
	actSuspect                // A, as coordinator, begins a failover
	actAsk                    // A, as coordinator, asks B to seal
	actDecide                 // A, as coordinator, acts on the answers; N: what becomes of its proposal
	actPrefer                 // A, as coordinator, wants B to be the primary
	actCrash                  // the process of A ends; N: how much of what it had not flushed is there
	actStart                  // a process of A begins
	actWipe                   // A gets an empty disk
	actCut                    // nothing gets from A to B any more
	actMend                   // something does again; B < 0: from everybody to everybody
	actSet                    // synchronous_standby_names is text N
	actLeave                  // A leaves the cluster
	acts
)

var actNames = [acts]string{
	"pass", "write", "flush", "stream", "deliver", "part", "hear", "turn", "look", "late", "probe", "suspect", "ask",
	"decide", "prefer", "crash", "start", "wipe", "cut", "mend", "set", "leave",
}

// A coreEvent is one thing that happens. One that makes no sense in the state it meets does nothing.
type coreEvent struct {
	act     coreAct
	a, b, n int
}

// String prints the event as Go: what a test that replays it needs.
func (e coreEvent) String() string {
	return fmt.Sprintf("{%s %d %d %d}", actNames[e.act], e.a, e.b, e.n)
}

// do has an event happen, and checks everything.
func (c *core) do(e coreEvent) {
	a, b := c.nodes[e.a%len(c.nodes)], c.nodes[max(e.b, 0)%len(c.nodes)]
	c.doing = e.String()
	switch e.act {
	case actPass:
		time.Sleep(time.Duration(e.n) * time.Millisecond)
	case actMend:
		c.mend(a, b, e.b < 0)
	case actCut:
		c.blocked[[2]int{a.n, b.n}] = a != b
	case actLate:
		c.agreeLate(e.n)
	case actSet:
		c.text = texts[e.n%len(texts)]
	case actStart:
		if !a.up {
			c.startProcess(a)
			c.join(a)
		}
	case actDeliver:
		c.deliver(a)
	default:
		if a.up {
			c.doUp(e, a, b)
		}
	}
	c.check()
}

// doUp is do for what only a living process does.
func (c *core) doUp(e coreEvent, a, b *coreNode) {
	switch e.act {
	case actWrite:
		c.write(a, 1+e.n%3)
	case actFlush:
		c.flush(a)
	case actStream:
		c.stream(a, e.n, e.b == 1)
	case actPart:
		c.part(a, e.b == 1)
	case actHear:
		c.hear(a, e.n)
	case actTurn:
		c.turn(a)
	case actLook:
		c.look(a, e.n)
	case actProbe:
		c.probe(a)
	case actSuspect:
		c.suspect(a, "suspected", e.n)
	case actAsk:
		c.ask(a, b)
	case actDecide:
		c.decide(a, e.n)
	case actPrefer:
		a.coordinator.mandate = mandate(b.id)
	case actCrash:
		c.crash(a, e.n)
	case actWipe:
		c.wipe(a)
	case actLeave:
		c.leave(a)
	}
}

func (c *core) write(n *coreNode, records int) {
	if n.reign == nil {
		return
	}
	for range records {
		r := c.record(n.log, n.reign.epoch, n.runID)
		n.log = append(n.log[:len(n.log):len(n.log)], r)
		n.reign.waiting = append(n.reign.waiting, r)
	}
}

func (c *core) flush(n *coreNode) {
	if n.reign != nil {
		n.flushed = len(n.log)
		n.reign.group.LocalFlush(c.position(n))
	}
}

// hear has a node hear of what was agreed on, if it is in touch with those who know.
func (c *core) hear(n *coreNode, entries int) {
	if !c.quorate(n) {
		return
	}
	if last := len(c.raft) - 1; entries == 0 {
		n.seen = last
	} else {
		n.seen = min(n.seen+entries, last)
	}
}

// agreeLate has Raft agree on a command that was under way, whatever has happened since.
func (c *core) agreeLate(i int) {
	if len(c.late) == 0 {
		return
	}
	i %= len(c.late)
	command := c.late[i]
	c.late = slices.Delete(slices.Clone(c.late), i, i+1)
	err := c.agree(command)
	c.reach("a command is agreed on late")
	c.note("agreed on late: %T: %v", command, err)
}

func (c *core) mend(a, b *coreNode, all bool) {
	if all {
		clear(c.blocked)
	}
	delete(c.blocked, [2]int{a.n, b.n})
}

// crash ends a process. What it had not flushed is there, in part, or is not: and then proved (flushed) at the start.
func (c *core) crash(n *coreNode, kept int) {
	n.log = n.log[: n.flushed+kept%(len(n.log)-n.flushed+1) : len(n.log)]
	if n == c.liar {
		n.log = n.log[:max(n.applied, len(n.log)-1)]
		n.history = historyOf(n.history, wal.LSN(len(n.log)))
	}
	n.flushed = len(n.log)
	if n.reign != nil {
		c.dropReign(n)
	}
	n.up, n.duty, n.link = false, Duty{}, nil
	n.seen = max(0, n.seen-kept%4) // Raft's snapshot is all it knows at first
	c.stale = true
	c.note("%s ends with [%s]", n.name(), epochs(n.log))
}

// wipe replaces a disk by an empty one, once, and only where the others can go on without what was on it.
func (c *core) wipe(n *coreNode) {
	if c.wiped || len(c.voters()) < 3 || !c.sound(n.id) {
		return
	}
	c.wiped = true
	c.crash(n, 0)
	fresh := &coreNode{n: n.n, id: n.id, seen: n.seen, history: historyOf(n.history, 0)}
	fresh.id.Incarnation++
	*n = *fresh
	c.stale = true
	c.note("%s has an empty disk", n.name())
}

// join makes a node with a new disk a member.
func (c *core) join(n *coreNode) {
	if _, ok := c.now().Member(n.id); !ok && n.id.Incarnation > 1 {
		old, _ := c.now().Named(n.name())
		if c.propose(n, &raftlog.Join{Member: c.member(n), Replaces: old.ID}, answered); c.quorate(n) {
			c.propose(n, &raftlog.Ready{ID: n.id, RaftID: c.member(n).RaftID}, answered)
		}
	}
}

// voters are the nodes whose disks vote in Raft.
func (c *core) voters() (voters []*coreNode) {
	for _, m := range c.now().Members {
		if n := c.node(m.ID); m.Voter && n.id == m.ID {
			voters = append(voters, n)
		}
	}
	return voters
}

// leave takes a node out of the cluster, unless Raft could lose its majority by it.
func (c *core) leave(n *coreNode) {
	if c.wiped && len(c.voters()) < 4 {
		return
	}
	staying := 0
	for _, m := range c.now().Members {
		if !m.Leaving {
			staying++
		}
	}
	if staying > 2 && n.reign == nil {
		c.propose(n, &raftlog.Leave{ID: n.id}, answered)
	}
}

// probe is a coordinator's look at the primary.
func (c *core) probe(n *coreNode) {
	s := c.view(n)
	m, ok := s.Member(s.Primary.ID)
	if s.Phase == raftlog.Sealing || !ok {
		return
	}
	if v := n.vigil; v == nil || v.epoch != s.Epoch || v.office != s.Primary {
		n.vigil = newVigil(s, m, time.Now())
	}
	p := c.node(m.ID)
	var seen sighting
	switch {
	case p != n && (!c.open(n, p) || !c.open(p, n)):
		seen.err = fmt.Errorf("no answer")
	case !p.up:
		seen.err = syscall.ECONNREFUSED
	default:
		seen.health = Health{ID: p.id, RunID: p.runID, InOffice: p.reign != nil}
		if p.reign != nil {
			seen.health.Epoch = p.reign.epoch
		}
	}
	if verdict, why := n.vigil.judge(seen, time.Now(), testTimeout); verdict != fine {
		c.suspect(n, why, answered)
	}
}

func (c *core) suspect(n *coreNode, why string, outcome int) {
	s := c.view(n)
	c.note("%s suspects %s: %s", n.name(), s.Primary.Name, why)
	c.propose(n, &raftlog.Seal{Epoch: s.Epoch, Target: max(s.Target, s.Epoch+1), Cause: why, By: n.name()}, outcome)
}

// ask is one member's part in a round.
func (c *core) ask(n, m *coreNode) {
	s := c.view(n)
	if s.Phase != raftlog.Sealing || n != m && !c.talk(n, m) {
		return
	}
	if n.ballot == nil || n.target != s.Target {
		n.ballot, n.target = &ballot{asked: s.Members, failed: make(map[syncrep.ID]error)}, s.Target
		n.coordinator.failed, n.coordinator.failedAt = make(map[syncrep.ID]bool), s.Target
	}
	for _, known := range s.Members {
		if known.ID.Node != m.id.Node {
			continue
		}
		answer, err := c.seal(m, s.Target)
		n.ballot.take(response{known, answer, err})
		if err == nil && answer.ID != known.ID {
			c.reach("an answer of another disk is refused (I9)")
		}
		return
	}
}

// decide is the end of a round.
func (c *core) decide(n *coreNode, outcome int) {
	s := c.view(n)
	if s.Phase != raftlog.Sealing || n.ballot == nil || n.target != s.Target {
		return
	}
	m, err := n.coordinator.decide(s, n.ballot)
	switch {
	case err != nil:
		c.reach("a promotion is refused for what it does not prove (I4)")
		return
	case m.target > 0:
		c.propose(n, &raftlog.Seal{Epoch: s.Epoch, Target: m.target, Cause: s.Cause, By: n.name()}, outcome)
		return
	case m.callOff != nil:
		c.propose(n, &raftlog.RuleCancel{Epoch: s.Epoch, Version: m.callOff.Version}, outcome)
		return
	case m.fetches():
		if !c.fetch(n, &m) {
			n.coordinator.failed[m.choice.Winner.ID] = true
			return
		}
	}
	p, err := n.coordinator.promotion(s, n.ballot, m)
	if err != nil {
		c.fail("promotion by %s: %v", n.name(), err)
		return
	}
	if known, err := c.propose(n, p, outcome); known && err != nil {
		c.reach("the state machine refuses what a coordinator proposes")
	}
}

// fetch has the winner get the rest of the log, if both are still sealed for that epoch and it comes out as it was
// agreed on.
func (c *core) fetch(n *coreNode, m *move) bool {
	winner, source := c.node(m.choice.Winner.ID), c.node(m.choice.Source.ID)
	sealed := func(o *coreNode) bool {
		return o.up && o.reign == nil && o.duty.Upstream.ID.IsZero() && o.control.PromisedEpoch == n.target
	}
	if !sealed(winner) || !sealed(source) || !c.talk(winner, source) || !c.open(n, winner) || !c.open(winner, n) {
		return false
	}
	if winner.id != m.choice.Winner.ID || source.id != m.choice.Source.ID {
		return false // it has another disk by now
	}
	if member, _ := c.now().Member(source.id); member.Witness {
		c.reach("a witness had the longest log")
	}
	c.adopt(winner, source)
	winner.log = append(winner.log[:len(winner.log):len(winner.log)], source.log[len(winner.log):source.flushed]...)
	c.followed(winner, source)
	answer := c.answer(winner)
	if answer.ID != m.choice.Winner.ID || answer.RunID != m.choice.Winner.RunID || answer.Position != m.choice.Position {
		return false
	}
	c.reach("a winner fetches the log first")
	n.ballot.add(answer)
	m.choice.Winner = answer
	return true
}
