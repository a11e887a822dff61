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

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/wal"
)

// A story command is the life of one group, a step a line:
//
//	rule members text        SetRule
//	hold LSN                 Hold
//	flush LSN                LocalFlush
//	join name [receiver]     Join, in state startup; a' is another stream named a
//	state name state         SetState
//	stream name positions    join, state streaming, report
//	report name positions    Report
//	leave name               Leave
//	wait commit LSN level    Wait, in a goroutine
//	cancel commit            ends the context of that Wait
//	show                     Snapshot
//
// Under each step stands what it led to: the waits that ended, and where the horizon went.
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
		if now := s.group.Horizon().Load(); now != before {
			fmt.Fprintln(&out, "   horizon", now)
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
	handles map[string]*Handle
	cancels map[string]context.CancelCauseFunc
	ends    chan string
}

func newStory(t *testing.T, d *datadriven.TestData) *story {
	return &story{
		t: t, d: d, group: NewGroup(), handles: map[string]*Handle{},
		cancels: map[string]context.CancelCauseFunc{}, ends: make(chan string, 100),
	}
}

func (s *story) step(f []string) string {
	switch f[0] {
	case "rule":
		members, _ := strconv.Atoi(f[1])
		rule, err := ParseRule(strings.Join(f[2:], " "))
		if err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		s.group.SetRule(rule, members)
	case "hold":
		s.group.Hold(s.lsn(f[1]))
	case "flush":
		s.group.LocalFlush(s.lsn(f[1]))
	case "join":
		s.handles[f[1]] = s.group.Join(strings.TrimRight(f[1], "'"), len(f) == 2)
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
	ctx, cancel := context.WithCancelCause(s.t.Context())
	s.cancels[commit] = cancel
	go func() {
		if err := s.group.Wait(ctx, lsn, l); err != nil {
			s.ends <- commit + ": " + err.Error()
			return
		}
		s.ends <- commit + ": committed"
	}()
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
	fmt.Fprintf(&b, "   rule %q of %d members, flushed %s, horizon %s, hold %s, met: %s\n",
		s.Rule, s.Members, s.LocalFlush, s.Horizon, s.Hold, describeReleased(s.Released))
	for _, r := range s.Streams {
		fmt.Fprintf(&b, "   %d %s %s %s %s %s: %d %s\n", r.Standby.Slot, r.Standby.Name, r.Standby.State,
			r.Standby.Write, r.Standby.Flush, r.Standby.Apply, r.Status.Priority, r.Status.State)
	}
	return b.String()
}
