package demo

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/longship-db/longship/cmd/longship/internal/screen"
	"github.com/longship-db/longship/cmd/longship/internal/status"
)

// A display is where the demonstration talks to people: events stay, and below them, on a terminal,
// a block of lines is kept up to date. It is safe for concurrent use.
type display struct {
	mu     sync.Mutex
	out    *os.File
	screen *screen.Screen // nil: not a terminal
	gone   func()         // called when nobody reads any more
}

func newDisplay(out *os.File, gone func()) *display {
	d := &display{out: out, gone: gone}
	if s, ok := screen.New(out); ok {
		d.screen = s
	}
	return d
}

// event prints a line that stays.
func (d *display) event(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil {
		d.wrote(d.screen.Print(line))
		return
	}
	d.print(line)
}

func (d *display) print(line string) {
	_, err := fmt.Fprintln(d.out, line)
	d.wrote(err)
}

func (d *display) wrote(err error) {
	if err != nil {
		d.gone()
	}
}

// update shows the present state: the lines on a terminal, else the summary.
func (d *display) update(summary string, lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil {
		d.wrote(d.screen.Draw(append([]string{""}, lines...)))
		return
	}
	d.print(summary)
}

// endBlock leaves the block as it is; what follows goes below.
func (d *display) endBlock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil {
		d.screen.Release()
	}
}

func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil {
		d.screen.Close()
	}
}

// view is the present state for people, in one line and in several.
func (d *demo) view(s *status.Snapshot, ran time.Duration) (summary string, lines []string) {
	recent := d.ledger.Recent()
	t := d.ledger.Totals()
	numbers := fmt.Sprintf("%s  %d commits/s  p50 %s  p99 %s  acknowledged %d  unknown %d  refused %d",
		ran.Round(time.Second), len(recent), percentile(recent, 50), percentile(recent, 99), t.Acknowledged, t.Unknown, t.Refused)

	brief := map[string][]string{}
	if s != nil {
		brief = s.Brief()
	}
	summary = numbers
	rows := [][]string{append([]string{"node", "pid", "process"}, status.BriefColumns...)}
	for _, p := range d.cluster.processes {
		c := p.condition()
		summary += "  " + p.name + " " + c.text
		row := []string{p.name, c.pid, c.text}
		if c.ready {
			row = append(row, brief[p.name]...)
		}
		rows = append(rows, row)
	}
	lines = append([]string{numbers, ""}, status.Columns(rows)...)
	if s != nil {
		lines = append(append(lines, ""), s.Head(time.Now())...)
	}
	return summary, lines
}

// percentile is the p-th percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p int) string {
	if len(sorted) == 0 {
		return "-"
	}
	d := sorted[(len(sorted)-1)*p/100]
	return fmt.Sprintf("%.3g ms", d.Seconds()*1e3)
}

// An observer asks the primary for the cluster's state.
type observer struct {
	cluster *cluster
	of      *process // whom client is connected to
	client  *status.Client
}

// lookTimeout is short: what is shown must not stand still while a node hangs.
const lookTimeout = 700 * time.Millisecond

// look returns nil if the primary does not answer.
func (o *observer) look(ctx context.Context) *status.Snapshot {
	primary := o.cluster.primary()
	if primary == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if primary != o.of {
		o.close(ctx)
		client, err := status.NewClient(nodeConninfo(primary))
		if err != nil {
			return nil
		}
		o.of, o.client = primary, client
	}
	s, err := status.Collect(ctx, o.client)
	if err != nil {
		return nil
	}
	return s
}

func (o *observer) close(ctx context.Context) {
	if o.client != nil {
		o.client.Close(ctx) // whether the server hears of it does not matter
	}
}
