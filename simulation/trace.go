package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A trace is what has happened, in order, with the time of the bubble. It is printed when a run fails.
type trace struct {
	began time.Time
	level slog.Level
	tally *tally

	mu       sync.Mutex
	lines    []string
	failures []string
}

// mostLines is how many lines a trace keeps: the last ones.
const mostLines = 20000

func newTrace(level slog.Level) *trace {
	return &trace{began: time.Now(), level: level, tally: newTally()}
}

func (t *trace) add(who, what string) {
	t.tally.see(who, what)
	line := fmt.Sprintf("%9.4f %-4s %s", time.Since(t.began).Seconds(), who, what)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= mostLines {
		t.lines = append(t.lines[:0], t.lines[mostLines/2:]...)
	}
	t.lines = append(t.lines, line)
}

// fail notes that something is not as it must be.
func (t *trace) fail(who string, err error) {
	t.add(who, "FAILURE: "+err.Error())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, who+": "+err.Error())
}

// A mute silences the log of a process that is no more.
type mute struct{ atomic.Bool }

func (m *mute) set() { m.Store(true) }

// handler is the log of a process.
func (t *trace) handler(who string, m *mute) slog.Handler {
	return &handler{trace: t, who: who, mute: m}
}

type handler struct {
	trace *trace
	who   string
	mute  *mute
	attrs string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.trace.level && !h.mute.Load()
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Level.String() + " " + r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.trace.add(h.who, b.String())
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	to := *h
	for _, a := range attrs {
		if a.Key != "node" {
			to.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
	}
	return &to
}

func (h *handler) WithGroup(string) slog.Handler { return h }
