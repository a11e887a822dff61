package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/demo"
	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const demoHelp = `Starts a cluster on this machine, each node a process of its own, and commits to it at a steady pace.
Kill a node and it is started again; kill the primary and another takes over, and how long no commit was
acknowledged is printed. At the end, every commit that was acknowledged is looked for on every node; the
exit code is 1 if one is missing.

A node's port for Raft is its client port + 100, and for gossip + 200.

Settings reach the nodes through the environment: LONGSHIP_SYNCHRONOUS_STANDBY_NAMES and so on, see
longship start --help. SIGINT and SIGTERM end the demonstration; a second one, without the check.`

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:        "demo",
		Usage:       "run a whole cluster on this machine, under load",
		Description: demoHelp,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "nodes", Value: 3, Usage: "`NUMBER` of nodes"},
			&cli.StringFlag{Name: "dir", Usage: "keep the nodes in `DIR`/n1, DIR/n2, … (default: a temporary folder, removed at the end)"},
			&cli.IntFlag{Name: "port", Value: status.DefaultPort, Usage: "client `PORT` of the first node; the others have the next ones"},
			&cli.DurationFlag{Name: "for", Usage: "end after this `TIME`", DefaultText: "when interrupted"},
			&cli.IntFlag{Name: "load", Value: 200, Usage: "`NUMBER` of commits per second"},
			&cli.DurationFlag{Name: "restart-delay", Value: 3 * time.Second, Usage: "start a node that died again after this `TIME`"},
		},
		Action: runDemo,
	}
}

func runDemo(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	cfg := demo.Config{
		Nodes:        c.Int("nodes"),
		Dir:          c.String("dir"),
		Port:         c.Int("port"),
		For:          c.Duration("for"),
		Load:         c.Int("load"),
		RestartDelay: c.Duration("restart-delay"),
		Out:          os.Stdout,
	}
	const maxNodes, maxLoad, maxPort = 16, 100_000, 65535
	switch {
	case cfg.Nodes < 1 || cfg.Nodes > maxNodes:
		return usagef("--nodes %d: want 1 to %d", cfg.Nodes, maxNodes)
	case cfg.Port < 1 || cfg.LastPort() > maxPort:
		return usagef("--port %d: want room for %d ports up to 65535, and for as many 100, 200 and 300 above: at most %d", cfg.Port, cfg.Nodes, cfg.Port+maxPort-cfg.LastPort())
	case cfg.Load < 1 || cfg.Load > maxLoad:
		return usagef("--load %d: want 1 to %d commits per second", cfg.Load, maxLoad)
	case cfg.For < 0 || cfg.RestartDelay < 0:
		return usagef("--for and --restart-delay cannot be negative")
	}
	var err error
	if cfg.Program, err = os.Executable(); err != nil {
		return fmt.Errorf("find the longship program: %w", err)
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	hurry, hurryUp := context.WithCancel(context.WithoutCancel(c.Context))
	defer hurryUp()
	// A closed terminal or pipe must not leave the temporary folder behind either: a write to it fails
	// and ends the demonstration.
	signal.Ignore(syscall.SIGPIPE)
	defer onSignals(cancel, hurryUp, syscall.SIGHUP)()
	return demo.Run(ctx, hurry, cfg)
}
