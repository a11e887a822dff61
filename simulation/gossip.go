package simulation

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longship-db/longship/gossip"
	"github.com/longship-db/longship/node"
)

const (
	gossipEvery = time.Second
	gossipDead  = 5 * time.Second // without having been heard
)

// A grapevine is what the nodes gossip through: memberlist does not run in a bubble. Each node says once a second
// who it is; the others hear that if the network lets datagrams through.
type grapevine struct {
	network *Network

	mu    sync.Mutex
	peers map[*gossiper]bool
}

// A gossiper is a node.Gossip.
type gossiper struct {
	vine  *grapevine
	host  *Host
	cfg   gossip.Config
	ended context.Context
	end   context.CancelFunc

	mu    sync.Mutex
	heard map[string]heard // by name
}

type heard struct {
	gossip.Member
	at time.Time
}

// open is the Gossip of a host's node.Machine.
func (v *grapevine) open(host *Host) func(gossip.Config) (node.Gossip, error) {
	return func(cfg gossip.Config) (node.Gossip, error) {
		g := &gossiper{vine: v, host: host, cfg: cfg, heard: map[string]heard{}}
		g.ended, g.end = context.WithCancel(context.Background())
		v.mu.Lock()
		defer v.mu.Unlock()
		v.peers[g] = true
		return g, nil
	}
}

func (g *gossiper) Address() string { return g.cfg.Listen }

// Run says who the node is, and finds out who has fallen silent.
func (g *gossiper) Run(ctx context.Context) {
	tick := time.NewTicker(gossipEvery)
	defer tick.Stop()
	for {
		g.speak()
		g.missed()
		select {
		case <-tick.C:
		case <-g.ended.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func (g *gossiper) speak() {
	meta := g.cfg.Meta()
	g.vine.mu.Lock()
	defer g.vine.mu.Unlock()
	for other := range g.vine.peers {
		if other == g || g.host.isGone() || other.host.isGone() || !g.vine.network.Reachable(g.host.ip, other.host.ip) {
			continue
		}
		other.mu.Lock()
		me := gossip.Member{Name: g.cfg.Name, Meta: meta, Address: g.cfg.Listen, Alive: true}
		other.heard[g.cfg.Name] = heard{me, time.Now()}
		other.mu.Unlock()
	}
}

func (g *gossiper) missed() {
	var dead []string
	g.mu.Lock()
	for name, h := range g.heard {
		if h.Alive && time.Since(h.at) > gossipDead {
			h.Alive = false
			g.heard[name] = h
			dead = append(dead, name)
		}
	}
	g.mu.Unlock()
	for _, name := range dead {
		g.cfg.OnDead(name)
	}
}

func (g *gossiper) Members() []gossip.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []gossip.Member
	for _, h := range g.heard {
		list = append(list, h.Member)
	}
	slices.SortFunc(list, func(a, b gossip.Member) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (g *gossiper) Cut() { _ = g.Close() }

func (g *gossiper) Close() error {
	g.end()
	g.vine.mu.Lock()
	defer g.vine.mu.Unlock()
	delete(g.vine.peers, g)
	return nil
}
