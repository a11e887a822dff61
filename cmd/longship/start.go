package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
	"github.com/longship-db/longship/gossip"
	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

const startHelp = `With an empty data directory and no --join, the node founds a cluster of one. With --join it becomes
a member of that cluster: it takes a copy of its data, if it has none, and follows its primary. Who the
primary is, the members decide among themselves: when it is gone, one of them takes its place, and when
it returns, it follows. A node of a cluster is started again as it was.

When it does its work, the node prints one line that begins with "ready:" and tells systemd so
(NOTIFY_SOCKET). Its log goes to standard error.

SIGINT and SIGTERM shut the node down cleanly, with exit code 0, and a primary hands over first; a second
one ends it at once, with exit code 1, as a crash would: acknowledged commits are safe, and the next start
recovers. SIGHUP has all nodes go by the settings that ALTER SYSTEM has written, like pg_reload_conf(). After a
failed write or sync of the log the node ends at once by itself, with exit code 1.

Server settings have PostgreSQL's names, with dashes, take PostgreSQL's units, and mean what they mean
there.`

func startCommand() *cli.Command {
	return &cli.Command{
		Name:        "start",
		Usage:       "run one node",
		Description: startHelp,
		Flags:       startFlags(),
		Action:      start,
	}
}

func startFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "data-dir", Usage: "the node keeps everything in `DIR`"},
		&cli.StringFlag{Name: "name", Usage: "the node's `NAME`, unique in the cluster"},
		&cli.StringFlag{Name: "listen", Usage: "`HOST:PORT` for clients, receivers and members", Value: fmt.Sprintf("%s:%d", status.DefaultHost, status.DefaultPort)},
		&cli.StringFlag{Name: "raft-listen", Usage: "`HOST:PORT` for the members' Raft (default: the host of --listen, its port + 100)"},
		&cli.StringFlag{Name: "gossip-listen", Usage: "`HOST:PORT`, TCP and UDP, for the members' gossip (default: the host of --listen, its port + 200)"},
		&cli.StringFlag{Name: "http-listen", Usage: "`HOST:PORT` for metrics and health: /metrics, /healthz, /readyz (default: they are not served)"},
		&cli.BoolFlag{Name: "enable-pprof", Usage: "serve profiles of the process there too, for go tool pprof: /debug/pprof/"},
		&cli.StringFlag{Name: "advertise-host", Usage: "`HOST[:PORT]` under which other nodes reach this one, the port if it is another than that of --listen (default: as in --listen)"},
		&cli.StringSliceFlag{Name: "join", Usage: "`HOST:PORT,…` of members of the cluster to join"},
		&cli.StringFlag{Name: "zone", Usage: "`NAME` of the place where the node is, a rack or a building; rules with ZONES count them"},
		&cli.IntFlag{Name: "failover-priority", Usage: "of nodes that will do, the one with the highest `NUMBER` is promoted; 0: never this one", Value: 1},
		&cli.BoolFlag{Name: "witness", Usage: "keep the log and no table: the node votes, acknowledges commits and hands over what it has at a failover, and never becomes primary"},
		&cli.StringFlag{Name: "gossip-key", Usage: "encrypts gossip: the same `KEY` on all nodes, 16, 24 or 32 bytes in base64 or hexadecimal; better given in the environment, where others do not see it"},
		&cli.StringFlag{Name: "cluster-secret", Usage: "members prove with it that they belong together: the same `SECRET` on all nodes; better given in the environment"},
		&cli.StringFlag{Name: "wal-segsize", Usage: "size of the segments of a new cluster, in `MB`: a power of two from 1 to 1024 (default: 16)"},
		&cli.BoolFlag{Name: "allow-faults", Usage: "whoever can connect may break the node's network and disk on purpose, with longship_inject_fault(): for drills, never where data matters"},
		&cli.StringFlag{Name: "log-level", Usage: "`LEVEL` of what is logged: debug, info, warn or error", Value: "info"},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of the log: text or json", Value: "text"},
	}
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.EnvVars = envVars(f.Name)
		case *cli.StringSliceFlag:
			f.EnvVars = envVars(f.Name)
		case *cli.IntFlag:
			f.EnvVars = envVars(f.Name)
		case *cli.BoolFlag:
			f.EnvVars = envVars(f.Name)
		}
	}
	for _, s := range node.Settings() {
		flags = append(flags, settingFlag(s))
	}
	return flags
}

// settingFlag is the flag of a server setting. Its value is text, checked by the node: "64MB", "off".
func settingFlag(s sql.Setting) cli.Flag {
	usage := strings.TrimSuffix(s.Short, ".")
	switch {
	case s.Unit != "":
		usage += ", in " + s.Unit + " or with a unit"
	case s.Kind == sql.KindEnum:
		usage += ": " + strings.Join(s.Enum, ", ")
	case s.Kind == sql.KindBool:
		usage += ": on, off"
	}
	name := flagName(s.Name)
	return &cli.StringFlag{
		Name:        name,
		Usage:       usage,
		DefaultText: s.Boot,
		Category:    s.Category,
		EnvVars:     envVars(name),
	}
}

func flagName(setting string) string { return strings.ReplaceAll(strings.ToLower(setting), "_", "-") }

// envVars names the environment variable of a flag.
func envVars(flag string) []string {
	return []string{"LONGSHIP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func start(c *cli.Context) error {
	cfg, err := startConfig(c)
	if err != nil {
		return err
	}
	syscall.Umask(0o077) // the files of a node are for its own user alone, as PostgreSQL's are
	n, err := node.New(cfg)
	if err != nil {
		return &usageError{err}
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	stop := onSignals(func() {
		cfg.Logger.Info("shutting down; a second signal ends the process at once")
		cancel()
	}, func() { os.Exit(exitFailure) })
	defer stop()
	defer onHangup(func() {
		if err := n.Reload(ctx); err != nil {
			cfg.Logger.Warn("SIGHUP: the settings were not reloaded", "err", err)
		}
	})()

	err = n.Run(ctx)
	if node.IsFatal(err) {
		// What is in memory may not be what is on disk: nothing may run any more, deferred calls
		// included.
		report(c.App.ErrWriter, err)
		os.Exit(exitFailure)
	}
	return err
}

// startConfig reads the flags. Its errors are usage errors.
func startConfig(c *cli.Context) (node.Config, error) {
	if err := noArguments(c); err != nil {
		return node.Config{}, err
	}
	for _, name := range []string{"data-dir", "name"} {
		if c.String(name) == "" {
			return node.Config{}, usagef("--%s is missing: see longship start --help", name)
		}
	}
	cfg := node.Config{
		DataDir:          c.String("data-dir"),
		Name:             c.String("name"),
		Listen:           c.String("listen"),
		RaftListen:       c.String("raft-listen"),
		GossipListen:     c.String("gossip-listen"),
		HTTPListen:       c.String("http-listen"),
		EnablePprof:      c.Bool("enable-pprof"),
		AllowFaults:      c.Bool("allow-faults"),
		AdvertiseHost:    c.String("advertise-host"),
		Join:             slices.DeleteFunc(c.StringSlice("join"), func(s string) bool { return s == "" }),
		Zone:             c.String("zone"),
		FailoverPriority: c.Int("failover-priority"),
		Witness:          c.Bool("witness"),
		ClusterSecret:    c.String("cluster-secret"),
		Settings:         map[string]string{},
		Out:              c.App.Writer,
	}
	if cfg.Witness && c.IsSet("failover-priority") && cfg.FailoverPriority != 0 {
		return node.Config{}, usagef("--failover-priority %d: a witness never becomes primary; leave it out", cfg.FailoverPriority)
	}
	if err := listenNearby(&cfg); err != nil {
		return node.Config{}, err
	}
	var err error
	if cfg.GossipKey, err = gossip.ParseKey(c.String("gossip-key")); err != nil {
		return node.Config{}, usagef("--gossip-key: %w", err)
	}
	if cfg.SegmentSize, err = parseSegmentSize(c.String("wal-segsize")); err != nil {
		return node.Config{}, err
	}
	if cfg.Logger, err = newLogger(c.App.ErrWriter, c.String("log-level"), c.String("log-format")); err != nil {
		return node.Config{}, err
	}
	for _, s := range node.Settings() {
		if name := flagName(s.Name); c.IsSet(name) {
			cfg.Settings[s.Name] = c.String(name)
		}
	}
	return cfg, nil
}

// What is added to the client port to get the others, unless they are given.
const (
	raftPortOffset   = 100
	gossipPortOffset = 200
)

// listenNearby fills in where Raft and gossip listen, if that is not said: next to the clients' port.
// Port 0 stays 0: any that is free.
func listenNearby(cfg *node.Config) error {
	for _, other := range []struct {
		flag   string
		addr   *string
		offset int
	}{{"--raft-listen", &cfg.RaftListen, raftPortOffset}, {"--gossip-listen", &cfg.GossipListen, gossipPortOffset}} {
		if *other.addr != "" {
			continue
		}
		host, text, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return usagef("--listen %q: want HOST:PORT", cfg.Listen)
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return usagef("--listen %q: port must be a number from 0 to 65535", cfg.Listen)
		}
		if port != 0 {
			port += uint64(other.offset)
		}
		if port > 65535 {
			return usagef("there is no port %d for %s, which is --listen's + %d: give it", port, other.flag, other.offset)
		}
		*other.addr = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	}
	return nil
}

// parseSegmentSize reads what initdb --wal-segsize takes, with or without the unit; "" is 0.
func parseSegmentSize(s string) (wal.SegmentSize, error) {
	if s == "" {
		return 0, nil
	}
	mb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(s, "MB")))
	size := wal.SegmentSize(mb) << 20
	if err != nil || mb < 1 || mb > 1024 || !size.Valid() {
		return 0, usagef("--wal-segsize %q: want a power of two from 1 to 1024, in MB", s)
	}
	return size, nil
}

func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log-level %q: want debug, info, warn or error", level)
	}
	options.Level = l
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, usagef("--log-format %q: want text or json", format)
}
