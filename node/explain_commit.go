package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// ExplainCommit implements sql.Explainer: whether the log up to lsn is durable under the rule, who was
// waited for, and what is missing. A standby says what it knows, and where to ask.
func (s *session) ExplainCommit(ctx context.Context, lsn wal.LSN) ([]string, error) {
	if lsn == wal.InvalidLSN {
		return nil, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "0/0 is not the position of a commit").
			WithHint("SHOW longship.last_commit_lsn has that of this session's last one; 0/0 says that there was none.")
	}
	r, err := s.node.present.await(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.commitFacts(lsn)
	if err != nil {
		return nil, clientError(err)
	}
	return c.lines(), nil
}

// commitFacts are what a node knows of the commit whose record ends at lsn: plain values.
type commitFacts struct {
	lsn     wal.LSN
	node    string
	history wal.History
	oldest  wal.LSN // where this node's log begins
	state   *raftlog.State

	// Positions of this node.
	inserted, flushed, horizon, applied wal.LSN

	primaryAddress string // on a standby; "" if there is no primary
	witness        bool   // it keeps no table, and has nothing applied

	primary bool
	rules   []raftlog.Rule // on a primary, in force
	group   syncrep.Snapshot
	silence map[syncrep.Listed]time.Duration // of who streams
	lease   time.Duration                    // how long it lasts; negative if it has lapsed
	shut    bool                             // commits wait for a switchover
}

func (r *reign) commitFacts(lsn wal.LSN) (*commitFacts, error) {
	n := r.node
	c := &commitFacts{
		lsn: lsn, node: n.cfg.Name, history: r.found.History, state: n.raft.State(),
		inserted: r.inserted().Load(), flushed: r.flushed().Load(), horizon: r.horizon.Load(), applied: r.applied.Load(),
		primary: r.primary != nil, primaryAddress: n.primaryAddress(), witness: n.cfg.Witness,
	}
	segments, err := r.found.Dir.Segments()
	if err != nil {
		return nil, err
	}
	if len(segments) > 0 {
		c.oldest = n.identity().SegmentSize.Start(segments[0].Segno)
	}
	if !c.primary {
		return c, nil
	}
	c.silence = map[syncrep.Listed]time.Duration{}
	for _, s := range r.sender.Stats() {
		who := listedAs(s.Name, s.ID)
		if was, twice := c.silence[who]; !twice || s.Silence < was {
			c.silence[who] = s.Silence
		}
	}
	c.lease, c.shut = time.Until(r.primary.group.Lease()), r.primary.gate.isShut()
	c.group = r.primary.group.Snapshot()
	c.rules = rulesInForce(c.state, c.group)
	return c, nil
}

// listedAs is how a rule lists somebody: a member by its disk, a receiver by its name.
func listedAs(name string, id syncrep.ID) syncrep.Listed {
	if id.IsZero() {
		return syncrep.Listed{Name: strings.ToLower(name)}
	}
	return syncrep.Listed{ID: id}
}

// rulesInForce are those that the group goes by, with their texts as Raft has them now.
func rulesInForce(s *raftlog.State, g syncrep.Snapshot) []raftlog.Rule {
	texts := []string{ruleText(s)}
	if s.Joint != nil {
		texts = append(texts, s.Joint.Text)
	}
	var rules []raftlog.Rule
	for i, resolved := range g.Resolved {
		rules = append(rules, raftlog.Rule{Text: texts[min(i, len(texts)-1)], Resolved: resolved})
	}
	return rules
}

// lines are the answer.
func (c *commitFacts) lines() []string {
	lines := append(c.verdict(), c.origin()...)
	switch {
	case !c.primary:
		return append(lines, c.standby())
	case c.lsn > c.inserted:
		return lines
	}
	lines = append(lines, c.levels(), c.own())
	for i, rule := range c.rules {
		lines = append(lines, c.waitedFor(i, rule)...)
	}
	for _, rule := range c.rules {
		lines = append(lines, c.missing(rule)...)
	}
	lines = append(lines, c.unapplied()...)
	return append(lines, c.inTheWay()...)
}

func (c *commitFacts) verdict() []string {
	switch {
	case c.lsn <= c.horizon:
		return []string{fmt.Sprintf("%s is durable under the rule: the horizon is %s", c.lsn, c.horizon)}
	case c.primary && c.lsn > c.inserted:
		return []string{
			fmt.Sprintf("%s lies past the end of the log, %s: no commit has that position yet", c.lsn, c.inserted),
			"a commit that was told this position before a failover has been cut off: see longship_orphans on each node",
		}
	case c.primary:
		return []string{fmt.Sprintf("%s is not durable under the rule: the horizon is %s, %s short", c.lsn, c.horizon, amount(c.lsn-c.horizon))}
	}
	ask := "there is no primary to ask; see longship status"
	if c.primaryAddress != "" {
		ask = fmt.Sprintf("the primary, %s at %s, knows more: ask it", c.state.Primary.Name, c.primaryAddress)
	}
	what := "standby"
	if c.witness {
		what = "witness"
	}
	return []string{
		fmt.Sprintf("%s is not known here to be durable: this is a %s, and the horizon it has heard of is %s, %s short", c.lsn, what, c.horizon, amount(c.lsn-c.horizon)),
		ask,
	}
}

// origin says in which epoch a position was written, if that is over, and whether its WAL is still here.
// Two epochs can have used the same positions: only one of them is part of this log.
func (c *commitFacts) origin() (lines []string) {
	for _, s := range c.history.Switches {
		if c.lsn <= s.At {
			lines = append(lines, fmt.Sprintf("it was written on timeline %d%s; what that timeline had past %s is not part of this log: see longship_orphans", s.Parent, c.reignOf(s.Parent), s.At))
			break
		}
	}
	if c.lsn <= c.oldest {
		lines = append(lines, fmt.Sprintf("its WAL is not kept here any more: the log of %s begins at %s", c.node, c.oldest))
	}
	return lines
}

// reignOf is the epoch and the primary of a timeline, as far as the cluster's history has them.
func (c *commitFacts) reignOf(tli wal.TimelineID) string {
	text := ""
	for _, h := range c.state.History {
		if h.Timeline == tli {
			text = fmt.Sprintf(", epoch %d, by %s", h.Epoch, h.Primary)
		}
	}
	return text
}

func (c *commitFacts) standby() string {
	if c.witness {
		holds := "it holds the log up to there for whoever is to be the primary, and keeps no table"
		if c.lsn > c.flushed {
			holds = fmt.Sprintf("it lacks %s; it keeps the log, and no table", amount(c.lsn-c.flushed))
		}
		return fmt.Sprintf("witness %s: flushed %s; %s", c.node, c.flushed, holds)
	}
	shown := "readers here see it"
	if c.lsn > c.applied {
		shown = fmt.Sprintf("readers here do not see it yet: %s to replay", amount(c.lsn-c.applied))
	}
	return fmt.Sprintf("standby %s: flushed %s, replayed %s; %s", c.node, c.flushed, c.applied, shown)
}

// levels says at which levels of synchronous_commit such a commit is acknowledged by now, and truly so:
// what was let go while the rule had nobody acknowledge anything counts above local once somebody has.
func (c *commitFacts) levels() string {
	met := c.group.Released
	holds := [...]wal.LSN{syncrep.RemoteWrite: max(met.Write, met.Flush), syncrep.On: met.Flush, syncrep.RemoteApply: min(met.Flush, met.Apply)}
	reached, open := []string{syncrep.Off.String()}, []string(nil)
	for level := syncrep.Local; level <= syncrep.RemoteApply; level++ {
		known := level == syncrep.Local || c.lsn > c.group.Bare || holds[level] >= c.lsn && !c.bare()
		if c.lsn <= c.group.Acknowledged[level] && known {
			reached = append(reached, level.String())
		} else {
			open = append(open, level.String())
		}
	}
	line := "synchronous_commit: " + strings.Join(reached, ", ") + " reached"
	if len(open) > 0 {
		line += "; " + strings.Join(open, ", ") + " not yet"
	}
	if c.bare() {
		line += "; since the rule waits for nobody, commits at these are acknowledged at local"
	}
	return line
}

// bare reports whether the rule has nobody acknowledge anything.
func (c *commitFacts) bare() bool { return c.group.Released.Flush == syncrep.Unbounded }

func (c *commitFacts) own() string {
	line := fmt.Sprintf("primary %s: inserted %s, flushed %s", c.node, c.inserted, c.group.LocalFlush)
	if c.lsn > c.group.LocalFlush {
		line += fmt.Sprintf("; %s to flush", amount(c.lsn-c.group.LocalFlush))
	}
	return line
}

// waitedFor describes a rule and those it lists. The second one is what the rule changes to.
func (c *commitFacts) waitedFor(i int, rule raftlog.Rule) []string {
	head := "rule"
	if i > 0 {
		head = "rule it changes to, which must be met too"
	}
	if rule.K == 0 {
		return []string{fmt.Sprintf("%s: '%s' waits for nobody", head, rule.Text)}
	}
	line := fmt.Sprintf("%s: '%s' waits for %d of %d", head, rule.Text, rule.K, len(rule.Listed))
	if rule.Zones > 0 {
		line += fmt.Sprintf(", in %d zones", rule.Zones)
	}
	lines := []string{line}
	for _, l := range rule.Listed {
		lines = append(lines, "  "+c.reported(l))
	}
	return lines
}

// reported is what one of the listed has said last.
func (c *commitFacts) reported(l syncrep.Listed) string {
	s, ok := c.stream(l)
	if !ok {
		return l.Name + ": not connected"
	}
	replay := "replay " + s.Standby.Apply.String()
	if l.Witness {
		replay = "a witness, which applies nothing"
	}
	line := fmt.Sprintf("%s: %s, %s; write %s, flush %s, %s, reported %s ago", l.Name, s.Status.State, s.Standby.State,
		s.Standby.Write, s.Standby.Flush, replay, c.silence[listedAs(l.Name, l.ID)].Round(time.Millisecond))
	switch {
	case s.Standby.Flush < c.lsn:
		return line + "; " + amount(c.lsn-s.Standby.Flush) + " to flush"
	case s.Standby.Apply < c.lsn && !l.Witness:
		return line + "; " + amount(c.lsn-s.Standby.Apply) + " to replay"
	}
	return line
}

// stream is that of one of the listed, the furthest if there are several.
func (c *commitFacts) stream(l syncrep.Listed) (found syncrep.Stream, ok bool) {
	for _, s := range c.group.Streams {
		if s.Standby.Superseded || listedAs(s.Standby.Name, s.Standby.ID) != listedAs(l.Name, l.ID) {
			continue
		}
		if !ok || s.Standby.Flush > found.Standby.Flush {
			found, ok = s, true
		}
	}
	return found, ok
}

// missing says what a rule still asks for before the position is durable under it.
func (c *commitFacts) missing(rule raftlog.Rule) []string {
	var standbys []syncrep.Standby
	for _, s := range c.group.Streams {
		standbys = append(standbys, s.Standby)
	}
	_, met := syncrep.Evaluate(syncrep.Rule{}, []syncrep.Resolved{rule.Resolved}, standbys)
	if c.lsn <= c.horizon || met.Flush >= c.lsn {
		return nil
	}
	have, without := 0, []string(nil)
	for _, l := range rule.Listed {
		s, ok := c.stream(l)
		switch {
		case !ok:
			without = append(without, l.Name+" is not connected")
		case s.Status.State == syncrep.Potential || s.Status.State == syncrep.Async:
			without = append(without, fmt.Sprintf("%s does not count in state %s", l.Name, s.Standby.State))
		case s.Standby.Flush < c.lsn:
			without = append(without, fmt.Sprintf("%s lacks %s", l.Name, amount(c.lsn-s.Standby.Flush)))
		default:
			have++
		}
	}
	if rule.K > len(rule.Listed) {
		without = append(without, fmt.Sprintf("it lists only %d", len(rule.Listed)))
	}
	more := fmt.Sprintf("%d more", rule.K-have)
	if have >= rule.K {
		more = "more zones"
	}
	return []string{fmt.Sprintf("missing: %s must flush it under '%s': %s", more, rule.Text, strings.Join(without, ", "))}
}

// unapplied says who has to apply what is durable for commits at remote_apply, if a rule lists a witness:
// its acknowledgement may be all that the others wait for.
func (c *commitFacts) unapplied() []string {
	if c.lsn > c.horizon || c.lsn <= c.group.Released.Apply {
		return nil
	}
	witnesses, absent := false, []string(nil)
	for _, rule := range c.rules {
		for _, l := range rule.Listed {
			s, ok := c.stream(l)
			witnesses = witnesses || l.Witness
			if !l.Witness && !(ok && s.Standby.Apply >= c.lsn) && !slices.Contains(absent, l.Name) {
				absent = append(absent, l.Name)
			}
		}
	}
	if !witnesses || len(absent) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("missing: for remote_apply %s must apply it: a witness applies nothing", strings.Join(absent, " or "))}
}

// inTheWay is what keeps commits from being acknowledged besides the rule.
func (c *commitFacts) inTheWay() (lines []string) {
	switch {
	case c.group.Hold == 0:
	case c.state.Phase == raftlog.Opening:
		lines = append(lines, fmt.Sprintf("hold: nothing is acknowledged before Raft holds epoch %d as steady", c.state.Epoch))
	default:
		lines = append(lines, fmt.Sprintf("hold: nothing is acknowledged before the epoch's first record, which ends at %s, is durable", c.group.Hold))
	}
	if c.state.Phase == raftlog.Sealing {
		lines = append(lines, fmt.Sprintf("failover: epoch %d is to begin: this node may not be the primary any more", c.state.Target))
	}
	if c.shut {
		lines = append(lines, "switchover: new commits wait; those in the log are still acknowledged")
	}
	if c.bare() && c.lease <= 0 {
		lines = append(lines, "lease: since the rule waits for nobody, commits above local wait for the promises of a majority of the members, which have lapsed")
	}
	return lines
}

func amount(n wal.LSN) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", uint64(n))
}
