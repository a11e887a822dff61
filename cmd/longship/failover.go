package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/screen"
	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const switchoverHelp = `Makes another node the primary while all is well, without losing anything: new commits are held, the
next primary gets everything there is, takes over, and commits go on there. Sessions on the old primary
are told. If it does not succeed within switchover_timeout, everything stays as it was.

Without --to the best standby is taken. ` + clientHelp

func switchoverCommand() *cli.Command {
	return &cli.Command{
		Name:        "switchover",
		Usage:       "move the primary to another node, without loss",
		Description: switchoverHelp,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`NAME` of the next primary (default: the best standby)"},
		}, clientFlags()...),
		Action: switchover,
	}
}

func switchover(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	var args []string
	if to := c.String("to"); to != "" {
		args = append(args, status.Literal(to))
	}
	primary, err := movePrimary(c, "longship_switchover", args...)
	if err != nil {
		return err
	}
	if to := c.String("to"); to != "" && primary != to {
		return fmt.Errorf("%s is primary now, and not %s: see longship status", primary, to)
	}
	return printPrimary(c, primary)
}

// movePrimary calls a function that names another primary, and returns its name. The old primary ends
// its sessions, the one that asked perhaps among them: then the outcome is read from what the node
// knows.
func movePrimary(c *cli.Context, function string, args ...string) (string, error) {
	before, err := clusterNow(c)
	if err != nil {
		return "", err
	}
	primary, err := change(c, function, args...)
	ended, ok := errors.AsType[*status.EndedError](err)
	if !ok {
		return primary, err
	}
	if now, ok := awaitReign(c, before.Text("epoch")); ok {
		return now.Text("primary"), nil
	}
	return "", fmt.Errorf("%w; it is not known whether the primary moves: see longship status", ended)
}

// What movePrimary does when it was cut off.
const (
	outcomeTimeout = 20 * time.Second
	outcomePause   = 200 * time.Millisecond
)

// awaitReign waits until an epoch after the given one is steady.
func awaitReign(c *cli.Context, epoch string) (status.Row, bool) {
	deadline := time.NewTimer(outcomeTimeout)
	defer deadline.Stop()
	for {
		if now, err := clusterNow(c); err == nil && now.Text("epoch") != epoch && now.Text("phase") == "steady" {
			return now, true
		}
		select {
		case <-c.Context.Done():
			return nil, false
		case <-deadline.C:
			return nil, false
		case <-time.After(outcomePause):
		}
	}
}

// clusterNow is the row of longship_cluster.
func clusterNow(c *cli.Context) (status.Row, error) {
	rows, err := query(c, queryTimeout, "SELECT * FROM longship_cluster")
	if err != nil {
		return nil, err
	}
	if len(rows[0]) != 1 {
		return nil, fmt.Errorf("longship_cluster has %d rows, want 1", len(rows[0]))
	}
	return rows[0][0], nil
}

const failoverHelp = `Replaces the primary, dead or alive, by the best of the nodes that can be reached. The cluster does that
by itself when the primary is gone and nothing can be lost; this is for when it refuses. What each node
holds is shown first, and on a terminal the question is asked whether to go on.

Without --accept-data-loss it is done only if no acknowledged commit can be lost. With it, commits that
only unreachable nodes have are lost: what those nodes hold beyond the new primary's log goes to their
orphans folder when they return, and the history says how much it may have been.

` + clientHelp

func failoverCommand() *cli.Command {
	return &cli.Command{
		Name:        "failover",
		Usage:       "replace the primary, if need be with loss",
		Description: failoverHelp,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "accept-data-loss", Usage: "go on even if acknowledged commits are lost"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		}, clientFlags()...),
		Action: failover,
	}
}

func failover(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rows, err := query(c, queryTimeout, "SELECT * FROM longship_members", "EXPLAIN FAILOVER")
	if err != nil {
		return err
	}
	lines := append(status.Columns(status.MemberTable(rows[0])), "")
	for _, r := range rows[1] {
		lines = append(lines, r.Text("QUERY PLAN"))
	}
	if err := printLines(c.App.Writer, lines); err != nil {
		return err
	}
	accept := c.Bool("accept-data-loss")
	if !c.Bool("yes") && onTerminal(c) {
		question := "Replace the primary now?"
		if accept {
			question = "Replace the primary now, even if acknowledged commits are lost?"
		}
		if ok, err := confirm(c, question); err != nil || !ok {
			return err
		}
	}
	primary, err := movePrimary(c, "longship_failover", strconv.FormatBool(accept))
	if err != nil {
		return err
	}
	return printPrimary(c, primary)
}

// onTerminal reports whether somebody is there to answer a question.
func onTerminal(c *cli.Context) bool {
	f, ok := c.App.Reader.(*os.File)
	return ok && screen.IsTerminal(f)
}

// confirm asks a question. Anything but yes leaves everything as it is; so does the end of ctx.
func confirm(c *cli.Context, question string) (bool, error) {
	if _, err := fmt.Fprintf(c.App.Writer, "\n%s [yes/no] ", question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	if err != nil && line == "" {
		return false, fmt.Errorf("no answer: nothing was done; --yes goes on without the question")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, context.Cause(c.Context)
	}
	_, err = fmt.Fprintln(c.App.Writer, "nothing was done")
	return false, err
}

// printPrimary says who is primary now.
func printPrimary(c *cli.Context, name string) error {
	_, err := fmt.Fprintf(c.App.Writer, "primary %s\n", name)
	return err
}
