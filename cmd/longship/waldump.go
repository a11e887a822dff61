package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/waldump"
	"github.com/longship-db/longship/wal"
)

const waldumpHelp = `Prints a line for each record, as pg_waldump does, but with the transactions in it decoded: commit time,
what the primary knew when it wrote the record, and each operation with its key, its value, shortened,
and their lengths in bytes.

Give segment files, or folders of them such as those in DIR/orphans, or --data-dir and perhaps a range.
The node may be running. Where the log cannot be read any further, the reason is printed, and the exit
code is 1, as pg_waldump's is; that is how the log of a running node ends. With --to the exit code is 0
if everything up to there was readable.`

func waldumpCommand() *cli.Command {
	return &cli.Command{
		Name:        "waldump",
		Usage:       "print the log in readable form",
		ArgsUsage:   "[FILE…]",
		Description: waldumpHelp,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data-dir", EnvVars: envVars("data-dir"), Usage: "read the log of the node that lives in `DIR`"},
			&cli.StringFlag{Name: "from", Usage: "begin with the first record at `LSN` or later"},
			&cli.StringFlag{Name: "to", Usage: "print records that end by `LSN`"},
			&cli.StringFlag{Name: "timeline", Usage: "follow the log of timeline `TLI` (default: the newest)"},
			&cli.StringFlag{Name: "key", Usage: "print only operations on keys that begin with `PREFIX`"},
			&cli.BoolFlag{Name: "stats", Usage: "print how many records of each type there are, and their size"},
			&cli.BoolFlag{Name: "json", Usage: "print an object per line"},
		},
		Action: dumpWAL,
	}
}

func dumpWAL(c *cli.Context) error {
	cfg := waldump.Config{
		Paths:   c.Args().Slice(),
		DataDir: c.String("data-dir"),
		Key:     c.String("key"),
		Stats:   c.Bool("stats"),
		JSON:    c.Bool("json"),
		Out:     c.App.Writer,
		Notice:  c.App.ErrWriter,
	}
	switch {
	case len(cfg.Paths) > 0:
		cfg.DataDir = ""
	case cfg.DataDir == "":
		return usagef("nothing to read: give segment files or --data-dir; see longship waldump --help")
	}
	for flag, lsn := range map[string]*wal.LSN{"from": &cfg.From, "to": &cfg.To} {
		text := c.String(flag)
		if text == "" {
			continue
		}
		if err := lsn.UnmarshalText([]byte(text)); err != nil {
			return usagef("--%s: %w", flag, err)
		}
	}
	if text := c.String("timeline"); text != "" {
		tli, err := waldump.ParseTimeline(text)
		if err != nil {
			return usagef("--timeline: %w", err)
		}
		cfg.Timeline = tli
	}
	if cfg.To != 0 && cfg.To <= cfg.From {
		return usagef("--to %s is not after --from %s", cfg.To, cfg.From)
	}
	err := waldump.Run(cfg)
	if errors.Is(err, waldump.ErrEnded) {
		return errReported
	}
	return err
}
