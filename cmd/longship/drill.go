package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
	"github.com/longship-db/longship/drill"
)

const drillHelp = `Each drill starts a cluster of its own on this machine, has clients read, write, compare and set, and run
transactions on it, breaks something, round after round, and then checks that nothing acknowledged was lost
or un-seen, and that the cluster came back by itself. See docs/testing.md.`

func drillCommand() *cli.Command {
	return group(&cli.Command{
		Name:        "drill",
		Usage:       "break a cluster on purpose, and check what it promises",
		Description: drillHelp,
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "list the drills: what each breaks, and what must hold",
				Flags:  []cli.Flag{jsonFlag()},
				Action: listDrills,
			},
			{
				Name:        "run",
				Usage:       "run drills, or all",
				ArgsUsage:   "NAME… | all",
				Description: drillRunHelp,
				Flags: []cli.Flag{
					&cli.IntFlag{Name: "nodes", Value: 3, Usage: "`NUMBER` of nodes, 3 to 7"},
					&cli.IntFlag{Name: "rounds", Value: 3, Usage: "`NUMBER` of times that each drill breaks something"},
					&cli.IntFlag{Name: "clients", Value: 8, Usage: "`NUMBER` of clients; every third runs transactions"},
					&cli.DurationFlag{Name: "duration", Usage: "go on with rounds for this `TIME` in each drill", DefaultText: "as many rounds as --rounds says"},
					&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that decides what is broken, and what clients do", DefaultText: "random"},
					&cli.BoolFlag{Name: "keep", Usage: "leave the nodes' folders and logs"},
					&cli.StringSliceFlag{Name: "target", Usage: "run on the cluster of the node at `HOST:PORT,…` instead of one of its own"},
					&cli.StringFlag{Name: "stop-command", Usage: "with --target: `COMMAND` for sh that stops the node $NODE, at $ADDRESS"},
					&cli.StringFlag{Name: "start-command", Usage: "with --target: `COMMAND` for sh that starts it again"},
					&cli.BoolFlag{Name: "yes", Usage: "with --target: do not ask"},
					jsonFlag(),
				},
				Action: runDrills,
			},
		},
	})
}

const drillRunHelp = drillHelp + `

Progress and the report go to standard output; with --json the report goes there as JSON, and progress to
standard error. The exit code is 0 if all that was checked holds, and 1 if not. Whatever is found, the nodes'
folders then stay, and the report says where; else nothing is left behind, after Ctrl-C neither.

With --target the drills run on a cluster that is in use: only those that it can do to itself without a loss,
switchover-storm and, with the commands that stop and start a node, restart-standby. The question is asked
first. Clients write under a prefix of their own, which is removed in the end. PGUSER, PGPASSWORD, PGDATABASE and
PGSSLMODE are honoured.`

func listDrills(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rows := []status.Row{}
	table := [][]string{{"drill", "what it breaks", "what must hold besides"}}
	for _, d := range drill.All() {
		rows = append(rows, status.Row{{Name: "drill", Value: d.Name}, {Name: "breaks", Value: d.Breaks}, {Name: "holds", Value: d.Holds}})
		table = append(table, []string{d.Name, d.Breaks, d.Holds})
	}
	return printRows(c, rows, table)
}

func runDrills(c *cli.Context) error {
	cfg, drills, err := drillConfig(c)
	if err != nil {
		return err
	}
	if cfg.Target != nil {
		if ok, err := agreed(c, cfg, drills); err != nil || !ok {
			return err
		}
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	// A closed terminal or pipe must not leave nodes and folders behind: it ends the drills.
	signal.Ignore(syscall.SIGPIPE)
	progress := c.App.Writer
	if c.Bool("json") {
		progress = c.App.ErrWriter
	}
	cfg.Progress = func(line string) {
		if _, err := fmt.Fprintln(progress, line); err != nil {
			cancel()
		}
	}
	defer onSignals(cancel, func() { os.Exit(exitFailure) }, syscall.SIGHUP)()
	report := drill.Execute(ctx, cfg, drills)
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = printLines(c.App.Writer, append([]string{""}, report.Lines()...))
	}
	if err == nil && !report.OK {
		return errReported
	}
	return err
}

// drillConfig reads the command line of a run. Its errors are usage errors.
func drillConfig(c *cli.Context) (drill.Config, []drill.Drill, error) {
	cfg := drill.Config{
		Nodes: c.Int("nodes"), Rounds: c.Int("rounds"), Clients: c.Int("clients"), Duration: c.Duration("duration"),
		Seed: c.Uint64("seed"), Keep: c.Bool("keep"),
	}
	const minNodes, maxNodes, maxClients = 3, 7, 1000
	switch {
	case c.NArg() == 0:
		return cfg, nil, usagef("which drill? see longship drill list, or say all")
	case cfg.Nodes < minNodes || cfg.Nodes > maxNodes:
		return cfg, nil, usagef("--nodes %d: want %d to %d", cfg.Nodes, minNodes, maxNodes)
	case cfg.Rounds < 1:
		return cfg, nil, usagef("--rounds %d: want one at least", cfg.Rounds)
	case cfg.Clients < 3 || cfg.Clients > maxClients:
		return cfg, nil, usagef("--clients %d: want 3 to %d", cfg.Clients, maxClients)
	case cfg.Duration < 0:
		return cfg, nil, usagef("--duration cannot be negative")
	}
	if !c.IsSet("seed") {
		cfg.Seed = rand.Uint64N(1_000_000)
	}
	drills, err := drill.Find(c.Args().Slice())
	if err != nil {
		return cfg, nil, &usageError{err}
	}
	if addresses := c.StringSlice("target"); len(addresses) > 0 {
		cfg.Target = &drill.Target{Addresses: addresses, StopCommand: c.String("stop-command"), StartCommand: c.String("start-command")}
		if drills, err = drill.ForTarget(drills, slices.Contains(c.Args().Slice(), "all")); err != nil {
			return cfg, nil, &usageError{err}
		}
	}
	if cfg.Program, err = os.Executable(); err != nil {
		return cfg, nil, fmt.Errorf("find the longship program: %w", err)
	}
	return cfg, drills, nil
}

// agreed says what is going to happen to a cluster that is in use, and asks whether it may.
func agreed(c *cli.Context, cfg drill.Config, drills []drill.Drill) (bool, error) {
	ctx, cancel := context.WithTimeout(c.Context, queryTimeout)
	defer cancel()
	members, err := cfg.Target.Members(ctx)
	if err != nil {
		return false, err
	}
	if c.Bool("yes") {
		return true, nil
	}
	if !onTerminal(c) {
		return false, usagef("--target is a cluster that is in use, and there is no terminal to ask on: --yes goes on without the question")
	}
	lines := []string{"The cluster has"}
	for _, m := range members {
		lines = append(lines, fmt.Sprintf("  %s at %s", m[0], m[1]))
	}
	lines = append(lines, fmt.Sprintf("%d clients are going to write to it, under a prefix of their own, and then", cfg.Clients))
	for _, d := range drills {
		lines = append(lines, fmt.Sprintf("  %s: %s", d.Name, d.Breaks))
	}
	if err := printLines(c.App.Writer, lines); err != nil {
		return false, err
	}
	return confirm(c, "Do that?")
}
