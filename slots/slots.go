package slots

import (
	"context"
	"fmt"
	"slices"
	"sync"

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

	mu    sync.Mutex // guards the rest
	slots []*slot    // in order of creation
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
	dirty     bool    // the file may not say state
	floor     wal.LSN // lowest restart LSN the file may hold; 0 = it reserves nothing
}

// A Slot is a slot as views show it.
type Slot struct {
	Name          string
	Temporary     bool
	PID           int32   // who uses it, 0 = nobody
	Restart       wal.LSN // 0 = reserves nothing
	InvalidatedAt wal.LSN // Restart when it was invalidated, 0 = never was
}

// Open reads the slots in dir, which it creates, and removes what unfinished requests left there. Not
// more than max slots can exist; to find more is an error. A file that cannot be believed is a
// *CorruptError.
func Open(fs vfs.FS, dir string, max int) (*Slots, error) {
	s := &Slots{folder: folder{fs: fs, dir: dir}, max: max}
	err := s.folder.load(func(name string, st state) {
		s.slots = append(s.slots, &slot{name: name, state: st, floor: st.restart})
	})
	if err != nil {
		return nil, err
	}
	if len(s.slots) > max {
		return nil, fmt.Errorf("%d replication slots in %s, but max_replication_slots is %d: increase it and try again",
			len(s.slots), dir, max)
	}
	return s, nil
}

// Create makes a slot for the connection pid. A permanent one is on disk when Create returns, and in
// nobody's use. A temporary one has no file, and is used by pid until ReleaseAll. restart is what the
// slot keeps, 0 for nothing before the first Advance: it is kept from the start of the call on, so who
// takes it from a checkpoint looks afterwards whether its segment is still there.
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
	sl.floor = restart
	s.free(sl)
	return nil
}

func (s *Slots) insert(sl *slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(sl.name) != nil {
		return &Error{Err: ErrExists, Name: sl.name}
	}
	if len(s.slots) >= s.max {
		return &Error{Err: ErrNoneFree, Name: sl.name}
	}
	s.slots = append(s.slots, sl)
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

// free ends the use of a slot and wakes who waits to drop it. The caller holds mu.
func (s *Slots) free(sl *slot) {
	sl.pid = 0
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
	sl.lease++
	return &Handle{slots: s, slot: sl, lease: sl.lease}, nil
}

// Drop removes a slot for the connection pid. While another connection uses it, Drop fails with
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
	if err := s.folder.drop(name); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free(sl)
		return fmt.Errorf("drop replication slot %s: %w", name, err)
	}
	s.remove(sl)
	s.folder.discard(name)
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
		Restart: sl.state.restart, InvalidatedAt: sl.state.invalidatedAt,
	}
}

// MinRestart is the position from which on the slots need the log, 0 if they need none of it. A slot
// needs what it would need after a crash, too: until its file is saved, that is its older position.
// (PostgreSQL learnt this in 18: before, WAL went by the positions in memory.)
func (s *Slots) MinRestart() wal.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lowest wal.LSN
	for _, sl := range s.slots {
		lowest = lower(lowest, lower(sl.state.restart, sl.floor))
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

// An Invalidated is a slot that lost its WAL.
type Invalidated struct {
	Name    string
	Restart wal.LSN // what it needed
	PID     int32   // who uses it, to be terminated; 0 = nobody
}

// Invalidate takes their claim from the slots that need WAL before olderThan. They reserve nothing and
// are lost; a handle on them advances nothing any more, but whoever acquires the slot anew and finds
// its WAL still there brings it back to life, as in PostgreSQL 15. When Invalidate has returned
// without error this is on disk, and the WAL may go:
//
//	crash before the files are saved: the slots are as they were, and so is their WAL
//	crash after that, before the WAL is gone: the slots are lost, some WAL stays a checkpoint longer
func (s *Slots) Invalidate(olderThan wal.LSN) ([]Invalidated, error) {
	s.disk.Lock()
	defer s.disk.Unlock()
	lost := s.invalidate(olderThan)
	if len(lost) == 0 {
		return nil, nil
	}
	return lost, s.saveDirty()
}

func (s *Slots) invalidate(olderThan wal.LSN) []Invalidated {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []Invalidated
	for _, sl := range s.slots {
		if sl.state.restart == 0 || sl.state.restart >= olderThan {
			continue
		}
		lost = append(lost, Invalidated{Name: sl.name, Restart: sl.state.restart, PID: sl.pid})
		sl.state = state{invalidatedAt: sl.state.restart}
		sl.revoked = true
		sl.dirty = true
	}
	return lost
}
