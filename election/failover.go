package election

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A ballot is what the members answered to one round of seals.
type ballot struct {
	asked   []raftlog.Member
	answers []raftlog.Answer
	failed  map[syncrep.ID]error
}

// A response is one member's answer, or why there is none.
type response struct {
	member raftlog.Member
	answer raftlog.Answer
	err    error
}

// round is one attempt to name a primary for the target epoch: seal, choose, fetch, promote. Nothing
// of it must survive but what is in Raft and on the members' disks. A crash
//
//	after SEAL      leaves members that have promised: the next round asks them again
//	after FETCH     leaves a longer log on one of them, of what was sealed anyway
//	after Promote   leaves a named primary, for the next coordinator to watch
func (c *Coordinator) round(ctx context.Context, s *raftlog.State, wg *sync.WaitGroup) error {
	b := c.collect(ctx, s, wg)
	c.show(s, b)
	m, err := c.decide(s, b)
	switch {
	case err != nil:
		c.letAnotherTry(ctx, s, b)
		return err
	case m.target > 0:
		return c.seal(ctx, s, m.target, s.Cause)
	case m.callOff != nil:
		return c.callOff(ctx, s, m.callOff)
	case m.fetches():
		answer, err := c.fetch(ctx, s, m.choice)
		if err != nil {
			c.failed[m.choice.Winner.ID] = true
			return err
		}
		b.add(answer)
		m.choice.Winner = answer
	}
	return c.promote(ctx, s, b, m)
}

// A move is what the answers of a round lead to, the first of these that is there.
type move struct {
	target  uint64         // somebody has promised this epoch, a later one: it is aimed at
	callOff *raftlog.Rule  // this change of the rule is called off
	choice  raftlog.Choice // this one is named, once it has fetched what it lacks
	loss    loss
}

// fetches reports whether the winner has to get the rest of the log first.
func (m move) fetches() bool { return m.choice.Source.ID != m.choice.Winner.ID }

// decide says what the answers lead to. The error is a *raftlog.Refusal if they do not prove enough.
func (c *Coordinator) decide(s *raftlog.State, b *ballot) (m move, err error) {
	if promised := b.promised(); promised > s.Target {
		return move{target: promised}, nil
	}
	if change := c.hindered(s, b); change != nil {
		return move{callOff: change}, nil
	}
	m.choice, m.loss, err = c.choose(s, b)
	return m, err
}

// hindered is the new rule of a change under way if that alone keeps anybody from being promoted, or nil.
func (c *Coordinator) hindered(s *raftlog.State, b *ballot) *raftlog.Rule {
	before := *s
	before.Joint = nil
	if s.Joint == nil || c.enough(s, b) || !c.enough(&before, b) {
		return nil
	}
	return s.Joint
}

// callOff takes back a change of the rule for good. All that was acknowledged satisfies the old rule, too; and
// the new one does not come to stand alone any more, since the epoch is sealed (hole H9). The next round goes by
// the old one.
func (c *Coordinator) callOff(ctx context.Context, s *raftlog.State, change *raftlog.Rule) error {
	c.cfg.Logger.Warn("call off a change of the rule: nobody could be promoted because of it", "epoch", s.Epoch, "rule", change)
	if err := c.propose(ctx, &raftlog.RuleCancel{Epoch: s.Epoch, Version: change.Version}); err != nil {
		return fmt.Errorf("call off the change of the rule to %q: %w", change.Text, err)
	}
	return nil
}

// letAnotherTry gives up leadership if members have not answered that another one may reach: soon if
// that leaves this node without even a majority, which Raft has, after a while otherwise.
func (c *Coordinator) letAnotherTry(ctx context.Context, s *raftlog.State, b *ballot) {
	counted, beyond := 0, false
	for _, m := range b.asked {
		answered := slices.ContainsFunc(b.answers, func(a raftlog.Answer) bool { return a.ID == m.ID })
		switch {
		case !answered:
			beyond = beyond || c.cfg.Alive(m)
		case m.Counted:
			counted++
		}
	}
	switch {
	case !beyond || c.mandate != nil:
	case counted < raftlog.Majority(s):
		c.giveUp(ctx, s, &c.isolated, tooFew)
	default:
		c.giveUp(ctx, s, &c.stuck, "it does not reach members that are alive")
	}
}

const tooFew = "it reaches too few of the members"

// collect asks all members to seal. It returns when all have answered, when enough have and the others
// were given sealGrace, or when time is up. Members that are slower are still asked: what they promise
// is worth having, whoever is named.
func (c *Coordinator) collect(ctx context.Context, s *raftlog.State, wg *sync.WaitGroup) *ballot {
	c.sayAgain(collecting(s))
	if c.failed == nil || c.failedAt != s.Target {
		c.failed, c.failedAt = make(map[syncrep.ID]bool), s.Target
	}
	b := &ballot{asked: s.Members, failed: make(map[syncrep.ID]error)}
	responses := make(chan response, len(s.Members))
	timeout := c.failoverTimeout()
	for _, m := range s.Members {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			answer, err := c.cfg.Peers.Seal(ctx, m.Address, SealRequest{Epoch: s.Target})
			responses <- response{m, answer, err}
		})
	}
	deadline := time.NewTimer(timeout + sealGrace)
	defer deadline.Stop()
	var grace <-chan time.Time
	for range s.Members {
		select {
		case <-ctx.Done():
			return b
		case <-deadline.C:
			return b
		case <-grace:
			return b
		case r := <-responses:
			b.take(r)
		}
		if grace == nil && c.enough(s, b) {
			t := time.NewTimer(sealGrace)
			defer t.Stop()
			grace = t.C
		}
	}
	return b
}

// enough reports whether the answers so far would do. If loss is accepted none are enough: the more
// answer, the less is lost.
func (c *Coordinator) enough(s *raftlog.State, b *ballot) bool {
	_, err := raftlog.Choose(s, b.answers, "")
	return err == nil
}

// take notes a response. What comes from another disk than the one Raft lists at that address is no
// answer (invariant I9).
func (b *ballot) take(r response) {
	switch {
	case r.err != nil:
		b.failed[r.member.ID] = r.err
	case r.answer.ID != r.member.ID:
		b.failed[r.member.ID] = fmt.Errorf("%s answers at %s, which is another disk", r.answer.Name, r.member.Address)
	default:
		r.answer.Name, r.answer.Priority = r.member.Name, r.member.Priority // as agreed on
		b.add(r.answer)
	}
}

// add notes an answer in place of an earlier one.
func (b *ballot) add(a raftlog.Answer) {
	b.answers = slices.DeleteFunc(b.answers, func(o raftlog.Answer) bool { return o.ID == a.ID })
	b.answers = append(b.answers, a)
}

// promised is the highest epoch that anybody has promised.
func (b *ballot) promised() (epoch uint64) {
	for _, a := range b.answers {
		epoch = max(epoch, a.Promised)
	}
	return epoch
}

// show tells whoever asked for the failover what there is to choose from.
func (c *Coordinator) show(s *raftlog.State, b *ballot) {
	if c.mandate == nil {
		return
	}
	var survivors []Survivor
	for _, m := range b.asked {
		v := Survivor{Name: m.Name, Error: "no answer in time"}
		if err := b.failed[m.ID]; err != nil {
			v.Error = err.Error()
		}
		for _, a := range b.answers {
			if a.ID == m.ID {
				v = Survivor{Name: m.Name, Answered: true, Position: a.Position}
			}
		}
		survivors = append(survivors, v)
	}
	c.mandate.survive(survivors)
}

// A loss is what may be lost by a promotion that was asked for all the same.
type loss struct {
	accepted bool
	bytes    uint64 // that a primary was seen to have flushed, and nobody who answered has
}

// choose decides who is to be named. The error is a *raftlog.Refusal if the answers do not prove enough.
func (c *Coordinator) choose(s *raftlog.State, b *ballot) (raftlog.Choice, loss, error) {
	var l loss
	decide := func(prefer string) (raftlog.Choice, error) {
		choice, err := raftlog.Choose(s, b.answers, prefer)
		if _, refused := errors.AsType[*raftlog.Refusal](err); refused && c.mandate.acceptsLoss() {
			l.accepted = true
			return raftlog.ChooseAcceptingLoss(s, b.answers, prefer)
		}
		return choice, err
	}
	choice, err := decide(c.preferred(s, b))
	if err != nil {
		return choice, l, err
	}
	if c.failed[choice.Winner.ID] && choice.Source.ID != choice.Winner.ID {
		if choice, err = c.another(s, b, choice, decide); err != nil {
			return choice, l, err
		}
	}
	if l.accepted && c.reach.Compare(choice.Position) > 0 && c.reach.LSN > choice.Position.LSN {
		l.bytes = uint64(c.reach.LSN - choice.Position.LSN)
	}
	return choice, l, nil
}

// another chooses in place of a winner that could not fetch the log: somebody who has not failed at
// that yet, or has nothing to fetch. If all have, they begin anew.
func (c *Coordinator) another(s *raftlog.State, b *ballot, choice raftlog.Choice, decide func(string) (raftlog.Choice, error)) (raftlog.Choice, error) {
	for _, a := range b.answers {
		if m, _ := s.Member(a.ID); c.failed[a.ID] || m.Barred() != "" {
			continue
		}
		if other, err := decide(a.Name); err == nil && other.Winner.ID == a.ID {
			return other, nil
		}
	}
	clear(c.failed)
	return choice, nil
}

// preferred is the name of the member that whoever asked for the failover wants: the target, or the
// best one that is not the present primary. Without a wish, or if it has failed, it is "".
func (c *Coordinator) preferred(s *raftlog.State, b *ballot) string {
	switch {
	case c.mandate == nil:
		return ""
	case c.mandate.target != (syncrep.ID{}):
		m, ok := s.Member(c.mandate.target)
		if !ok || c.failed[m.ID] {
			return ""
		}
		return m.Name
	}
	others := slices.DeleteFunc(slices.Clone(b.answers), func(a raftlog.Answer) bool {
		m, _ := s.Member(a.ID)
		return a.ID == s.Primary.ID || m.Barred() != "" || a.Lacking || c.failed[a.ID]
	})
	if len(others) == 0 {
		return ""
	}
	return slices.MaxFunc(others, func(a, b raftlog.Answer) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Damaged, a.Damaged), strings.Compare(b.Name, a.Name))
	}).Name
}

// fetch has the winner get the rest of the log from the member that has it. It returns the winner's new
// answer, which is of the same process and reaches where the new epoch starts (invariant I5).
func (c *Coordinator) fetch(ctx context.Context, s *raftlog.State, choice raftlog.Choice) (raftlog.Answer, error) {
	winner, ok := s.Member(choice.Winner.ID)
	source, known := s.Member(choice.Source.ID)
	if !ok || !known {
		return raftlog.Answer{}, fmt.Errorf("fetch from %s to %s: no members", choice.Source.Name, choice.Winner.Name)
	}
	c.say(fmt.Sprintf("waiting for %s to fetch the log up to %s from %s", winner.Name, choice.Position.LSN, source.Name))
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := c.cfg.Peers.Fetch(ctx, winner.Address, FetchRequest{
		Epoch: s.Target, Source: source.ID, Address: source.Address, Position: choice.Position,
	})
	if err != nil {
		return raftlog.Answer{}, fmt.Errorf("%s could not fetch the log from %s: %w", winner.Name, source.Name, err)
	}
	if answer.ID != winner.ID || answer.RunID != choice.Winner.RunID || answer.Position != choice.Position {
		return raftlog.Answer{}, fmt.Errorf("%s was to fetch the log from %s up to %v and is at %v", winner.Name, source.Name, choice.Position, answer.Position)
	}
	answer.Name, answer.Priority = winner.Name, winner.Priority
	return answer, nil
}

// promote has Raft name the winner. This is the commit point of a failover: the state machine judges
// the answers again, and takes it only for the epoch and target they were collected for.
func (c *Coordinator) promote(ctx context.Context, s *raftlog.State, b *ballot, m move) error {
	p, err := c.promotion(s, b, m)
	if err != nil {
		return err
	}
	winner := m.choice.Winner.Name
	c.say(fmt.Sprintf("naming %s primary of epoch %d", winner, s.Target))
	if err := c.propose(ctx, p); err != nil {
		return fmt.Errorf("name %s primary of epoch %d: %w", winner, s.Target, err)
	}
	c.cfg.Logger.Warn("named a primary", "primary", winner, "epoch", s.Target, "start", p.Position.LSN,
		"cause", s.Cause, "loss_accepted", p.AcceptLoss)
	return nil
}

// promotion is the command that names the winner, which has fetched what it lacked.
func (c *Coordinator) promotion(s *raftlog.State, b *ballot, m move) (*raftlog.Promote, error) {
	rule, err := ruleFor(s, m.choice.Winner.ID, b)
	if err != nil {
		return nil, fmt.Errorf("rule for epoch %d: %w", s.Target, err)
	}
	return &raftlog.Promote{
		Epoch: s.Epoch, Target: s.Target,
		Answers: b.answers, Winner: m.choice.Winner.ID, Position: m.choice.Position, Rule: rule, LeaseWait: m.choice.LeaseWait,
		AcceptLoss: m.loss.accepted, LostBytes: m.loss.bytes,
		Cause: s.Cause, By: c.cfg.Name, Time: time.Now(),
	}, nil
}

// ruleFor works out what the rule means in an epoch of the winner: those that answered stream soon.
func ruleFor(s *raftlog.State, winner syncrep.ID, b *ballot) (raftlog.Rule, error) {
	return raftlog.RuleFor(s, winner, func(m raftlog.Member) bool {
		return slices.ContainsFunc(b.answers, func(a raftlog.Answer) bool { return a.ID == m.ID })
	})
}

// collecting is what a coordinator does while it asks, and asks again.
func collecting(s *raftlog.State) string {
	return fmt.Sprintf("collecting promises of epoch %d (%s)", s.Target, s.Cause)
}

// setback notes why nobody was named in a round.
func (c *Coordinator) setback(s *raftlog.State, err error) {
	lines := []string{err.Error()}
	if refusal, ok := errors.AsType[*raftlog.Refusal](err); ok {
		lines = refusal.Lines
	}
	if c.say(collecting(s), lines...) {
		c.cfg.Logger.Warn("nobody is promoted", "target", s.Target, "why", strings.Join(lines, "; "))
	}
}
