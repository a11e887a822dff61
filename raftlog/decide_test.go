package raftlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// TestDecisions runs the scripts in testdata/decisions.
//
//	cluster epoch=N phase=P [target=N] primary=NAME [steady-epoch=N] [steady-primary=NAME]
//	NAME [zone=Z] [priority=N] [leaving] [uncounted] [nonvoter] [node=N] [incarnation=N]
//	                                                    a member, by default with its place in the list and 1
//	slot NAME LSN                                       of the member with that name, or a client's
//	rule|joint|opening K[/ZONES]|degraded NAME … [of TEXT]    names of no member are receivers; n2~ is another disk of n2
//
//	rules                                               what Rules says
//	choose [prefer=NAME] [accept-loss]                  on the answers that follow, in this form:
//	NAME EPOCH:LSN [priority=N] [promised=N] [lease=D] [incarnation=N] [damaged=LSN] [lacking]
//	check winner=NAME at=EPOCH:LSN [wait=D] [rule=(K,NAME,…)] [accept-loss]    on answers as above
//	resolve primary=NAME [streams=(NAME,…)]             the text follows
//	judge [connected=(NAME,…)]                          on the text that follows; the names are of receivers
//	what-if [degrade=D] [limit=MB] | explain            on the reports that follow, of receivers too:
//	NAME EPOCH:LSN [down] [idle] [damaged=LSN] [lacking]
func TestDecisions(t *testing.T) {
	datadriven.Walk(t, "testdata/decisions", func(t *testing.T, path string) {
		s := &script{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.d = d
			switch d.Cmd {
			case "cluster":
				return s.cluster()
			case "rules":
				return s.rules()
			case "choose":
				return s.choose()
			case "check":
				return s.check()
			case "resolve":
				return s.resolve()
			case "judge":
				return s.judge()
			case "what-if":
				return s.whatIf()
			case "explain":
				return s.explain()
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// A script is one file of testdata, on its way from top to bottom.
type script struct {
	t     *testing.T
	d     *datadriven.TestData
	state *State
}

// A line is a name and what follows it: words, some of them of the form key=value.
type line struct {
	name  string
	words []string
}

func (s *script) lines() (lines []line) {
	for text := range strings.Lines(s.d.Input) {
		if f := strings.Fields(text); len(f) > 0 {
			lines = append(lines, line{f[0], f[1:]})
		}
	}
	return lines
}

func (l line) has(word string) bool { return slices.Contains(l.words, word) }

// value returns what follows key=, or what it is by default.
func (l line) value(key, byDefault string) string {
	for _, w := range l.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			return v
		}
	}
	return byDefault
}

func (s *script) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return n
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return d
}

func (s *script) position(text string) Position {
	epoch, lsn, _ := strings.Cut(text, ":")
	at, err := wal.ParseLSN(lsn)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return Position{Epoch: s.number(epoch), LSN: at}
}

// arg returns an argument of the command, or what it is by default.
func (s *script) arg(key, byDefault string) string {
	if s.d.HasArg(key) {
		s.d.ScanArgs(s.t, key, &byDefault)
	}
	return byDefault
}

func (s *script) args(key string) []string {
	if a, ok := s.d.Arg(key); ok {
		return a.Vals
	}
	return nil
}

func (s *script) id(name string) syncrep.ID {
	i := slices.IndexFunc(s.state.Members, func(m Member) bool { return m.Name == name })
	if i < 0 {
		return syncrep.ID{}
	}
	return s.state.Members[i].ID
}

func (s *script) rule(words []string) Rule {
	if words[0] == "degraded" {
		return Rule{Text: strings.Join(words[1:], " "), Degraded: &Degraded{Since: time.Unix(0, 0), From: 0x1000, Why: "too few stream"}}
	}
	text := ""
	if of := slices.Index(words, "of"); of >= 0 {
		words, text = words[:of], strings.Join(words[of+1:], " ")
	}
	k, zones, spread := strings.Cut(words[0], "/")
	r := Rule{Text: fmt.Sprintf("ANY %s (%s)", k, strings.Join(words[1:], ", "))}
	if r.K = int(s.number(k)); spread {
		r.Zones = int(s.number(zones))
		r.Text += " ZONES " + zones
	}
	r.Text = cmp.Or(text, r.Text)
	for _, name := range words[1:] {
		base, other := strings.CutSuffix(name, "~")
		m, _ := s.state.Named(base)
		l := syncrep.Listed{ID: s.id(base), Name: base}
		if other {
			l.ID.Incarnation++
		}
		l.Witness = m.Witness && !other
		if spread {
			l.Zone = m.Zone
		}
		r.Listed = append(r.Listed, l)
	}
	return r
}

func (s *script) cluster() string {
	st := &State{Epoch: s.number(s.arg("epoch", "1")), Phase: Phase(s.arg("phase", "sealing")), Target: s.number(s.arg("target", "0"))}
	s.state = st
	for _, l := range s.lines() {
		switch l.name {
		case "rule":
			st.Rule = s.rule(l.words)
		case "joint":
			st.Joint = new(s.rule(l.words))
		case "opening":
			st.Opening = new(s.rule(l.words))
		case "slot":
			st.Slots = append(st.Slots, Slot{Name: l.words[0], Restart: s.position("0:" + l.words[1]).LSN, Member: s.id(l.words[0])})
		default:
			st.Members = append(st.Members, Member{
				Name: l.name, ID: s.disk(l, uint64(len(st.Members)+1)), Zone: l.value("zone", ""),
				Priority: int(s.number(l.value("priority", "1"))), Leaving: l.has("leaving"),
				Counted: !l.has("uncounted"), Voter: !l.has("nonvoter"), Witness: l.has("witness"),
			})
		}
	}
	primary := s.arg("primary", "n1")
	st.Primary = Office{ID: s.id(primary), Name: primary}
	st.SteadyEpoch = s.number(s.arg("steady-epoch", strconv.FormatUint(st.Epoch, 10)))
	st.SteadyPrimary = s.id(s.arg("steady-primary", primary))
	return ""
}

// disk is the identity that a line gives a member.
func (s *script) disk(l line, node uint64) syncrep.ID {
	return syncrep.ID{
		Node:        s.number(l.value("node", strconv.FormatUint(node, 10))),
		Incarnation: s.number(l.value("incarnation", "1")),
	}
}

func (s *script) rules() string {
	var b strings.Builder
	for _, r := range Rules(s.state) {
		fmt.Fprintln(&b, resolvedText(r))
	}
	return b.String()
}

func resolvedText(r syncrep.Resolved) string {
	var names []string
	for _, l := range r.Listed {
		if l.Zone != "" {
			l.Name += "@" + l.Zone
		}
		if l.ID == (syncrep.ID{}) {
			l.Name += " (receiver)"
		}
		if l.Witness {
			l.Name += " (witness)"
		}
		names = append(names, l.Name)
	}
	if r.Zones > 0 {
		return fmt.Sprintf("%d in %d zones of %s", r.K, r.Zones, strings.Join(names, ", "))
	}
	return fmt.Sprintf("%d of %s", r.K, strings.Join(names, ", "))
}

func (s *script) answers() (answers []Answer) {
	for _, l := range s.lines() {
		id := s.disk(l, s.id(l.name).Node)
		answers = append(answers, Answer{
			ID: id, Name: l.name, Position: s.position(l.words[0]),
			Promised:  s.number(l.value("promised", strconv.FormatUint(s.state.Target, 10))),
			Damaged:   s.position("0:" + l.value("damaged", "0/0")).LSN,
			Lacking:   l.has("lacking"),
			LeaseLeft: s.duration(l.value("lease", "0s")), Priority: int(s.number(l.value("priority", "1"))),
		})
	}
	return answers
}

// choose also has the state machine's check judge the choice, after the winner has fetched.
func (s *script) choose() string {
	answers := s.answers()
	choose := Choose
	if s.d.HasArg("accept-loss") {
		choose = ChooseAcceptingLoss
	}
	c, err := choose(s.state, answers, s.arg("prefer", ""))
	if err != nil {
		return errorText(err)
	}
	fetched := c.Winner
	fetched.Position = c.Position
	promotion := &Promote{
		Answers: append(answers, fetched), Winner: c.Winner.ID, Position: c.Position, LeaseWait: c.LeaseWait,
		AcceptLoss: s.d.HasArg("accept-loss"),
	}
	if err := CheckPromotion(s.state, promotion); err != nil {
		s.d.Fatalf(s.t, "chosen and then refused: %v", err)
	}
	text := fmt.Sprintf("%s at %s", c.Winner.Name, c.Position)
	if c.Source.ID != c.Winner.ID {
		text += ", fetched from " + c.Source.Name
	}
	if c.LeaseWait > 0 {
		text += fmt.Sprintf(", leases run out in %v", c.LeaseWait)
	}
	return text + "\n"
}

// errorText prints an error, a refusal in lines.
func errorText(err error) string {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return "refused\n" + strings.Join(refusal.Lines, "\n") + "\n"
	}
	return fmt.Sprintf("error: %v\n", err)
}

func (s *script) check() string {
	p := &Promote{
		Answers: s.answers(), Winner: s.id(s.arg("winner", "")), Position: s.position(s.arg("at", "")),
		LeaseWait: s.duration(s.arg("wait", "0s")), AcceptLoss: s.d.HasArg("accept-loss"),
	}
	if words := s.args("rule"); len(words) > 0 {
		p.Rule = s.rule(words)
	}
	if err := CheckPromotion(s.state, p); err != nil {
		return errorText(err)
	}
	return "taken\n"
}

func (s *script) resolve() string {
	counted := slices.DeleteFunc(slices.Clone(s.state.Members), func(m Member) bool { return !m.Counted })
	streams := func(m Member) bool { return slices.Contains(s.args("streams"), m.Name) }
	r, err := Resolve(s.d.Input, s.id(s.arg("primary", "n1")), counted, streams)
	if err != nil {
		return errorText(err)
	}
	return resolvedText(r) + "\n"
}

func (s *script) reports() (reports []Report) {
	for _, l := range s.lines() {
		reports = append(reports, Report{
			ID: s.id(l.name), Name: l.name, Position: s.position(l.words[0]),
			Damaged: s.position("0:" + l.value("damaged", "0/0")).LSN, Lacking: l.has("lacking"),
			Alive: !l.has("down"), Streaming: !l.has("down") && !l.has("idle"),
		})
	}
	return reports
}

func (s *script) judge() string {
	warnings, err := Judge(s.state, strings.TrimSpace(s.d.Input), s.args("connected"))
	if senseless, ok := errors.AsType[*SenselessError](err); ok {
		return fmt.Sprintf("refused: %v\nhint: %s\n", err, senseless.Hint)
	}
	if err != nil {
		return fmt.Sprintf("refused: %v\n", err)
	}
	return strings.Join(append(warnings, "taken"), "\n") + "\n"
}

func (s *script) fallback() Fallback {
	return Fallback{
		Degrade: s.d.HasArg("degrade"), After: s.duration(s.arg("degrade", "0s")), Limit: wal.LSN(s.number(s.arg("limit", "0")) << 20),
	}
}

func (s *script) whatIf() string {
	var b strings.Builder
	for _, o := range WhatIf(s.state, s.reports(), s.fallback()) {
		primary := o.Primary
		if primary == "" {
			primary = "-"
		}
		fmt.Fprintf(&b, "lose %s: primary %s, writes %v, %d bytes lost: %s\n", strings.Join(o.Lose, "+"), primary, o.Writes, o.LostBytes, o.Then)
	}
	return b.String()
}

func (s *script) explain() string {
	var b strings.Builder
	for _, l := range Explain(s.state, s.reports()) {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}
