package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// leaveTimeout is how long Close waits for its good-bye to be on its way.
const leaveTimeout = 500 * time.Millisecond

// A Gossip is this node among the others. Its methods may be called from anywhere.
type Gossip struct {
	cfg       Config
	self      netip.AddrPort // as advertised
	roster    *roster
	list      *memberlist.Memberlist
	transport *transport
	log       *logWriter // of memberlist

	alive context.Context // ends with Cut or Close
	end   context.CancelFunc
	cut   sync.Once
	owned sync.WaitGroup // what Cut began

	mu   sync.Mutex
	meta []byte // the last one that could be encoded
}

// Open begins to listen and to answer. Until Run, it looks for nobody. The caller closes it.
func Open(cfg Config) (*Gossip, error) {
	if cfg.timing == (timing{}) {
		cfg.timing = defaultTiming
	}
	meta := cfg.Meta()
	encoded, err := meta.encode()
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	addr, err := bindAddress(cfg.Listen)
	if err != nil {
		return nil, err
	}
	process := processName(cfg.Name, meta.ID)
	g := &Gossip{
		cfg: cfg, roster: newRoster(process, cfg.timing), log: &logWriter{logger: cfg.Logger}, meta: encoded,
	}
	g.alive, g.end = context.WithCancel(context.Background())
	if err := g.listen(process, addr); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// listen opens the ports and starts memberlist on them.
func (g *Gossip) listen(process string, addr *net.TCPAddr) (err error) {
	logger := log.New(g.log, "", 0)
	if g.transport, err = listen(g.alive, addr, &g.cfg, logger); err != nil {
		return err
	}
	bound := netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(g.transport.GetAutoBindPort()))
	if g.self, err = advertised(g.cfg.Advertise, bound); err != nil {
		return errors.Join(err, g.transport.Shutdown())
	}
	conf := memberlistConfig(process, g.cfg.timing, logger)
	conf.Transport = g.transport
	conf.BindAddr, conf.BindPort = bound.Addr().String(), int(bound.Port())
	conf.AdvertiseAddr, conf.AdvertisePort = g.self.Addr().String(), int(g.self.Port())
	conf.SecretKey = g.cfg.Key
	conf.Delegate, conf.Events, conf.Conflict = (*delegate)(g), g.roster, g.roster
	if g.list, err = memberlist.Create(conf); err != nil {
		return errors.Join(fmt.Errorf("gossip: %w", err), g.transport.Shutdown())
	}
	return nil
}

// Address is where others reach this node's gossip, host:port.
func (g *Gossip) Address() string { return g.self.String() }

// Members returns the others, by name: those alive, and for an hour those that are not any more. Of
// a name there may be several.
func (g *Gossip) Members() []Member { return g.roster.members() }

// Run looks for the others, again and again, tells them what is new, and calls the hooks, until ctx
// ends, or Cut or Close is called.
func (g *Gossip) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.alive, cancel)()
	var wg sync.WaitGroup
	wg.Go(func() { g.announce(ctx, g.list.UpdateNode) })
	wg.Go(func() { g.seek(ctx) })
	wg.Go(func() { g.watch(ctx) })
	wg.Wait()
}

// announce tells the others what the node says of itself, when that is news. Tell is memberlist's UpdateNode.
func (g *Gossip) announce(ctx context.Context, tell func(time.Duration) error) {
	var said Meta
	var at time.Time
	for ; ctx.Err() == nil; wait(ctx, g.cfg.timing.update) {
		meta, now := g.cfg.Meta(), time.Now()
		if !meta.news(said, now.Sub(at) >= g.cfg.timing.small) {
			continue
		}
		if tell(g.cfg.timing.update) == nil {
			said, at = meta, now
		}
	}
}

// seek connects to the seeds that are not known as members: at first, and later to those that were
// cut off for so long that they were given up.
func (g *Gossip) seek(ctx context.Context) {
	said := false
	for ctx.Err() == nil {
		tried, err := g.join(ctx)
		if lost := tried > 0 && g.roster.alone(); !lost {
			said = false
		} else if !said && ctx.Err() == nil {
			said = true
			g.cfg.Logger.Warn("gossip reaches nobody: do the addresses and the gossip keys agree?", "seeds", tried, "error", err)
		}
		pause := g.cfg.timing.rejoin
		if g.roster.alone() {
			pause = g.cfg.timing.look
		}
		wait(ctx, pause)
	}
}

// join exchanges states with each seed that is not alive. It returns how many there were.
func (g *Gossip) join(ctx context.Context) (tried int, err error) {
	for _, seed := range g.cfg.Seeds() {
		addrs, lookupErr := g.lookup(ctx, seed)
		if lookupErr != nil {
			tried, err = tried+1, lookupErr
			continue
		}
		for _, addr := range addrs {
			if addr == g.self || g.roster.knows(addr) {
				continue
			}
			tried++
			if _, joinErr := g.list.Join([]string{addr.String()}); joinErr != nil {
				err = joinErr
			}
			if ctx.Err() != nil {
				return tried, ctx.Err()
			}
		}
	}
	return tried, err
}

func (g *Gossip) lookup(ctx context.Context, seed string) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	return resolve(ctx, seed)
}

// watch calls the hooks.
func (g *Gossip) watch(ctx context.Context) {
	tick := time.NewTicker(g.cfg.timing.probe)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.roster.wake:
		case <-tick.C:
		}
		for _, name := range g.roster.dead() {
			g.cfg.Logger.Info("gossip hears no more of a node", "member", name)
			if g.cfg.OnDead != nil {
				g.cfg.OnDead(name)
			}
		}
		for _, text := range g.roster.lasting() {
			g.cfg.Logger.Error(text)
			if g.cfg.OnConflict != nil {
				g.cfg.OnConflict(text)
			}
		}
		g.roster.forget()
	}
}

// Cut falls silent at once, without a good-bye and without waiting: ports and connections are closed
// while it returns. Close follows.
func (g *Gossip) Cut() {
	g.cut.Do(func() {
		g.end()
		g.owned.Go(func() { _ = g.transport.Shutdown() }) // it never fails
	})
}

// Close says good-bye, for half a second at most, and closes the ports. It is called once. Run ends
// by itself then, if it has not ended.
func (g *Gossip) Close() error {
	if g.alive.Err() == nil {
		if err := g.list.Leave(leaveTimeout); err != nil {
			g.cfg.Logger.Debug("gossip ends without a good-bye", "error", err)
		}
	}
	g.Cut()
	g.owned.Wait()
	g.log.mute()
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// A delegate is a Gossip as memberlist asks it.
type delegate Gossip

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	b, err := d.cfg.Meta().encode()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.meta = b
	}
	return d.meta
}

// The rest of memberlist.Delegate: there are no messages of our own.

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}
