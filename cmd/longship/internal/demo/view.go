package demo

import (
	"context"
	"fmt"
	"os"
	"slices"
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
func (d *demo) view(s *status.Snapshot, now time.Time, ran time.Duration) (summary string, lines []string) {
	recent := d.ledger.Recent()
	t := d.ledger.Totals()
	numbers := fmt.Sprintf("%s  %d commits/s  p50 %s  p99 %s  acknowledged %d  unknown %d  refused %d",
		ran.Round(time.Second), len(recent), percentile(recent, 50), percentile(recent, 99), t.Acknowledged, t.Unknown, t.Refused)
	reign, silence := d.reigns.Now(now)
	primary := fmt.Sprintf("primary %s (epoch %d)", reign.Node, reign.Epoch)
	waiting := ""
	if silence > d.noticeable() {
		waiting = fmt.Sprintf("no commit acknowledged for %s", seconds(silence))
		primary = waiting
	}

	brief := map[string][]string{}
	if s != nil {
		brief = s.Brief()
	}
	summary = numbers + "  " + primary
	rows := [][]string{append([]string{"node", "pid", "process"}, status.BriefColumns...)}
	for _, p := range d.cluster.processes {
		c := p.condition()
		summary += "  " + p.name + " " + c.text
		cells := brief[p.name]
		if !c.ready || cells == nil {
			cells = slices.Repeat([]string{"-"}, len(status.BriefColumns))
		}
		rows = append(rows, append([]string{p.name, c.pid, c.text}, cells...))
	}
	lines = []string{numbers, reign.String()}
	if waiting != "" {
		lines[1] = waiting + "; before: " + lines[1]
	}
	lines = append(append(lines, ""), status.Columns(rows)...)
	if s != nil {
		lines = append(append(lines, ""), s.Head(now)...)
	}
	return summary, lines
}

// noticeable is how long nothing must have been acknowledged to be worth saying.
func (d *demo) noticeable() time.Duration {
	return max(500*time.Millisecond, 3*time.Second/time.Duration(d.cfg.Load))
}

// percentile is the p-th percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p int) string {
	if len(sorted) == 0 {
		return "-"
	}
	d := sorted[(len(sorted)-1)*p/100]
	return fmt.Sprintf("%.3g ms", d.Seconds()*1e3)
}

// An observer asks a node for the cluster's state: the primary, which knows most, or another.
type observer struct {
	cluster *cluster
	of      *process // whom client is connected to
	client  *status.Client
}

// lookTimeout is short: what is shown must not stand still while a node hangs.
const lookTimeout = 700 * time.Millisecond

// look returns nil if nobody answers.
func (o *observer) look(ctx context.Context) *status.Snapshot {
	primary := o.cluster.primary()
	if primary != nil {
		if s := o.ask(ctx, primary); s != nil {
			return s
		}
	}
	for _, p := range o.cluster.processes {
		if p != primary && p.condition().ready {
			return o.ask(ctx, p)
		}
	}
	return nil
}

// ask returns nil if the node does not answer.
func (o *observer) ask(ctx context.Context, p *process) *status.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if p != o.of {
		o.close(ctx)
		client, err := status.NewClient(nodeConninfo(p, anyNode))
		if err != nil {
			return nil
		}
		o.of, o.client = p, client
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
