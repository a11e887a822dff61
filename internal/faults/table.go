package faults

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnknownPeer says that no member has the name in a fault.
var ErrUnknownPeer = errors.New("no member has this name")

// maxFaults bounds a table.
const maxFaults = 100

// A Table is what is broken at one node. All methods may be called at the same time.
type Table struct {
	addresses func(peer string) []string // where a member is reached, for whatever; nil if there is none of the name

	active atomic.Pointer[active]

	mu     sync.Mutex // guards what follows, and the writing of active
	last   int
	conns  map[*conn]struct{} // nil once closed
	pumps  sync.WaitGroup
	closed chan struct{}
}

// active is what is broken until changed is closed.
type active struct {
	faults  []*entry
	changed chan struct{}
}

type entry struct {
	id    int
	fault Fault
	since time.Time
	hits  atomic.Int64
	used  atomic.Bool // a fault that comes once has come
}

// An Active fault is one that a table holds.
type Active struct {
	ID    int
	Fault Fault
	Since time.Time
	Hits  int64 // how often it has held, slowed or failed something
}

// NewTable makes an empty table. addresses says under which addresses a member is dialed.
func NewTable(addresses func(peer string) []string) *Table {
	t := &Table{addresses: addresses, conns: make(map[*conn]struct{}), closed: make(chan struct{})}
	t.active.Store(&active{changed: make(chan struct{})})
	return t
}

// Inject breaks one more thing, and returns the number under which it can be healed.
func (t *Table) Inject(f Fault) (id int, err error) {
	if f.onNetwork() && f.Peer != Everybody && len(t.addresses(f.Peer)) == 0 {
		return 0, fmt.Errorf("%w: %q", ErrUnknownPeer, f.Peer)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.active.Load()
	if len(a.faults) == maxFaults {
		return 0, fmt.Errorf("there are %d faults: heal some first", maxFaults)
	}
	t.last++
	t.change(append(slices.Clone(a.faults), &entry{id: t.last, fault: f, since: time.Now()}))
	return t.last, nil
}

// Heal takes a fault back, or all of them with id 0, and returns how many those were.
func (t *Table) Heal(id int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.active.Load().faults
	after := slices.DeleteFunc(slices.Clone(before), func(e *entry) bool { return id == 0 || e.id == id })
	t.change(after)
	return len(before) - len(after)
}

// change replaces what is active, and has everybody who waits look again. t.mu is held.
func (t *Table) change(faults []*entry) {
	old := t.active.Swap(&active{faults: faults, changed: make(chan struct{})})
	close(old.changed)
}

// Active lists the faults, the oldest first.
func (t *Table) Active() (list []Active) {
	for _, e := range t.active.Load().faults {
		list = append(list, Active{ID: e.id, Fault: e.fault, Since: e.since, Hits: e.hits.Load()})
	}
	return list
}

// Close ends all connections that went through the table, healed or not, and what waits for a disk. It
// returns when they are gone.
func (t *Table) Close() {
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	if conns != nil {
		close(t.closed)
	}
	t.mu.Unlock()
	for c := range conns {
		c.shut()
		c.Conn.Close()
	}
	t.pumps.Wait()
}

// A link is a connection's peer and what it is for.
type link struct {
	address string
	kind    Kind
}

// A weather is what is broken on one way of a link at the moment.
type weather struct {
	cut     *entry
	delay   time.Duration
	delayed *entry
	rate    int64 // in bytes per second; 0: as fast as it goes
	limited *entry
	changed <-chan struct{} // closed when it may have changed
}

func (t *Table) weather(l link, d Direction) weather {
	a := t.active.Load()
	w := weather{changed: a.changed}
	for _, e := range a.faults {
		if !e.fault.concerns(l.kind, d) || !t.leadsTo(l, e.fault.Peer) {
			continue
		}
		switch e.fault.Effect {
		case Cut:
			w.cut = e
		case Delay:
			w.delay, w.delayed = w.delay+e.fault.Time, e
		case Limit:
			if w.rate == 0 || e.fault.Rate < w.rate {
				w.rate, w.limited = e.fault.Rate, e
			}
		}
	}
	return w
}

// leadsTo reports whether a peer is at the other end of a link. Members may move meanwhile.
func (t *Table) leadsTo(l link, peer string) bool {
	return peer == Everybody || slices.ContainsFunc(t.addresses(peer), func(a string) bool { return samePlace(a, l.address) })
}

// samePlace reports whether two addresses name the same port of the same host, which may be written as
// localhost.
func samePlace(a, b string) bool { return a == b || numeric(a) == numeric(b) }

func numeric(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "localhost" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
