package gossip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/longship-db/longship/syncrep"
)

// A Member is another node, as it was heard last.
type Member struct {
	Name    string // of the node
	Meta    Meta
	Address string // of its gossip, host:port
	Alive   bool   // it answers, or others say so
}

// processName is what memberlist calls a node: its name and its disk.
func processName(name string, id syncrep.ID) string {
	return fmt.Sprintf("%s.%016x.%016x", name, id.Node, id.Incarnation)
}

// nodeName is the name in a process name.
func nodeName(process string) string {
	name, _, _ := strings.Cut(process, ".")
	return name
}

// A roster is who was heard. It is memberlist's event and conflict delegate: memberlist calls it
// with its own lock held, so nothing here waits for anybody.
type roster struct {
	self   string        // process name of this node
	timing timing        //
	wake   chan struct{} // 1 slot: somebody died

	mu        sync.Mutex
	heard     map[string]*heard // by process name, self not among them
	conflicts map[string]*conflict
}

type heard struct {
	Member
	changed time.Time // of Alive
	untold  bool      // dead, and nobody was told
}

func newRoster(self string, t timing) *roster {
	return &roster{
		self: self, timing: t, wake: make(chan struct{}, 1),
		heard: map[string]*heard{}, conflicts: map[string]*conflict{},
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (r *roster) NotifyJoin(n *memberlist.Node) { r.alive(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (r *roster) NotifyUpdate(n *memberlist.Node) { r.alive(n) }

// alive notes what a node says of itself. One that cannot be read, or that speaks for another disk,
// is not heard.
func (r *roster) alive(n *memberlist.Node) {
	meta, err := decodeMeta(n.Meta)
	name := nodeName(n.Name)
	if n.Name == r.self || err != nil || n.Name != processName(name, meta.ID) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.heard[n.Name]
	if h == nil {
		h = &heard{}
		r.heard[n.Name] = h
	}
	if !h.Alive {
		h.changed, h.untold = time.Now(), false
	}
	h.Member = Member{Name: name, Meta: meta, Address: address(n).String(), Alive: true}
}

// NotifyLeave implements memberlist.EventDelegate: the node died or said good-bye.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.heard[n.Name]; h != nil && h.Alive {
		h.Alive, h.changed, h.untold = false, time.Now(), true
		poke(r.wake)
	}
}

// members are all that were heard, by name, the living first.
func (r *roster) members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Member, 0, len(r.heard))
	for _, h := range r.heard {
		list = append(list, h.Member)
	}
	slices.SortFunc(list, func(a, b Member) int {
		byLife := 0
		if a.Alive != b.Alive {
			byLife = 1
			if a.Alive {
				byLife = -1
			}
		}
		return cmp.Or(strings.Compare(a.Name, b.Name), byLife, strings.Compare(a.Meta.ID.String(), b.Meta.ID.String()))
	})
	return list
}

// dead returns the names that became silent since the last call. A name that another process has by
// now is not silent.
func (r *roster) dead() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, h := range r.heard {
		if h.untold {
			h.untold = false
			names = append(names, h.Name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		for _, h := range r.heard {
			if h.Alive && h.Name == name {
				return true
			}
		}
		return false
	})
}

// forget drops those that have been dead for long.
func (r *roster) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for process, h := range r.heard {
		if !h.Alive && time.Since(h.changed) > r.timing.forget {
			delete(r.heard, process)
		}
	}
}

// knows reports whether a living member gossips at addr.
func (r *roster) knows(addr netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.heard {
		if h.Alive && h.Address == addr.String() {
			return true
		}
	}
	return false
}

// alone reports whether nobody else is alive.
func (r *roster) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.heard {
		if h.Alive {
			return false
		}
	}
	return true
}

func address(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr) // invalid: prints as such
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// poke leaves a wake-up in a 1-slot channel.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
