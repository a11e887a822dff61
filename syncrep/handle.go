package syncrep

import (
	"slices"

	"github.com/longship-db/longship/wal"
)

// A Handle is one stream's place in a Group, from Join to Leave.
type Handle struct {
	group *Group
	name  string
	id    ID // zero: a receiver

	wanted chan struct{} // holds a message while a promise is wanted of the member

	// Of this stream alone, and forward only: a standby that reconnects starts anew, because it may
	// have cut its log in between.
	write, flush, apply wal.Position

	// Guarded by group.mu.
	places     places // in the group's rules
	state      State
	superseded bool
}

// Join adds a stream in state Startup, at no position: of the member with that disk, or, with a zero
// ID, of a receiver. An older stream of the same disk counts no more. A name alone proves nothing of a
// member: another disk under a listed name does not count before a rule lists it (I9).
func (g *Group) Join(name string, id ID) *Handle {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := &Handle{group: g, name: name, id: id, wanted: make(chan struct{}, 1), places: find(g.rules, name, id)}
	if !id.IsZero() {
		g.supersede(id)
		if g.lease.waiting > 0 {
			h.want()
		}
	}
	g.streams = append(g.streams, h)
	return h
}

// supersede ends the say of the streams that a disk has already.
func (g *Group) supersede(id ID) {
	for _, h := range g.streams {
		if h.id == id {
			h.superseded = true
		}
	}
	g.evaluate()
}

// SetState says what the stream does now. A stream that begins to count does so with the positions
// it has reported already.
func (h *Handle) SetState(s State) {
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	h.state = s
	g.evaluate()
	g.release()
}

// Report takes a standby's write, flush and apply position, each the next byte, 0 for none. None of
// them ever moves back. A report that changes nothing costs three atomic loads.
func (h *Handle) Report(write, flush, apply wal.LSN) {
	moved := h.write.Advance(write)
	moved = h.flush.Advance(flush) || moved
	moved = h.apply.Advance(apply) || moved
	if !moved {
		return
	}
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.counts() {
		g.evaluate()
		g.release()
	}
}

// ApplyAwaited reports whether some commit waits for what it wrote to be applied.
func (h *Handle) ApplyAwaited() bool { return h.group.waiting[RemoteApply].n.Load() > 0 }

// Leave ends the stream's part in the group. That releases nothing. Reports and states that still come
// after it change nothing; leaving twice is leaving once. Promises stand.
func (h *Handle) Leave() {
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.streams, h); i >= 0 {
		g.streams = slices.Delete(g.streams, i, i+1)
		g.evaluate()
	}
}

// counts reports whether some rule looks at the stream. The caller holds group.mu.
func (h *Handle) counts() bool {
	return h.places.listed() && counts(h.state, h.flush.Load(), h.superseded)
}

// standby is the stream as a value. The caller holds group.mu.
func (h *Handle) standby() Standby {
	at := h.positions()
	return Standby{
		Name: h.name, ID: h.id, Superseded: h.superseded, State: h.state,
		Write: at[0], Flush: at[flush], Apply: at[2],
	}
}

func (h *Handle) positions() positions {
	return positions{h.write.Load(), h.flush.Load(), h.apply.Load()}
}
