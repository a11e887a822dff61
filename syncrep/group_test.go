package syncrep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// A story command is the life of one group, a step a line:
//
//	rule text | K of names   SetRules, with as many rules as there are bars
//	hold LSN                 Hold
//	flush LSN                LocalFlush
//	join name [receiver]     Join, in state startup; a' is another stream of a, a~2 of another disk
//	state name state         SetState
//	stream name positions    join, state streaming, report
//	report name positions    Report
//	leave name               Leave
//	wait commit LSN level    Wait, in a goroutine; what was achieved is told if it is less, and if it is at risk
//	read query               WaitLease, in a goroutine
//	cancel commit            ends the context of that Wait or WaitLease
//	show                     Snapshot
//	owe LSN [LSN]            Owe, from there, and up to the second one
//	settle                   Settle
//	debt                     Debt
//	members names            SetMembers; the first one is the primary itself
//	promise name ms          Promise, from now on
//	sleep ms
//	lease                    Lease: what is left of it
//
// Under each step stands what it led to: the waits that ended, where the horizon went, how far the log
// is held under the rules in force, when that is not the horizon, and of whom promises are wanted.
func TestGroup(t *testing.T) {
	datadriven.Walk(t, "testdata/group", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) (out string) {
			synctest.Test(t, func(t *testing.T) { out = tell(t, d) })
			return out
		})
	})
}

func tell(t *testing.T, d *datadriven.TestData) string {
	s := newStory(t, d)
	var out strings.Builder
	for line := range strings.Lines(d.Input) {
		before := s.group.Horizon().Load()
		fmt.Fprintln(&out, strings.TrimSpace(line))
		shown := s.step(strings.Fields(line))
		synctest.Wait()
		for _, end := range s.ended() {
			fmt.Fprintln(&out, "  ", end)
		}
		now := s.group.Horizon().Load()
		if now != before {
			fmt.Fprintln(&out, "   horizon", now)
		}
		if held := s.held.Load(); held != s.shown && held != now {
			fmt.Fprintln(&out, "   held", held)
		}
		s.shown = s.held.Load()
		for _, wanted := range s.wanted() {
			fmt.Fprintln(&out, "   wants a promise of", wanted)
		}
		out.WriteString(shown)
	}
	s.cancelAll(errors.New("end of story"))
	return out.String()
}

type story struct {
	t       *testing.T
	d       *datadriven.TestData
	group   *Group
	held    *wal.Position
	shown   wal.LSN // of held
	handles map[string]*Handle
	cancels map[string]context.CancelCauseFunc
	ends    chan string
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	return &story{
		t: t, d: d, group: NewGroup(), held: new(wal.Position), handles: map[string]*Handle{},
		cancels: map[string]context.CancelCauseFunc{}, ends: make(chan string, 100),
	}
}

func (s *story) step(f []string) string {
	switch f[0] {
	case "rule":
		view, rules := parseRules(s.t, s.d, strings.Join(f[1:], " "))
		s.held = s.group.SetRules(view, rules...)
	case "hold":
		s.group.Hold(s.lsn(f[1]))
	case "flush":
		s.group.LocalFlush(s.lsn(f[1]))
	case "join":
		name, id := disk(strings.TrimRight(f[1], "'"))
		if len(f) > 2 {
			id = ID{}
		}
		s.handles[f[1]] = s.group.Join(name, id)
	case "state":
		s.handles[f[1]].SetState(parseState(s.t, s.d, f[2]))
	case "stream":
		s.step([]string{"join", f[1]})
		s.step([]string{"state", f[1], "streaming"})
		s.step(append([]string{"report"}, f[1:]...))
	case "report":
		at := parsePositions(s.t, s.d, f[2:])
		s.handles[f[1]].Report(at[0], at[1], at[2])
	case "leave":
		s.handles[f[1]].Leave()
	case "wait":
		s.wait(f[1], s.lsn(f[2]), f[3])
	case "read":
		s.goWait(f[1], func(ctx context.Context) (string, error) { return "read", s.group.WaitLease(ctx) })
	case "members":
		var ids []ID
		for _, name := range f[1:] {
			_, id := disk(name)
			ids = append(ids, id)
		}
		s.group.SetMembers(ids, ids[0])
	case "promise":
		s.handles[f[1]].Promise(time.Now().Add(s.ms(f[2])))
	case "sleep":
		time.Sleep(s.ms(f[1])) // of the bubble
	case "lease":
		return fmt.Sprintln("  ", describeLease(s.group))
	case "owe":
		limit := wal.LSN(0)
		if len(f) > 2 {
			limit = s.lsn(f[2])
		}
		s.group.Owe(s.lsn(f[1]), limit)
	case "settle":
		s.group.Settle()
	case "debt":
		return fmt.Sprintln("  ", describeDebt(s.group))
	case "cancel":
		s.cancels[f[1]](errors.New("canceled by user"))
	case "show":
		return describeSnapshot(s.group.Snapshot())
	default:
		s.d.Fatalf(s.t, "unknown step %q", f[0])
	}
	return ""
}

func (s *story) lsn(text string) wal.LSN { return parsePositions(s.t, s.d, []string{text})[0] }

func (s *story) wait(commit string, lsn wal.LSN, level string) {
	l, err := ParseLevel(level)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	s.goWait(commit, func(ctx context.Context) (string, error) {
		if err := s.group.Wait(ctx, lsn, l); err != nil {
			return "", err
		}
		end := "committed"
		if got := s.group.Achieved(lsn, l); got != l {
			end += " at " + got.String()
		}
		if s.group.AtRisk(lsn, l) {
			end += ", at risk"
		}
		return end, nil
	})
}

func (s *story) goWait(name string, wait func(context.Context) (success string, err error)) {
	ctx, cancel := context.WithCancelCause(s.t.Context())
	s.cancels[name] = cancel
	go func() {
		success, err := wait(ctx)
		if err != nil {
			s.ends <- name + ": " + err.Error()
			return
		}
		s.ends <- name + ": " + success
	}()
}

func (s *story) ms(text string) time.Duration {
	ms, err := strconv.Atoi(text)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return time.Duration(ms) * time.Millisecond
}

// wanted are those who are asked for a promise: they take note.
func (s *story) wanted() []string {
	var names []string
	for name, h := range s.handles {
		select {
		case <-h.LeaseWanted():
			names = append(names, name)
		default:
		}
	}
	slices.Sort(names)
	return names
}

func describeLease(g *Group) string {
	switch left := time.Until(g.Lease()); {
	case left <= 0:
		return "none"
	case left > time.Hour:
		return "always"
	default:
		return left.String()
	}
}

func describeDebt(g *Group) string {
	d, owes := g.Debt()
	if !owes {
		return "none"
	}
	return fmt.Sprintf("from %s, %d bytes, %d commits", d.From, d.Bytes, d.Commits)
}

func (s *story) ended() []string {
	var ends []string
	for len(s.ends) > 0 {
		ends = append(ends, <-s.ends)
	}
	slices.Sort(ends)
	return ends
}

func (s *story) cancelAll(cause error) {
	for _, cancel := range s.cancels {
		cancel(cause)
	}
}

func describeSnapshot(s Snapshot) string {
	var b strings.Builder
	fmt.Fprintf(&b, "   rule %q, flushed %s, horizon %s, hold %s, met: %s\n",
		s.Rule, s.LocalFlush, s.Horizon, s.Hold, describeReleased(s.Released))
	for _, r := range s.Streams {
		fmt.Fprintf(&b, "   %s %s %s %s %s: %d %s\n", r.Standby.Name, r.Standby.State,
			r.Standby.Write, r.Standby.Flush, r.Standby.Apply, r.Status.Priority, r.Status.State)
	}
	return b.String()
}
