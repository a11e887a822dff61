package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

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
	primary, err := change(c, "longship_switchover", args...)
	if err != nil {
		return err
	}
	return printPrimary(c, primary)
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
	primary, err := change(c, "longship_failover", fmt.Sprint(accept))
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
