package election

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// A core is a cluster in which everything that decides is what runs in production: the state machine of
// Raft, the coordinator's choice and its watch, the keeper of the rule with the group that releases commits, the
// duty of each process, promises, histories, read leases. What does not decide is a model of a few lines: the log
// on a disk is a list of records, a connection is a step that is taken or is not, Raft is a list of states.
//
// One goroutine does one event after the other, in the virtual time of a bubble, and nothing happens between
// two events. So a list of events is a run, always the same one, and any part of the list is a run, too.
type core struct {
	coreConfig
	nodes   []*coreNode
	raft    []*raftlog.State  // all that was agreed on, one after the other
	late    []raftlog.Command // proposed without an answer: they may be agreed on yet, in any order
	blocked map[[2]int]bool   // from, to: what is sent gets lost
	fall    raftlog.Fallback
	process uint64 // the last run ID
	serial  uint64 // of the last record
	wiped   bool

	// What must hold, see core_check_test.go.
	shown   []coreRecord         // all that was ever released or shown
	start   []coreRecord         // the log with which the last epoch was named
	owners  map[uint64]uint64    // by epoch: the process that wrote its records
	written map[corePlace]uint64 // by epoch and place: what was written there
	unknown []coreRecord         // commits whose wait ended early
	known   map[uint64]int       // by chain: the place of each record
	stale   bool                 // who could be promoted has to be judged again
	judged  int                  // sets of sealed members that were judged
	wrong   string               // the first thing that did not hold
	met     map[string]int       // rare states that were reached
	tracing bool                 // trace is wanted
	trace   []string             // what happened
	doing   string               // the event under way
	began   time.Time            // virtual
	liar    *coreNode            // a crash takes what its disk has reported: see TestCoreFindsALyingDisk
}

// A coreConfig is how a cluster is in the beginning.
type coreConfig struct {
	members int
	text    string  // synchronous_standby_names
	witness bool    // the last member is one
	degrade bool    // commits do not wait for long
	drift   float64 // every other clock is faster by so much
}

// A coreRecord is one record of a log. Chain stands for it and for all before it.
type coreRecord struct{ epoch, chain uint64 }

type corePlace struct {
	epoch uint64
	index int
}

// A coreNode is a member: what is on its disk, and what its process knows.
type coreNode struct {
	n    int
	id   syncrep.ID
	rate float64 // of its clock: 1, or more

	// On disk. LSN n is the end of the n-th record.
	log     []coreRecord
	flushed int
	applied int // by the store: what was shown here
	history wal.History
	control startup.Control

	// Of the process.
	up      bool
	runID   uint64
	seen    int // of core.raft, the state that this node has
	horizon int
	reigned uint64
	leases  *walreceiver.Leases
	duty    Duty
	reign   *coreReign // in office
	link    *coreLink  // to its primary

	// What makes it a coordinator, which it may be at any time.
	coordinator *Coordinator
	ballot      *ballot
	target      uint64 // that the ballot is for
	vigil       *vigil
}

// A coreReign is a node's time as primary.
type coreReign struct {
	epoch   uint64
	first   wal.LSN
	group   *syncrep.Group
	keeper  *Keeper
	opened  bool
	links   []*coreLink
	waiting []coreRecord // commits that are not released
	until   time.Time    // when a proposal without an answer is given up; zero: there is none
}

// A coreLink is the stream from a primary to a member, which either end may give up before the other knows.
type coreLink struct {
	reign  *coreReign
	member *coreNode
	run    uint64 // of the member's process
	id     syncrep.ID
	handle *syncrep.Handle
	caught bool
	asked  time.Time // when a promise was asked for; zero: it was not
	report *coreReport
}

// A coreReport is on its way to the primary.
type coreReport struct {
	flush, apply wal.LSN
	until        time.Time // a promise of the read lease; zero: none
}

func newCore(cfg coreConfig) *core {
	c := &core{
		coreConfig: cfg, blocked: make(map[[2]int]bool), owners: make(map[uint64]uint64), written: make(map[corePlace]uint64),
		known: make(map[uint64]int), met: make(map[string]int), began: time.Now(),
	}
	if cfg.degrade {
		c.fall = raftlog.Fallback{Degrade: true, After: time.Second}
	}
	for i := range cfg.members {
		n := &coreNode{n: i, id: id(i + 1), rate: 1 + cfg.drift*float64(i%2), history: wal.History{Timeline: 1}, control: startup.Control{Epoch: 1}}
		c.nodes = append(c.nodes, n)
		c.startProcess(n)
	}
	c.found()
	first := c.record(nil, 1, c.nodes[0].runID)
	for _, n := range c.nodes {
		n.log, n.flushed, n.applied, n.horizon = []coreRecord{first}, 1, 1, 1
		n.seen = len(c.raft) - 1
		c.turn(n)
	}
	c.shown = c.nodes[0].log
	return c
}

// found makes a cluster whose members all count.
func (c *core) found() {
	s := &raftlog.State{}
	agree := func(command raftlog.Command) {
		next, err := s.Apply(s.Index+1, command)
		if err != nil {
			panic(err)
		}
		s = next
	}
	agree(&raftlog.Init{SystemID: 7, Member: c.member(c.nodes[0]), RunID: c.nodes[0].runID, Text: c.text, Timeline: 1})
	var all []syncrep.ID
	for i, n := range c.nodes {
		if all = append(all, n.id); i > 0 {
			agree(&raftlog.Join{Member: c.member(n)})
			agree(&raftlog.Ready{ID: n.id, RaftID: c.member(n).RaftID})
		}
	}
	rule, err := raftlog.Resolve(c.text, c.nodes[0].id, s.Members, func(raftlog.Member) bool { return true })
	if err != nil {
		panic(err)
	}
	agree(&raftlog.RuleBegin{Epoch: 1, Version: 1, Rule: raftlog.Rule{Text: c.text, Resolved: rule}, Counted: all})
	agree(&raftlog.RuleEnd{Epoch: 1, Version: 2})
	c.raft = []*raftlog.State{s}
}

// member is how a node joins.
func (c *core) member(n *coreNode) raftlog.Member {
	name := n.name()
	return raftlog.Member{
		Name: name, ID: n.id, RaftID: fmt.Sprintf("%s-%d", name, n.id.Incarnation), Address: name,
		Zone: zone(n.n + 1), Priority: 100, Witness: c.witness && n.n == c.members-1,
	}
}

func (n *coreNode) name() string { return fmt.Sprintf("n%d", n.n+1) }

// startProcess begins a process on a node.
func (c *core) startProcess(n *coreNode) {
	c.process++
	n.up, n.runID, n.reigned, n.duty = true, c.process, 0, Duty{}
	n.horizon = n.applied // all that it knows of it (I7)
	n.leases = walreceiver.NewLeases()
	n.coordinator = NewCoordinator(CoordinatorConfig{Name: n.name()})
	n.ballot, n.vigil, n.link, n.reign = nil, nil, nil, nil
}

// now is what the cluster has agreed on; view what a node has of it.
func (c *core) now() *raftlog.State             { return c.raft[len(c.raft)-1] }
func (c *core) view(n *coreNode) *raftlog.State { return c.raft[n.seen] }
func (c *core) node(id syncrep.ID) *coreNode    { return c.nodes[id.Node-1] } // by its number: where it would be
func (c *core) open(from, to *coreNode) bool    { return !c.blocked[[2]int{from.n, to.n}] }
func (c *core) talk(a, b *coreNode) bool        { return a.up && b.up && c.open(a, b) && c.open(b, a) }
func (c *core) reach(what string)               { c.met[what]++ }
func (c *core) position(n *coreNode) wal.LSN    { return wal.LSN(n.flushed) }
func (n *coreNode) ends(at int) raftlog.Position {
	return raftlog.Position{Epoch: n.epochAt(at), LSN: wal.LSN(at)}
}

// epochAt is the epoch of the last record of a log that ends at a place, 0 if it is empty.
func (n *coreNode) epochAt(at int) uint64 {
	if at == 0 {
		return 0
	}
	return startup.EpochAt(n.history, wal.LSN(at))
}

// record is the next one of a log, which a process writes in its epoch.
func (c *core) record(log []coreRecord, epoch, run uint64) coreRecord {
	c.serial++
	r := coreRecord{epoch: epoch, chain: c.serial}
	place := corePlace{epoch, len(log)}
	if owner, ok := c.owners[epoch]; ok && owner != run {
		c.fail("epoch %d is written by process %d and by process %d", epoch, owner, run)
	}
	if was, ok := c.written[place]; ok && was != r.chain {
		c.fail("two records of epoch %d at %d", epoch, len(log)+1)
	}
	c.owners[epoch], c.written[place], c.known[r.chain] = run, r.chain, len(log)+1
	return r
}

// quorate reports whether a node is in touch with a majority of Raft's voters.
func (c *core) quorate(n *coreNode) bool {
	voters, touched := 0, 0
	for _, m := range c.now().Members {
		if !m.Voter {
			continue
		}
		voters++
		if o := c.node(m.ID); o.id == m.ID && (o == n && n.up || o != n && c.talk(n, o)) {
			touched++
		}
	}
	return touched > voters/2
}

// The outcomes of a proposal, if the cluster can agree on it at all.
const (
	answered   = iota // agreed on, and its author knows
	unanswered        // agreed on, and its author never hears
	lost
	underWay // it may be agreed on later, or never
	outcomes
)

// propose has a node ask for a command. It reports whether there was an answer, and what that is.
func (c *core) propose(n *coreNode, command raftlog.Command, outcome int) (known bool, err error) {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", command), "*raftlog.")
	switch {
	case outcome == underWay:
		c.note("%s proposes %s, which is under way", n.name(), kind)
		c.late = append(c.late, command)
		return false, nil
	case outcome == lost || !c.quorate(n):
		c.note("%s proposes %s, which gets lost", n.name(), kind)
		return false, nil
	}
	err = c.agree(command)
	c.note("%s proposes %s: %v", n.name(), kind, err)
	if outcome == unanswered {
		return false, nil
	}
	n.seen = len(c.raft) - 1
	return true, err
}

// agree has the state machine take a command.
func (c *core) agree(command raftlog.Command) error {
	before := c.now()
	next, err := before.Apply(before.Index+1, command)
	if err != nil {
		c.reach("Raft refuses a command")
		return err
	}
	c.raft = append(c.raft, next)
	c.stale = true
	c.agreed(before, next, command)
	return nil
}

// mandate is a switchover to a member, as far as the choice goes.
func mandate(to syncrep.ID) *order {
	return &order{ctx: context.Background(), planned: true, target: to}
}

// note keeps what happened, if anybody wants to know.
func (c *core) note(format string, args ...any) {
	if c.tracing {
		c.trace = append(c.trace, fmt.Sprintf("%8s  %s", time.Since(c.began).Round(time.Millisecond), fmt.Sprintf(format, args...)))
	}
}

// String is the cluster as it is: what Raft holds, and each node's log, F flushed, A applied, H horizon, P promise.
func (c *core) String() string {
	s := c.now()
	var b strings.Builder
	fmt.Fprintf(&b, "Raft: epoch %d %s, primary %s, target %d, rule %s\n", s.Epoch, s.Phase, s.Primary.Name, s.Target, describe(s))
	fmt.Fprintf(&b, "shown up to %d: %s\n", len(c.shown), epochs(c.shown))
	for _, n := range c.nodes {
		role := "down"
		switch {
		case n.up && n.reign != nil:
			role = fmt.Sprintf("primary of %d", n.reign.epoch)
		case n.up:
			role = "follows " + n.duty.Upstream.Name
		}
		fmt.Fprintf(&b, "%s %-12s [%s] F%d A%d H%d P%d, of Raft %d of %d\n",
			n.name(), role, epochs(n.log), n.flushed, n.applied, n.horizon, n.control.PromisedEpoch, n.seen, len(c.raft)-1)
	}
	return b.String()
}

// epochs prints a log as runs of the epochs of its records: 1x3 2x1.
func epochs(log []coreRecord) string {
	var runs []string
	for len(log) > 0 {
		n := slices.IndexFunc(log, func(r coreRecord) bool { return r.epoch != log[0].epoch })
		if n < 0 {
			n = len(log)
		}
		runs = append(runs, fmt.Sprintf("%dx%d", log[0].epoch, n))
		log = log[n:]
	}
	return strings.Join(runs, " ")
}
