// Package demo runs a whole cluster on one machine, each node a process of its own, under a steady
// load of commits. It starts nodes that die again, remembers every acknowledged commit, and at the
// end looks for each of them on every node.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A Config says what to run.
type Config struct {
	Nodes        int
	Dir          string        // node i lives in Dir/ni and logs to Dir/ni.log; "": a temporary folder, removed at the end
	Port         int           // for clients of the first node, + 100 for Raft, + 200 for gossip; the others have the next ones
	For          time.Duration // 0: until ctx ends
	Load         int           // commits per second
	RestartDelay time.Duration // between the death of a node and its next start

	Program string   // the longship binary
	Out     *os.File // what the demonstration says
}

// ErrLost says that an acknowledged commit was not found again.
var ErrLost = errors.New("acknowledged commits were lost")

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
	d := &demo{cfg: cfg, ledger: NewLedger(), reigns: new(Reigns), show: newDisplay(cfg.Out, cancel)}
	d.load = newLoad(cfg, d.ledger, d.reigns, d.reignBegan)
	d.cluster = newCluster(cfg, d.show.event, d.load.follow)
	defer d.show.close()
	defer d.cluster.stop(hurry)
	defer d.load.stop(hurry)
	return d.run(ctx, hurry)
}

func (cfg *Config) name(i int) string { return "n" + strconv.Itoa(i+1) }

type demo struct {
	cfg     Config
	cluster *cluster
	load    *load
	ledger  *Ledger
	reigns  *Reigns
	show    *display
}

func (d *demo) run(ctx, hurry context.Context) error {
	d.say("starting %d nodes in %s", d.cfg.Nodes, d.cfg.Dir)
	d.cluster.start()
	if err := d.cluster.waitReady(ctx); err != nil {
		return d.interrupted(ctx, err)
	}
	d.load.start()
	if err := d.awaitFirst(ctx); err != nil {
		return d.interrupted(ctx, err)
	}
	begun := time.Now()
	d.watch(ctx, begun)
	ran := time.Since(begun)

	// Nobody is killed any more, as far as we can help it: start at once who is down, so that the
	// commits under way can end and every node can be asked.
	d.cluster.hasten()
	d.load.stop(hurry)
	return d.finish(hurry, ran)
}

// patience is how long the demonstration waits for the first commit before it says what is wrong.
const patience = 10 * time.Second

// awaitFirst waits until commits flow.
func (d *demo) awaitFirst(ctx context.Context) error {
	complaint := time.AfterFunc(patience, func() {
		d.say("no commit in %s: %v; going on trying", patience, d.load.trouble.Load())
	})
	defer complaint.Stop()
	return d.ledger.waitFirst(ctx)
}

// interrupted turns the end of ctx, which was asked for, into none.
func (d *demo) interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (d *demo) say(format string, args ...any) { d.show.event(fmt.Sprintf(format, args...)) }

// reignBegan says who acknowledges commits now. The first time that means that the demonstration is
// ready; later, that the primary has changed.
func (d *demo) reignBegan(r Reign) {
	primary := d.cluster.named(r.Node)
	if r.Gap == 0 {
		d.printReady(primary)
		return
	}
	d.say("%s", r)
	d.say("  kill      %s   # the primary now", killLine(primary))
}

// printReady says that commits flow, and what to try next.
func (d *demo) printReady(primary *process) {
	d.say("ready: primary %s %s", primary.name, primary.address)
	d.say("  write     psql \"%s\" -c \"INSERT INTO kv VALUES ('hello', 'world')\"", d.cfg.hosts())
	standby := d.cluster.standby(primary)
	if standby != nil {
		d.say("  read      psql -h %s -p %s -c \"SELECT * FROM kv WHERE key = 'hello'\"", host, port(standby.address))
	}
	d.say("  kill      %s   # the primary: %s", killLine(primary), d.afterKill())
	if standby != nil {
		d.say("  kill      %s   # a standby: it comes back after %s", killLine(standby), d.cfg.RestartDelay)
		d.say("  move      %s switchover --port %s   # to another primary, without a loss", d.cfg.Program, port(standby.address))
		d.say("  look      %s status --watch --port %s", d.cfg.Program, port(standby.address))
	} else {
		d.say("  look      %s status --watch --port %s", d.cfg.Program, port(primary.address))
	}
	d.say("  metrics   curl http://%s/metrics", d.cfg.at(0, httpPorts))
	if d.cfg.For == 0 {
		d.say("  stop      Ctrl-C: every acknowledged commit is then looked for on every node")
	}
}

func killLine(p *process) string { return fmt.Sprintf("kill -9 $(head -n 1 %s)", p.pidFile()) }

// afterKill says what follows the death of the primary. Two nodes are too few for a majority without
// one of them.
func (d *demo) afterKill() string {
	if d.cfg.Nodes > 2 {
		return "a standby takes over in about a second, and this one comes back by itself"
	}
	return fmt.Sprintf("it comes back after %s, and commits wait for it", d.cfg.RestartDelay)
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
			seen := eyes.look(ctx)
			if ctx.Err() != nil {
				return // cut short, it saw nothing
			}
			d.show.update(d.view(seen, time.Now(), time.Since(begun)))
		}
	}
}
