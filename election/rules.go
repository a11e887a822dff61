package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Raft is what a keeper needs of the cluster's agreement: a *raftlog.Node.
type Raft interface {
	// Watch returns the state as this node has it, and a channel that is closed when there is a newer one.
	Watch() (*raftlog.State, <-chan struct{})

	// Propose asks for a change and returns once it is applied here. An error other than the state
	// machine's own says that the outcome is unknown: the change may still be applied, at any time.
	Propose(ctx context.Context, c raftlog.Command) (*raftlog.State, error)
}

// A KeeperConfig is what a primary tells its keeper. The functions are called by the goroutine that
// runs the keeper, and must not block.
type KeeperConfig struct {
	Raft  Raft
	Group *syncrep.Group // new in this epoch, and set by nobody else

	Epoch uint64     // the reign
	RunID uint64     // the process that Raft named for it
	Self  syncrep.ID // the primary

	First     wal.LSN       // end of the epoch's first record; 0 where the cluster was founded in it
	LeaseWait time.Duration // from Run on: until the read leases of older epochs have run out

	Text      func() string           // synchronous_standby_names as it is wanted now
	Fallback  func() raftlog.Fallback // what is done when it cannot be met; nil: commits wait
	Pending   func() bool             // there are commits that are not released; nil: there always are
	Streaming func() []syncrep.ID     // the members whose streams have caught up
	RuleUsed  func()                  // the group has other rules than before; may be nil
	Opened    func()                  // once: Raft holds the epoch as steady
	Deposed   func(epoch uint64)      // once: Raft holds that later epoch, or collects promises for it
	Logger    *slog.Logger            // nil: none
}

// How long things take. They weigh patience against availability; none of them matters for safety.
const (
	proposeTimeout = 5 * time.Second        // of one proposal: without a majority of Raft it takes that long
	proposePause   = time.Second            // after one that failed, unless the state changes before
	openPause      = time.Second            // until an opening rule that nobody meets is replaced
	changeSettle   = 500 * time.Millisecond // how long another rule is wanted before it is proposed,
	urgentSettle   = 100 * time.Millisecond // and that is enough while commits wait
	jointTimeout   = 5 * time.Second        // until a change that holds up commits is called off,
	jointPoll      = 50 * time.Millisecond  // how often is looked whether the new rule is met
	lookAgain      = time.Second            // how often is looked whether it can be now
	backOffMin     = 10 * time.Second       // and not begun again before this has passed,
	backOffMax     = 5 * time.Minute        // twice as long each time, at most this
)

// ErrDeposed says that the reign has ended.
var ErrDeposed = errors.New("election: a later epoch has begun, or is about to")

// A Keeper keeps the rule of one reign: it tells the group what Raft holds, and Raft what is wanted
// and what the group has confirmed. Two orders make it safe (invariants I1 and I2):
//
//   - A rule is used only when Raft holds it. Everything that is released from then on satisfies it.
//   - What a proposal relies on was true under the very rules that the group has: the epoch is steady
//     once its first record is held under the opening rule, and a new rule stands alone once all that
//     was ever released is held under it.
//
// Without a majority of Raft proposals come to nothing, the rules stay as they are, and commits go on
// (I10).
type Keeper struct {
	cfg  KeeperConfig
	kick chan struct{}

	// Owned by Run.
	began    time.Time
	force    inForce
	counted  []syncrep.ID // as the group knows them
	opened   bool
	seen     uint64     // index of the state that was looked at last
	proposal chan error // of the one proposal under way, or nil
	failed   failure    // of the last one
	unmet    stopwatch  // the opening rule cannot be met
	differs  stopwatch  // another rule is wanted
	blocked  stopwatch  // the rule cannot be met, and something waits for it
	backOff  backOff
	refused  string // why what is wanted is not proposed, as last logged

	witnesses map[syncrep.ID]wal.LSN // how far the log was when each that did not count was first seen to stream
}

// inForce is what everything the group releases satisfies.
type inForce struct {
	rules []raftlog.Rule // the rule, and its joint partner; or the opening rule
	held  *wal.Position  // how far the log is, under all of them
	joint joint          // the change under way, if there are two
}

// A failure is that of a proposal: it is not made again before the state changes, or a while has passed.
type failure struct {
	index uint64
	again time.Time
}

// NewKeeper returns a keeper, which does nothing before Run.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("epoch", cfg.Epoch)
	return &Keeper{cfg: cfg, kick: make(chan struct{}, 1), witnesses: make(map[syncrep.ID]wal.LSN)}
}

// Kick says that Text, Fallback or Streaming have something new to say.
func (k *Keeper) Kick() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// Run keeps the rule until ctx ends or the reign does: ErrDeposed. The group releases nothing from its
// start on until the epoch is steady, and nothing after ErrDeposed. It runs once.
func (k *Keeper) Run(ctx context.Context) error {
	k.begin(time.Now())
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if k.proposal != nil {
			<-k.proposal
		}
	}()
	for {
		state, changed := k.cfg.Raft.Watch()
		next, err := k.look(state, time.Now())
		if err != nil {
			return err
		}
		if next.propose != nil {
			k.propose(ctx, next.propose)
		}
		if err := k.wait(ctx, changed, next); err != nil {
			return err
		}
	}
}

// begin stops everything (I1): before anything else.
func (k *Keeper) begin(now time.Time) {
	k.cfg.Group.Hold(syncrep.Unbounded)
	k.began = now
}

// look has the group go by a state, and decides what to do next. It waits for nothing. The error says that
// the reign is over.
func (k *Keeper) look(s *raftlog.State, now time.Time) (step, error) {
	k.seen = s.Index
	if epoch, over := k.over(s); over {
		k.cfg.Group.Hold(syncrep.Unbounded)
		k.cfg.Logger.Info("reign is over", "later", epoch, "phase", s.Phase)
		k.cfg.Deposed(epoch)
		return step{}, ErrDeposed
	}
	if k.mine(s) && s.Phase == raftlog.Opening && k.cfg.First == 0 {
		return step{}, fmt.Errorf("epoch %d began with a promotion: its first record must have been written", k.cfg.Epoch)
	}
	k.follow(s)
	return k.decide(s, now), nil
}

// over reports whether the state knows of a later epoch, and which.
func (k *Keeper) over(s *raftlog.State) (epoch uint64, over bool) {
	switch {
	case s.Epoch > k.cfg.Epoch:
		return s.Epoch, true
	case s.Phase == raftlog.Sealing && s.Target > k.cfg.Epoch:
		return s.Target, true
	default:
		return 0, false
	}
}

// mine reports whether the state is of this reign: of this process, too.
func (k *Keeper) mine(s *raftlog.State) bool {
	return s.Epoch == k.cfg.Epoch && s.Primary.ID == k.cfg.Self && s.Primary.RunID == k.cfg.RunID
}

// follow makes the group release by the rules that the state holds, and by no others.
func (k *Keeper) follow(s *raftlog.State) {
	if !k.mine(s) {
		return // this node's Raft log does not reach as far as the reign yet: nothing is released
	}
	if counted := countedIDs(s); !reflect.DeepEqual(counted, k.counted) {
		k.counted = counted
		k.cfg.Group.SetMembers(counted, k.cfg.Self)
	}
	rules := rulesOf(s)
	k.owe(rules)
	k.use(rules)
	k.settle(rules)
	if s.Phase == raftlog.Steady && !k.opened {
		k.opened = true
		k.cfg.Group.Hold(k.cfg.First) // after the rules: it may release at once
		k.cfg.Logger.Info("epoch is steady", "rule", s.Rule.Text, "after", time.Since(k.began))
		k.cfg.Opened()
	}
}

// use tells the group its rules, if they are others than before. They are compared whole: another rule
// may have come and gone in between.
func (k *Keeper) use(rules []raftlog.Rule) {
	if reflect.DeepEqual(rules, k.force.rules) {
		return
	}
	resolved := make([]syncrep.Resolved, len(rules))
	for i, r := range rules {
		resolved[i] = r.Resolved
	}
	view, err := syncrep.ParseRule(rules[0].Text)
	if err != nil {
		// What is shown is then the empty rule. What binds is what was agreed on.
		k.cfg.Logger.Error("agreed rule cannot be read", "text", rules[0].Text, "error", err)
	}
	k.force = inForce{rules: rules, held: k.cfg.Group.SetRules(view, resolved...)}
	if k.cfg.RuleUsed != nil {
		k.cfg.RuleUsed()
	}
	if len(rules) == 2 {
		k.force.joint = k.beginJoint()
	}
	k.unmet, k.differs = stopwatch{}, stopwatch{}
	k.cfg.Logger.Info("rules in force", "rules", rules)
}

// rulesOf are those that acknowledgements satisfy: of an epoch that is not steady, its own alone.
func rulesOf(s *raftlog.State) []raftlog.Rule {
	switch {
	case s.Phase == raftlog.Opening:
		return []raftlog.Rule{*s.Opening}
	case s.Joint != nil:
		return []raftlog.Rule{s.Rule, *s.Joint}
	default:
		return []raftlog.Rule{s.Rule}
	}
}

// A step is what a look at the state led to.
type step struct {
	propose raftlog.Command // nil: nothing
	again   time.Time       // look again then; zero: when something changes
	moved   <-chan struct{} // look again when it is closed; nil: never
}

// decide says what to propose now. It changes nothing but its own memory of time.
func (k *Keeper) decide(s *raftlog.State, now time.Time) step {
	switch {
	case !k.mine(s):
		return step{}
	case k.proposal != nil:
		return step{} // one at a time: its end is waited for
	case s.Index == k.failed.index && now.Before(k.failed.again):
		return step{again: k.failed.again}
	case s.Phase == raftlog.Opening:
		return k.open(s, now)
	case s.Joint != nil:
		return k.endJoint(s, now)
	default:
		next := k.change(s, now)
		if next.propose == nil {
			next = k.degrade(s, now, next)
		}
		return next
	}
}

// propose begins the one proposal under way. It runs on its own, since the state may change meanwhile.
func (k *Keeper) propose(ctx context.Context, c raftlog.Command) {
	k.cfg.Logger.Info("propose", "command", fmt.Sprintf("%T", c), "fields", c)
	done := make(chan error, 1)
	k.proposal = done
	go func() {
		ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		defer cancel()
		_, err := k.cfg.Raft.Propose(ctx, c)
		done <- err
	}()
}

// wait blocks until it is time to look again.
func (k *Keeper) wait(ctx context.Context, changed <-chan struct{}, next step) error {
	var timer <-chan time.Time
	if !next.again.IsZero() {
		t := time.NewTimer(time.Until(next.again))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-k.proposal:
		k.proposed(err, time.Now())
	case <-changed:
	case <-k.kick:
	case <-next.moved:
	case <-timer:
	}
	return nil
}

// proposed takes the end of the proposal under way in.
func (k *Keeper) proposed(err error, now time.Time) {
	k.proposal = nil
	if err != nil {
		k.failed = failure{k.seen, now.Add(proposePause)}
		k.cfg.Logger.Warn("proposal failed", "error", err)
	}
}
