package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
	"github.com/longship-db/longship/drill"
)

// The values of --network.
const (
	faultNetwork     = "faults"
	namespaceNetwork = "namespaces"
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
					&cli.StringFlag{Name: "network", Value: faultNetwork, Usage: "`WHAT` cuts the network: " + faultNetwork + " inside of nodes on loopback, or, as root, " + namespaceNetwork + ", one for each node"},
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
standard error. The exit code is 0 if all that was checked holds, and 1 if not, or if nothing was checked. Whatever is
found, the nodes' folders then stay, and the report says where; else nothing is left behind, after Ctrl-C neither. A
second Ctrl-C cuts the clean-up short, and says what is left, and where. Settings for nodes in the environment,
LONGSHIP_*, do not reach those of a drill.

With --target the drills run on a cluster that is in use: only those that it can do to itself without a loss,
switchover-storm and, with the commands that stop and start a node, restart-standby. The question is asked
first. Clients write under a prefix of their own, which is removed in the end. PGUSER, PGPASSWORD, PGDATABASE and
PGSSLMODE are honoured.`

func listDrills(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rows := []status.Row{}
	var lines []string
	for _, d := range drill.All() {
		rows = append(rows, status.Row{{Name: "drill", Value: d.Name}, {Name: "breaks", Value: d.Breaks}, {Name: "holds", Value: d.Holds}})
		lines = append(lines, d.Lines()...)
	}
	if c.Bool("json") {
		return printRows(c, rows, nil)
	}
	return printLines(c.App.Writer, lines)
}

func runDrills(c *cli.Context) error {
	cfg, drills, err := drillConfig(c)
	if err != nil {
		return err
	}
	if cfg.Namespaces && !drill.InNamespace() {
		return enterNamespace(cfg.Program)
	}
	if cfg.Target != nil {
		if err := agree(c, cfg, drills); err != nil {
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
	cfg.Left = &drill.Leftovers{}
	defer onSignals(func() {
		fmt.Fprintln(c.App.ErrWriter, "longship: interrupted: the drill cleans up after itself; a second signal has it leave what there is")
		cancel()
	}, func() {
		fmt.Fprintln(c.App.ErrWriter, strings.Join(abandoned(cfg.Left.List()), "\n"))
		os.Exit(exitFailure)
	}, syscall.SIGHUP)()
	report := drill.Execute(ctx, cfg, drills)
	if c.Bool("json") {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = printLines(c.App.Writer, append([]string{""}, report.Lines()...))
	}
	switch {
	case err != nil || report.OK:
		return err
	case report.Skipped():
		return errors.New("nothing was proved: every drill was skipped, and says why")
	}
	return errReported
}

// enterNamespace begins anew as the hub of a network of namespaces. It returns only if that fails.
func enterNamespace(program string) error {
	argv, err := drill.NamespaceCommand(program, os.Args[1:])
	if err == nil {
		err = syscall.Exec(argv[0], argv, os.Environ())
	}
	return fmt.Errorf("--network %s: %w", namespaceNetwork, err)
}

// abandoned says what is left behind when the clean-up is cut short.
func abandoned(left []string) []string {
	if len(left) == 0 {
		return []string{"longship: ended by a second signal; nothing is left behind"}
	}
	lines := []string{"longship: ended by a second signal; this is left behind:"}
	for _, what := range left {
		lines = append(lines, "  "+what)
	}
	return lines
}

// checkTarget refuses flags that would be ignored: those of a running cluster without one, and those of the drill's own
// with one.
func checkTarget(c *cli.Context) error {
	const target, stop, start = "target", "stop-command", "start-command"
	if !c.IsSet(target) {
		for _, name := range []string{stop, start, "yes"} {
			if c.IsSet(name) {
				return usagef("--%s is about a running cluster: say which with --target", name)
			}
		}
		return nil
	}
	for _, name := range []string{"nodes", "keep", "network"} {
		if c.IsSet(name) {
			return usagef("--%s is about a cluster of the drill's own, and --target names one that runs", name)
		}
	}
	if (c.String(stop) == "") != (c.String(start) == "") {
		return usagef("--%s and --%s belong together: what is stopped is started again", stop, start)
	}
	return nil
}

// drillConfig reads the command line of a run. Its errors are usage errors.
func drillConfig(c *cli.Context) (drill.Config, []drill.Drill, error) {
	cfg := drill.Config{
		Nodes: c.Int("nodes"), Rounds: c.Int("rounds"), Clients: c.Int("clients"), Duration: c.Duration("duration"),
		Seed: c.Uint64("seed"), Keep: c.Bool("keep"), Namespaces: c.String("network") == namespaceNetwork,
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
	case c.String("network") != faultNetwork && !cfg.Namespaces:
		return cfg, nil, usagef("--network %s: want %s or %s", c.String("network"), faultNetwork, namespaceNetwork)
	}
	if err := checkTarget(c); err != nil {
		return cfg, nil, err
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

// agree says what is going to happen to a cluster that is in use, and asks whether it may. That it may not is an error.
func agree(c *cli.Context, cfg drill.Config, drills []drill.Drill) error {
	ctx, cancel := context.WithTimeout(c.Context, queryTimeout)
	defer cancel()
	members, err := cfg.Target.Members(ctx)
	if err != nil {
		return err
	}
	if c.Bool("yes") {
		return nil
	}
	if !onTerminal(c) {
		return usagef("--target is a cluster that is in use, and there is no terminal to ask on: --yes goes on without the question")
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
		return err
	}
	ok, err := confirm(c, "Do that?")
	if err == nil && !ok {
		err = errors.New("nothing was proved: no drill was run, since the answer was not yes")
	}
	return err
}
