package slots

import "github.com/longship-db/longship/wal"

// A Handle is one connection's use of a slot, from Acquire to Release. When the slot is dropped or
// acquired again, the handle is void: its methods do nothing.
type Handle struct {
	slots *Slots
	slot  *slot
	lease uint64
}

// Advance says that the consumer has flushed everything below lsn; 0 says nothing. It may move back,
// which is what a standby does that was restored: the slot follows its consumer, as in PostgreSQL. The
// file follows with the next Save. A slot that is invalidated does not move until it is acquired again.
func (h *Handle) Advance(lsn wal.LSN) {
	h.slots.mu.Lock()
	defer h.slots.mu.Unlock()
	if h.void() || h.slot.revoked || lsn == 0 || lsn == h.slot.state.restart {
		return
	}
	h.slot.state.restart = lsn
	h.slot.dirty = h.slot.dirty || h.slot.state.number == 0
}

// Release ends the use of the slot. A temporary one stays its connection's.
func (h *Handle) Release() {
	h.slots.mu.Lock()
	defer h.slots.mu.Unlock()
	if !h.void() && !h.slot.temporary {
		h.slots.free(h.slot)
	}
}

func (h *Handle) void() bool { return h.lease != h.slot.lease }
