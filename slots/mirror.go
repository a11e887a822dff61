package slots

import (
	"errors"
	"slices"
	"time"

	"github.com/longship-db/longship/wal"
)

// An Agreed is a permanent slot as the cluster has agreed on it. Agreements are numbered, in their
// order: a slot dropped and made again under the same name is another one.
type Agreed struct {
	Name    string
	Number  uint64  // of the agreement that made the slot, never 0
	Restart wal.LSN // 0 = reserves nothing

	InactiveSince time.Time // zero if somebody used it when the cluster last heard
	InvalidatedAt wal.LSN   // of a slot that was invalidated: Restart at that time
	Reason        Reason    // why it was; empty otherwise
}

// An Agreement is all that the cluster has agreed on about slots that concern this node.
type Agreement struct {
	Slots []Agreed
	AsOf  uint64 // number of the last agreement that went into it

	// Leading says that the consumers are connected here: a slot's own position is newer than the
	// cluster's. Elsewhere a slot is where the cluster says.
	Leading bool

	// Oldest is where the WAL begins that this node has.
	Oldest func() (wal.LSN, error)

	// KeepRest has a slot whose WAL is here in part keep that part. A witness may have to bring forward a member
	// that is further than the cluster has heard of: what it holds from its own beginning on must not go.
	KeepRest bool
}

// Mirror makes the permanent slots those of the cluster: WAL that one of them needs is kept here, and
// should this node be the primary next, they are there, none further than the cluster knows that its
// consumer is. One whose WAL is not here is lost, here. When Mirror has returned without error, new
// slots are on disk, and WAL that a slot did not need before is kept by its file; positions that have moved on
// follow with the next Save:
//
//	crash before a new slot's file is there: the next Mirror makes it; nobody relies on this node for it
//	crash before the file keeps more: the next Mirror says so; nobody relies on this node for that
//	crash before a position is saved: the file has an older one, and WAL went by that
//	crash while slots are dropped: the next Mirror drops the rest
//
// An agreement that is older than a slot says nothing about it: after a start that is what a node has,
// until it hears from the others. Slots of this node alone stay while it is leading, for it is about
// to tell the others. When it is not, they go.
func (s *Slots) Mirror(a Agreement) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if a.AsOf < s.asOf {
		return nil
	}
	s.asOf = a.AsOf
	var errs []error
	for _, sl := range s.dismissed(a) {
		errs = append(errs, s.drop(sl))
	}
	s.add(a)
	// Only now: what was removed before a slot was there is seen, and what is removed after is not its.
	oldest, err := a.Oldest()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	s.place(a, oldest)
	for _, sl := range s.keepingLess() {
		errs = append(errs, s.save(sl))
	}
	return errors.Join(errs...)
}

// dismissed are the slots that are to go.
func (s *Slots) dismissed(a Agreement) []*slot {
	known := make(map[string]bool, len(a.Slots))
	for _, slot := range a.Slots {
		known[slot.Name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []*slot
	for _, sl := range s.slots {
		local := sl.state.number == 0
		if !sl.temporary && !known[sl.name] && sl.state.number <= a.AsOf && !(local && a.Leading) {
			gone = append(gone, sl)
		}
	}
	return gone
}

// add makes those in memory that are not there, or are there as another one.
func (s *Slots) add(a Agreement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, want := range a.Slots {
		sl := s.find(want.Name)
		if sl != nil && sl.temporary { // one that a connection has made on a standby gives way
			s.free(sl)
			s.slots = slices.DeleteFunc(s.slots, func(other *slot) bool { return other == sl })
			sl = nil
		}
		if sl == nil {
			s.slots = append(s.slots, newAgreed(want))
			continue
		}
		local := sl.state.number == 0
		if sl.state.number >= want.Number || sl.state.number > a.AsOf || local && a.Leading {
			continue
		}
		s.free(sl)
		sl.state = state{restart: want.Restart, number: want.Number}
		sl.rest(want.InactiveSince)
		sl.agreed, sl.dirty, sl.revoked = want.Restart, true, false
	}
}

func newAgreed(a Agreed) *slot {
	sl := &slot{name: a.Name, state: state{restart: a.Restart, number: a.Number}, agreed: a.Restart, dirty: true}
	sl.rest(a.InactiveSince)
	return sl
}

// place gives each slot the cluster's position, if its WAL is here.
func (s *Slots) place(a Agreement, oldest wal.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, want := range a.Slots {
		sl := s.find(want.Name)
		if sl == nil || sl.state.number != want.Number {
			continue
		}
		before := sl.wanted()
		if a.Leading {
			sl.lead(want.Restart, oldest)
		} else {
			sl.follow(want, oldest, a.KeepRest)
		}
		sl.dirty = sl.dirty || before != sl.wanted()
	}
}

// lead takes note of what the cluster holds of a slot that is used here. The WAL from there on stays.
func (sl *slot) lead(restart, oldest wal.LSN) {
	if sl.state.restart != 0 && sl.state.restart < oldest && sl.pid == 0 {
		sl.state = state{invalidatedAt: sl.state.restart, number: sl.state.number}
		sl.reason, sl.decided = "", false
	}
	if sl.pid == 0 && sl.idle.IsZero() { // its consumer has not come here from the primary before
		sl.rest(clock())
	}
	sl.agreed = max(restart, oldest) // or what is left of it, until the cluster knows where the consumer is
	if sl.lost() || restart == 0 {
		sl.agreed = 0
	}
}

// follow puts a slot where the cluster has it: forward, because its consumer has moved on, or back, if
// this node knew of more than the cluster did when it ceased to be the primary.
func (sl *slot) follow(a Agreed, oldest wal.LSN, keepRest bool) {
	if keepRest && a.Restart != 0 && !sl.lost() {
		a.Restart = max(a.Restart, oldest)
	}
	switch {
	case a.Restart == 0:
		sl.state.restart, sl.state.invalidatedAt = 0, a.InvalidatedAt
		sl.reason, sl.decided = a.Reason, false
	case a.Restart < oldest:
		sl.state.restart, sl.state.invalidatedAt = 0, a.Restart
		sl.reason, sl.decided = "", false
	case sl.lost() && a.Restart <= sl.state.invalidatedAt: // invalidated here: its WAL may go any moment
	default:
		sl.state.restart, sl.state.invalidatedAt = a.Restart, 0
	}
	sl.agreed = sl.state.restart
	if sl.pid == 0 {
		sl.rest(a.InactiveSince)
	}
}

// keepingLess are the slots whose file, after a crash, would not keep all the WAL that the slot needs.
func (s *Slots) keepingLess() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*slot
	for _, sl := range s.slots {
		if !sl.temporary && (!sl.filed || lower(sl.floor, sl.wanted().restart) != sl.floor) {
			list = append(list, sl)
		}
	}
	return list
}

// Adopt says that the slot of this node alone called name is now the cluster's, by the agreement with
// that number.
//
//	crash before the file says so: this node is not leading then, and makes the slot as agreed
func (s *Slots) Adopt(name string, number uint64) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	sl := s.find(name)
	if sl == nil || sl.temporary || sl.state.number != 0 {
		s.mu.Unlock()
		return nil
	}
	sl.state.number, sl.agreed, sl.dirty = number, sl.state.restart, true
	s.mu.Unlock()
	return s.save(sl)
}

// Renew begins a slot anew as one of this node alone, at restart, whether it was there or not. The error
// is an *Error, ErrActive or one of Create's, or the disk's.
func (s *Slots) Renew(name string, restart wal.LSN, pid int32) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	sl, err := s.renew(name, restart, pid)
	if err != nil {
		return err
	}
	// A crash leaves the slot as it was, or not there at all, or anew: the member has not been answered.
	err = s.save(sl)
	if err != nil && !sl.filed {
		s.remove(sl)
	}
	return err
}

func (s *Slots) renew(name string, restart wal.LSN, pid int32) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.find(name)
	if sl == nil {
		if err := s.vacant(name); err != nil {
			return nil, err
		}
		sl = &slot{name: name}
		s.slots = append(s.slots, sl)
	}
	if sl.temporary || sl.pid != 0 && sl.pid != pid {
		return nil, &Error{Err: ErrActive, Name: name, PID: sl.pid}
	}
	s.free(sl)
	sl.rest(clock())
	sl.state, sl.agreed, sl.dirty = state{restart: restart}, 0, true
	return sl, nil
}

// A Hold keeps WAL for a slot while the cluster agrees on it.
type Hold struct{ slots *Slots }

// Hold returns a hold that keeps nothing yet.
func (s *Slots) Hold() *Hold { return &Hold{slots: s} }

// Keep makes the hold keep WAL from lsn on. Who took the position from a checkpoint looks afterwards
// whether its segment is still there.
func (h *Hold) Keep(lsn wal.LSN) {
	h.slots.mu.Lock()
	defer h.slots.mu.Unlock()
	h.slots.holds[h] = lsn
}

// Release ends the hold.
func (h *Hold) Release() {
	h.slots.mu.Lock()
	defer h.slots.mu.Unlock()
	delete(h.slots.holds, h)
}
