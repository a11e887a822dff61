package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/screen"
	"github.com/longship-db/longship/cmd/longship/internal/status"
)

// A watcher asks a node again and again, and when that does not answer the others it has heard of.
type watcher struct {
	client  *status.Client
	asked   string   // address of client
	learned []string // addresses of the members
}

// ask asks the node that answered last, or else whoever answers first. The error says who was tried.
func (w *watcher) ask(ctx context.Context) (*status.Snapshot, error) {
	s, err := ask(ctx, w.client)
	if err == nil {
		w.learn(s)
		return s, nil
	}
	tried := []string{w.asked}
	for _, address := range w.learned {
		if ctx.Err() != nil || slices.Contains(tried, address) {
			continue
		}
		tried = append(tried, address)
		client, bad := status.NewClientAt(address)
		if bad != nil {
			continue
		}
		if s, bad := ask(ctx, client); bad == nil {
			w.close()
			w.client, w.asked = client, address
			w.learn(s)
			return s, nil
		}
		client.Close(ctx)
	}
	if len(tried) > 1 {
		err = fmt.Errorf("%w; tried %s", err, strings.Join(tried, ", "))
	}
	return nil, err
}

// learn takes note of where the members are.
func (w *watcher) learn(s *status.Snapshot) {
	w.learned = w.learned[:0]
	for _, m := range s.Members {
		w.learned = append(w.learned, m.Text("address"))
	}
}

func (w *watcher) close() { w.client.Close(context.Background()) }

// watchStatus shows the status again and again, until q is pressed or a signal comes. A node that
// cannot be reached is shown as that if none of the others answers, and asked again.
func watchStatus(c *cli.Context, client *status.Client) error {
	interval := c.Duration("interval")
	if interval < 100*time.Millisecond {
		return usagef("--interval %s is less than 100ms", interval)
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	show, done := presenter(c)
	defer done()
	defer onSignals(cancel, func() {
		done() // the terminal as it was
		os.Exit(exitFailure)
	})()
	if f, ok := c.App.Reader.(*os.File); ok && !c.Bool("json") {
		keys := make(chan struct{})
		go func() { defer close(keys); screen.AwaitKey(ctx, f, "qQ"); cancel() }()
		defer func() { cancel(); <-keys }()
	}
	w := &watcher{client: client, asked: client.Address()}
	defer func() { w.close() }()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		snapshot, err := w.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := show(snapshot, err); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// presenter returns how to show a snapshot, or why there is none, again and again: as JSON, in place
// on a terminal, or one after the other.
func presenter(c *cli.Context) (show func(*status.Snapshot, error) error, done func() error) {
	done = func() error { return nil }
	out := c.App.Writer
	if c.Bool("json") {
		e := json.NewEncoder(out)
		return func(s *status.Snapshot, err error) error {
			if err != nil {
				return e.Encode(map[string]string{"error": err.Error()})
			}
			return e.Encode(s)
		}, done
	}
	text := func(s *status.Snapshot, err error) []string {
		now := time.Now()
		if err != nil {
			return []string{now.Format(time.TimeOnly) + "  " + oneLine(err)}
		}
		return append([]string{now.Format(time.TimeOnly)}, s.Text(now)...)
	}
	if f, ok := out.(*os.File); ok {
		if scr, ok := screen.New(f); ok {
			var changes status.Marker
			if paint, ok := painter(c); ok {
				scr.Paint = func(i int, line string) string { return paint(line, changes.Mark(i, line)) }
			}
			return func(s *status.Snapshot, err error) error {
				lines := text(s, err)
				changes.Look(lines)
				return scr.Draw(lines)
			}, scr.Close
		}
	}
	return func(s *status.Snapshot, err error) error { return printLines(out, append(text(s, err), "")) }, done
}

// painter is how to colour a line, given it as it is and with what has changed in it marked; ok is
// false unless people look, and want colours (no-color.org).
func painter(c *cli.Context) (paint func(line, marked string) string, ok bool) {
	f, ok := c.App.Writer.(*os.File)
	if !ok || !screen.IsTerminal(f) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return nil, false
	}
	return status.Paint, true
}
