package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const statusHelp = `Asks one node and shows the cluster as that node knows it: members, epoch and phase, the last reigns and
why they began, what the loss of a node would mean. The primary also knows its receivers, and each
standby to the byte; a standby knows the others as of a second ago, and from whom it receives.

What is wrong comes first, behind an exclamation mark, on a terminal in red. With --watch another member
is asked when the node does not answer any more.

Exit code 0: the node has answered; 1: it has not; 3, with --check: there is a warning.

PGHOST, PGPORT, PGUSER, PGPASSWORD, PGSSLMODE and NO_COLOR are honoured.`

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "show the cluster as a node knows it",
		Description: statusHelp,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "watch", Usage: "show it again and again, until q is pressed"},
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "`TIME` between two looks, with --watch"},
			&cli.BoolFlag{Name: "check", Usage: "exit 3 if there is a warning"},
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
	if err := printStatus(c, snapshot); err != nil {
		return err
	}
	if c.Bool("check") && len(snapshot.Warnings) > 0 {
		return errWarnings
	}
	return nil
}

func printStatus(c *cli.Context, s *status.Snapshot) error {
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	lines := s.Text(time.Now())
	if paint, ok := painter(c); ok {
		for i, line := range lines {
			lines[i] = paint(line, line)
		}
	}
	return printLines(c.App.Writer, lines)
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
