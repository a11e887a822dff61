// Package demo runs a whole cluster on one machine, each node a process of its own, under a steady
// load of commits. It starts nodes that die again, remembers every acknowledged commit, and at the
// end looks for each of them on every node.
package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A Config says what to run.
type Config struct {
	Nodes        int
	Dir          string        // node i lives in Dir/ni and logs to Dir/ni.log; "": a temporary folder, removed at the end
	Port         int           // of the first node; the others have the next ones
	For          time.Duration // 0: until ctx ends
	Load         int           // commits per second
	RestartDelay time.Duration // between the death of a node and its next start

	Program string   // the longship binary
	Out     *os.File // what the demonstration says
}

// ErrLost says that an acknowledged commit was not found again.
var ErrLost = errors.New("acknowledged commits were lost")

const host = "127.0.0.1"

// Run is the demonstration. It ends when ctx does, or after cfg.For, with a check of all that was
// acknowledged; when hurry ends, at once. When it returns, every process that it started is gone.
func Run(ctx, hurry context.Context, cfg Config) (err error) {
	if err := checkPorts(cfg); err != nil {
		return err
	}
	temporary := cfg.Dir == ""
	if temporary {
		if cfg.Dir, err = os.MkdirTemp("", "longship-demo-"); err != nil {
			return err
		}
	} else if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return err
	}
	if temporary {
		defer func() {
			if errors.Is(err, ErrLost) {
				err = fmt.Errorf("%w: look at what the nodes hold in %s", err, cfg.Dir)
				return
			}
			err = errors.Join(err, os.RemoveAll(cfg.Dir))
		}()
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &demo{cfg: cfg, ledger: NewLedger(), show: newDisplay(cfg.Out, cancel)}
	d.cluster = newCluster(cfg, d.show.event)
	defer d.show.close()
	defer d.cluster.stop(hurry)
	return d.run(ctx, hurry)
}

// checkPorts makes sure that every node can listen before any is started.
func checkPorts(cfg Config) error {
	for i := range cfg.Nodes {
		l, err := net.Listen("tcp", cfg.address(i))
		if err != nil {
			return fmt.Errorf("cannot listen on %s: %w: perhaps another demo or node runs there; choose other ports with --port", cfg.address(i), cause(err))
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// cause strips what an error of package net repeats.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func (cfg *Config) address(i int) string { return net.JoinHostPort(host, strconv.Itoa(cfg.Port+i)) }
func (cfg *Config) name(i int) string    { return "n" + strconv.Itoa(i+1) }

type demo struct {
	cfg     Config
	cluster *cluster
	ledger  *Ledger
	show    *display
}

func (d *demo) run(ctx, hurry context.Context) error {
	d.show.event(fmt.Sprintf("starting %d nodes in %s", d.cfg.Nodes, d.cfg.Dir))
	d.cluster.start()
	primary, err := d.cluster.waitReady(ctx)
	if err != nil {
		return d.interrupted(ctx, err)
	}
	load := startLoad(d.cfg, d.ledger)
	defer load.stop(hurry)
	if err := d.ledger.waitFirst(ctx); err != nil {
		return d.interrupted(ctx, err)
	}
	begun := time.Now()
	d.printReady(primary)
	d.watch(ctx, begun)
	ran := time.Since(begun)

	// Nobody is killed any more, as far as we can help it: start at once who is down, so that the
	// commits under way can end and every node can be asked.
	d.cluster.hasten()
	load.stop(hurry)
	return d.finish(hurry, ran)
}

// interrupted turns the end of ctx, which was asked for, into none.
func (d *demo) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// printReady says that commits flow, and what to try next.
func (d *demo) printReady(primary *process) {
	say := func(format string, args ...any) { d.show.event(fmt.Sprintf(format, args...)) }
	say("ready: primary %s %s", primary.name, primary.address)
	say("  write     psql -h %s -p %s -c \"INSERT INTO kv VALUES ('hello', 'world')\"", host, port(primary.address))
	for _, p := range d.cluster.processes {
		if p != primary {
			say("  read      psql -h %s -p %s -c \"SELECT * FROM kv WHERE key = 'hello'\"", host, port(p.address))
			say("  kill      kill -9 $(head -n 1 %s)   # started again after %s", p.pidFile(), d.cfg.RestartDelay)
			break
		}
	}
	say("  kill      kill -9 $(head -n 1 %s)   # the primary", primary.pidFile())
	say("  look      %s status --watch --port %s", d.cfg.Program, port(primary.address))
	if d.cfg.For == 0 {
		say("  stop      Ctrl-C: every acknowledged commit is then looked for on every node")
	}
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// watch shows what goes on until the time is over.
func (d *demo) watch(ctx context.Context, begun time.Time) {
	if d.cfg.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, begun.Add(d.cfg.For))
		defer cancel()
	}
	eyes := &observer{cluster: d.cluster}
	defer eyes.close(context.WithoutCancel(ctx))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.show.update(d.view(eyes.look(ctx), time.Since(begun)))
		}
	}
}
