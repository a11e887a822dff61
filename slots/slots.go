package slots

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// Slots are the replication slots of one node. All methods may be called by any goroutine. A process
// id stands for a connection, as clients see it, and is never 0.
//
// Every error that is not an *Error is the disk's. If it is ErrUnsynced too, what a crash would leave
// is unknown, and a sync repeated may lie: the process ends, as after a failed sync of WAL. After any
// other nothing has changed on disk, and the request may be made again.
type Slots struct {
	folder folder
	max    int

	// disk is held while files change, and taken before mu. Readers and consumers never wait for it.
	disk sync.Mutex
	asOf uint64 // of the last agreement mirrored; guarded by disk

	mu    sync.Mutex // guards the rest
	slots []*slot    // in order of creation
	holds map[*Hold]wal.LSN
	freed chan struct{}
}

// A slot is in memory what its consumer said last. Guarded by Slots.mu.
type slot struct {
	name      string
	temporary bool // has no file
	pid       int32
	lease     uint64 // handles of another lease are void
	revoked   bool   // invalidated under this lease: its handle advances nothing
	state     state
	idle      time.Time // since when nobody has used it, as the cluster has it; zero while somebody does
	unused    time.Time // when this process heard of that, by its monotonic clock
	reason    Reason    // of an invalidated slot: why, empty if its WAL is only not here
	decided   bool      // it was invalidated by this node's limits
	agreed    wal.LSN   // of a slot with a number: what the cluster holds; 0 = nothing, or nothing that is here
	filed     bool      // there is a file
	dirty     bool      // the file may not say what it should
	floor     wal.LSN   // lowest restart LSN the file may hold; 0 = it reserves nothing
}

// wanted is what the file should say. Of a slot that the cluster has agreed on that is the cluster's
// position: after a crash this node is no primary, whose consumers would have told it more.
func (sl *slot) wanted() state {
	st := sl.state
	if st.number != 0 {
		st.restart = sl.agreed
	}
	return st
}

// needs is where the WAL begins that the slot needs, here and after a crash, 0 if it needs none.
func (sl *slot) needs() wal.LSN { return lower(sl.state.restart, lower(sl.agreed, sl.floor)) }

// A Slot is a slot as views show it.
type Slot struct {
	Name          string
	Temporary     bool
	PID           int32   // who uses it, 0 = nobody
	Restart       wal.LSN // 0 = reserves nothing
	InvalidatedAt wal.LSN // Restart when it was invalidated, 0 = never was
	Number        uint64  // of the agreement that made it; 0 = it is this node's alone

	InactiveSince time.Time     // zero while somebody uses it, and if nobody knows
	Idle          time.Duration // for how long nobody has used it, as far as this process knows
	Reason        Reason        // why it was invalidated and has not come back since; empty if it is not so
	Decided       bool          // the limits of this node did that, not the cluster or what WAL is here
}

// Open reads the slots in dir, which it creates, and removes what unfinished requests left there. max
// limits what Create makes, not what the cluster agrees on: a node that has room for fewer than are
// there keeps WAL for all of them. A file that cannot be believed is a *CorruptError.
func Open(fs vfs.FS, dir string, max int) (*Slots, error) {
	s := &Slots{folder: folder{fs: fs, dir: dir}, max: max, holds: make(map[*Hold]wal.LSN)}
	err := s.folder.load(func(name string, st state) {
		sl := &slot{name: name, state: st, floor: st.restart, filed: true}
		sl.rest(clock())
		if st.number != 0 {
			sl.agreed = st.restart
		}
		s.slots = append(s.slots, sl)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Create makes a slot of this node alone for the connection pid. A permanent one is on disk when Create
// returns, and in nobody's use. A temporary one has no file, and is used by pid until ReleaseAll.
// restart is what the slot keeps, 0 for nothing before the first Advance: it is kept from the start of
// the call on, so who takes it from a checkpoint looks afterwards whether its segment is still there.
//
// The error is an *Error with a name error, ErrExists or ErrNoneFree, or the disk's.
func (s *Slots) Create(name string, temporary bool, restart wal.LSN, pid int32) error {
	if err := CheckName(name); err != nil {
		return err
	}
	sl := &slot{name: name, temporary: temporary, pid: pid, state: state{restart: restart}}
	if temporary {
		return s.insert(sl)
	}
	sl.rest(clock())
	s.disk.Lock()
	defer s.disk.Unlock()
	if err := s.insert(sl); err != nil {
		return err
	}
	if err := s.folder.create(name, sl.state); err != nil {
		s.remove(sl)
		return fmt.Errorf("create replication slot %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.floor, sl.filed = restart, true
	s.free(sl)
	return nil
}

// CanCreate returns nil if Create could make a permanent slot now, or the *Error that it would return.
func (s *Slots) CanCreate(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vacant(name)
}

func (s *Slots) insert(sl *slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.vacant(sl.name); err != nil {
		return err
	}
	s.slots = append(s.slots, sl)
	return nil
}

// vacant returns nil if a slot with the name can be made. The caller holds mu.
func (s *Slots) vacant(name string) error {
	if s.find(name) != nil {
		return &Error{Err: ErrExists, Name: name}
	}
	if len(s.slots) >= s.max {
		return &Error{Err: ErrNoneFree, Name: name}
	}
	return nil
}

// find returns the slot called name or nil. The caller holds mu.
func (s *Slots) find(name string) *slot {
	for _, sl := range s.slots {
		if sl.name == name {
			return sl
		}
	}
	return nil
}

func (s *Slots) remove(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots = slices.DeleteFunc(s.slots, func(other *slot) bool { return other == sl })
	s.free(sl)
}

// clock is the time as views show it, which survives its way through the cluster's agreement.
func clock() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// rest notes since when nobody has used the slot; zero: somebody does. For how long is then measured by the
// monotonic clock, from now on: clocks are set, and a slot that is lost by that takes a copy of everything. A
// process that has just started does not know how long it has been before, as in PostgreSQL. The caller holds
// mu.
func (sl *slot) rest(since time.Time) {
	if !since.Equal(sl.idle) {
		sl.idle, sl.unused = since, time.Now()
	}
}

// idleFor is for how long nobody has used the slot, as far as this process knows. The caller holds mu.
func (sl *slot) idleFor() time.Duration {
	if sl.idle.IsZero() {
		return 0
	}
	return time.Since(sl.unused)
}

// free ends the use of a slot and wakes who waits to drop it. The caller holds mu.
func (s *Slots) free(sl *slot) {
	sl.pid = 0
	if sl.idle.IsZero() {
		sl.rest(clock())
	}
	sl.lease++
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}

// Acquire gives the use of a slot to the connection pid. A connection that has the slot already gets
// another handle, and the first one is void. The error is an *Error, ErrNotFound or ErrActive.
func (s *Slots) Acquire(name string, pid int32) (*Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.find(name)
	if sl == nil {
		return nil, &Error{Err: ErrNotFound, Name: name}
	}
	if sl.pid != 0 && sl.pid != pid {
		return nil, &Error{Err: ErrActive, Name: name, PID: sl.pid}
	}
	sl.pid, sl.revoked = pid, false
	sl.rest(time.Time{})
	sl.lease++
	return &Handle{slots: s, slot: sl, lease: sl.lease}, nil
}

// Drop removes a slot for the connection pid, here. While another connection uses it, Drop fails with
// ErrActive, or waits for its end if wait is set. The error is an *Error, ErrNotFound or ErrActive, the
// cause of ctx, or the disk's.
func (s *Slots) Drop(ctx context.Context, name string, pid int32, wait bool) error {
	sl, err := s.claim(ctx, name, pid, wait)
	if err != nil {
		return err
	}
	if sl.temporary {
		s.remove(sl)
		return nil
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	return s.drop(sl)
}

// Claim is the first part of Drop, for a slot that the cluster drops: nobody else uses it from here on.
// Then it is gone with Mirror, or free again with Unclaim or the end of the connection.
func (s *Slots) Claim(ctx context.Context, name string, pid int32, wait bool) error {
	_, err := s.claim(ctx, name, pid, wait)
	return err
}

// Unclaim undoes Claim, if the slot is still there.
func (s *Slots) Unclaim(name string, pid int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.find(name); sl != nil && sl.pid == pid {
		s.free(sl)
	}
}

// drop removes a permanent slot, whose use ends. The caller holds disk.
func (s *Slots) drop(sl *slot) error {
	if sl.filed {
		if err := s.folder.drop(sl.name); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.free(sl)
			return fmt.Errorf("drop replication slot %s: %w", sl.name, err)
		}
	}
	s.remove(sl)
	s.folder.discard(sl.name)
	return nil
}

// claim takes a slot from everybody else, to drop it.
func (s *Slots) claim(ctx context.Context, name string, pid int32, wait bool) (*slot, error) {
	for {
		sl, freed, err := s.tryClaim(name, pid)
		if err == nil || !wait || freed == nil {
			return sl, err
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryClaim returns with ErrActive a channel that is closed when a slot is free again.
func (s *Slots) tryClaim(name string, pid int32) (*slot, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.find(name)
	if sl == nil {
		return nil, nil, &Error{Err: ErrNotFound, Name: name}
	}
	if sl.pid != 0 && sl.pid != pid {
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		return nil, s.freed, &Error{Err: ErrActive, Name: name, PID: sl.pid}
	}
	sl.pid = pid
	sl.lease++
	return sl, nil, nil
}

// ReleaseAll ends what the connection pid has: the use of its slots, and its temporary ones. It is for
// the end of a connection, and for an error in it, which ends temporary slots as well.
func (s *Slots) ReleaseAll(pid int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.slots[:0]
	for _, sl := range s.slots {
		mine := sl.pid == pid
		if mine {
			s.free(sl)
		}
		if !mine || !sl.temporary {
			kept = append(kept, sl)
		}
	}
	clear(s.slots[len(kept):])
	s.slots = kept
}

// Get returns the slot called name.
func (s *Slots) Get(name string) (Slot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.find(name); sl != nil {
		return sl.view(), true
	}
	return Slot{}, false
}

// List returns all slots, in order of creation; those that were there at Open come first, by name.
func (s *Slots) List() []Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Slot
	for _, sl := range s.slots {
		list = append(list, sl.view())
	}
	return list
}

func (sl *slot) view() Slot {
	return Slot{
		Name: sl.name, Temporary: sl.temporary, PID: sl.pid,
		Restart: sl.state.restart, InvalidatedAt: sl.state.invalidatedAt, Number: sl.state.number,
		InactiveSince: sl.idle, Idle: sl.idleFor(), Reason: sl.lostFor(), Decided: sl.lost() && sl.decided,
	}
}

// lost reports whether the slot was invalidated, and nobody has brought it back to life since.
func (sl *slot) lost() bool { return sl.state.restart == 0 && sl.state.invalidatedAt != 0 }

// lostFor is why; of a slot that was found so in its file that is not known.
func (sl *slot) lostFor() Reason {
	if !sl.lost() {
		return ""
	}
	return cmp.Or(sl.reason, WALRemoved)
}

// MinRestart is the position from which on the slots, and the holds, need the log, 0 if they need none
// of it. A slot needs what it would need after a crash, too: until its file is saved, that is its older
// position. (PostgreSQL learnt this in 18: before, WAL went by the positions in memory.) And it needs
// what the cluster has agreed on, for then it is there for whoever is the primary next: while the
// cluster cannot agree on anything, every node keeps its WAL, up to max_slot_wal_keep_size.
func (s *Slots) MinRestart() wal.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lowest wal.LSN
	for _, sl := range s.slots {
		lowest = lower(lowest, sl.needs())
	}
	for _, lsn := range s.holds {
		lowest = lower(lowest, lsn)
	}
	return lowest
}

// lower is the lower of two positions, where 0 is none.
func lower(a, b wal.LSN) wal.LSN {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Save writes the slots whose files are out of date. A checkpoint calls it before it asks for
// MinRestart. It goes on after an error, which leaves its slot to the next Save.
func (s *Slots) Save() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	return s.saveDirty()
}
