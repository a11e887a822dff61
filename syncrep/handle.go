package syncrep

import "github.com/longship-db/longship/wal"

// A Handle is one stream's place in a Group, from Join to Leave.
type Handle struct {
	group  *Group
	slot   int
	name   string
	member bool

	// Of this stream alone, and forward only: a standby that reconnects starts anew, because it may
	// have cut its log in between.
	write, flush, apply wal.Position

	// Guarded by group.mu.
	priority   int
	state      State
	superseded bool
	left       bool
}

// Join adds a stream in state Startup, at no position, in the first free slot of the array. If it is
// a member's, an older stream of that member counts no more: two streams have one disk behind them.
func (g *Group) Join(name string, member bool) *Handle {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := &Handle{group: g, name: name, member: member, priority: g.rule.priority(name, member)}
	for h.slot < len(g.streams) && g.streams[h.slot] != nil {
		h.slot++
	}
	if h.slot == len(g.streams) {
		g.streams = append(g.streams, nil)
	}
	if member {
		g.supersede(name)
	}
	g.streams[h.slot] = h
	return h
}

// supersede ends the say of the streams that a member has already.
func (g *Group) supersede(name string) {
	for _, h := range g.streams {
		if h != nil && h.member && equalFold(h.name, name) && !h.superseded {
			h.superseded = true
			g.shrink()
		}
	}
}

// SetState says what the stream does now. A stream that begins to count does so with the positions
// it has reported already.
func (h *Handle) SetState(s State) {
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	counted := h.counts()
	h.state = s
	switch counts := h.counts(); {
	case counts && !counted:
		g.evaluate()
		g.release()
	case counted && !counts:
		g.shrink()
	}
}

// Report takes a standby's write, flush and apply position, each the next byte, 0 for none. None of
// them ever moves back. A report that changes nothing costs three atomic loads.
func (h *Handle) Report(write, flush, apply wal.LSN) {
	moved := h.write.Advance(write)
	moved = h.flush.Advance(flush) || moved
	moved = h.apply.Advance(apply) || moved
	g := h.group
	if !moved && !g.takeover.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.counts() {
		g.evaluate()
		g.release()
	}
}

// Leave ends the stream's part in the group and frees its slot. That releases nothing. Reports and
// states that still come after it change nothing; leaving twice is leaving once.
func (h *Handle) Leave() {
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if h.left {
		return
	}
	counted := h.counts()
	h.left = true
	g.streams[h.slot] = nil
	if counted {
		g.shrink()
	}
}

// counts reports whether the rule looks at the stream. The caller holds group.mu.
func (h *Handle) counts() bool {
	s := h.standby()
	return !h.left && h.priority > 0 && s.counts()
}

// standby is the stream as a value. The caller holds group.mu.
func (h *Handle) standby() Standby {
	at := h.positions()
	return Standby{
		Slot: h.slot, Name: h.name, Member: h.member, Superseded: h.superseded, State: h.state,
		Write: at[0], Flush: at[1], Apply: at[2],
	}
}

func (h *Handle) positions() positions {
	return positions{h.write.Load(), h.flush.Load(), h.apply.Load()}
}
