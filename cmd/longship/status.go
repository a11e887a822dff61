package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/screen"
	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const statusHelp = `Asks one node and shows the cluster as that node knows it: members, epoch and phase, the last reigns and
why they began, what the loss of a node would mean. The primary also knows its receivers, and each
standby to the byte; a standby knows the others as of a second ago, and from whom it receives.

PGHOST, PGPORT, PGUSER, PGPASSWORD and PGSSLMODE are honoured.`

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "show the cluster as a node knows it",
		Description: statusHelp,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "watch", Usage: "show it again every second, until interrupted"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON; with --watch an object per line"},
		}, clientFlags()...),
		Action: showStatus,
	}
}

func showStatus(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	client, err := newClient(c)
	if err != nil {
		return err
	}
	defer client.Close(context.WithoutCancel(c.Context))
	if c.Bool("watch") {
		return watchStatus(c, client)
	}
	snapshot, err := ask(c.Context, client)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return e.Encode(snapshot)
	}
	return printLines(c.App.Writer, snapshot.Text(time.Now()))
}

func ask(ctx context.Context, client *status.Client) (*status.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return status.Collect(ctx, client)
}

func printLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// watchStatus shows the status every second until a signal comes. A node that cannot be reached is
// shown as that, and asked again.
func watchStatus(c *cli.Context, client *status.Client) error {
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	show, done := presenter(c)
	defer done()
	defer onSignals(cancel, func() {
		done() // the terminal as it was
		os.Exit(exitFailure)
	})()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		snapshot, err := ask(ctx, client)
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
			return func(s *status.Snapshot, err error) error { return scr.Draw(text(s, err)) }, scr.Close
		}
	}
	return func(s *status.Snapshot, err error) error { return printLines(out, append(text(s, err), "")) }, done
}
