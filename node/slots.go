package node

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// Permanent slots are Raft's. Every node mirrors them, and keeps the WAL that they need; the primary's
// are used by their consumers, and so further than Raft says, until it publishes that. Whoever is the
// primary next begins with what Raft holds: a consumer then finds its slot at, or before, what it has
// confirmed, and the WAL from there on.
//
// A member's slot is made when it connects, here at first: a member is admitted, and its WAL kept,
// though Raft may have no majority. The node's own slot says what the others keep for it: while it is
// the primary, the log from its last checkpoint on. It holds nothing back here.

const (
	slotLook        = 100 * time.Millisecond // how often the primary looks at what has moved
	slotPublication = 10 * time.Second       // what has moved by less than a segment is published so often
	slotTimeout     = 5 * time.Second        // how long a client waits for Raft to agree on a slot
	slotHandOver    = 500 * time.Millisecond
)

// admitter stands for this node among the connections that use slots.
const admitter = math.MaxInt32

// keepSlots keeps this node's slots those of Raft, and on the primary Raft's positions those of the
// slots, until the reign is over.
func (r *reign) keepSlots(ctx context.Context) error {
	tick := time.NewTicker(slotLook)
	defer tick.Stop()
	published := time.Now()
	for {
		known := r.node.raft.CaughtUp()
		s, changed := r.node.raft.Watch()
		if known {
			if err := r.mirrorSlots(s, r.primary != nil); err != nil {
				return err
			}
		}
		r.publishNew(ctx, s)
		if r.publishMoved(ctx, s, time.Since(published) >= slotPublication) {
			published = time.Now()
		}
		select {
		case <-changed:
		case <-tick.C:
		case done := <-r.slotFlush:
			r.publishMoved(ctx, r.node.raft.State(), true)
			published = time.Now()
			close(done)
		case <-ctx.Done():
			return nil
		}
	}
}

// mirrorSlots makes this node's permanent slots those of a state, which must not be older than what they were
// made from: a slot that was further back then would seem to be lost here, and its WAL would go. What cannot be
// written is tried again with the next; only a disk of which nobody knows any more what it holds is an error.
func (r *reign) mirrorSlots(s *raftlog.State, leading bool) error {
	if !s.Initialised() {
		return nil
	}
	a := slots.Agreement{AsOf: s.Index, Leading: leading, Oldest: r.oldestWAL, KeepRest: r.node.cfg.Witness}
	for _, slot := range s.Slots {
		if slot.Member != r.node.memberID() {
			a.Slots = append(a.Slots, slots.Agreed{
				Name: slot.Name, Number: slot.Number, Restart: slot.Restart,
				InactiveSince: slot.InactiveSince, InvalidatedAt: slot.InvalidatedAt, Reason: slot.Reason,
			})
		}
	}
	err := r.slots.Mirror(a)
	if errors.Is(err, slots.ErrUnsynced) {
		return err
	}
	if err != nil {
		r.node.log.Warn("cannot write the replication slots: will try again", "err", err)
	}
	return nil
}

// oldestWAL is where the log begins that this node has.
func (r *reign) oldestWAL() (wal.LSN, error) {
	dir := r.found.Dir
	segments, err := dir.Segments()
	if err != nil || len(segments) == 0 {
		return 0, err
	}
	return dir.Format.SegmentSize.Start(max(segments[0].Segno, dir.RemovedBelow())), nil
}

// propose has Raft agree on what this primary says of its slots. It does not give up while the reign
// lasts: one proposal is answered before the next is made, so none overtakes another, and those that
// are on their way when the reign ends are refused in the next.
func (r *reign) propose(ctx context.Context, c raftlog.Command) (*raftlog.State, bool) {
	s, err := r.node.raft.Propose(ctx, c)
	if err != nil && ctx.Err() == nil {
		r.node.log.Info("Raft does not take what this node says of its slots", "err", err)
	}
	return s, err == nil
}

// publishNew tells Raft of slots that it does not know: members' that connected here, and this node's.
func (r *reign) publishNew(ctx context.Context, s *raftlog.State) {
	if !r.speaks(s) {
		return
	}
	own := raftlog.Slot{Name: r.ownSlot(), Restart: r.checkpointer.Control().Redo, Member: r.node.memberID()}
	if known, ok := s.Slot(own.Name); !ok || known.Member != own.Member {
		r.propose(ctx, &raftlog.SlotCreate{Epoch: r.epoch, Slot: own})
	}
	for _, local := range r.slots.List() {
		member := r.slotOf(local.Name)
		if _, ok := s.Member(member); !ok || local.Temporary || local.Number != 0 {
			continue
		}
		after, ok := r.propose(ctx, &raftlog.SlotCreate{Epoch: r.epoch, Slot: newSlot(local, member, r.horizon.Load())})
		if !ok {
			return
		}
		// A crash here leaves a slot of this node alone, which is no primary then: it gives way to Raft's.
		if agreed, ok := after.Slot(local.Name); ok && agreed.Member == member {
			if err := r.slots.Adopt(local.Name, agreed.Number); err != nil {
				r.slotFailure(err)
			}
		}
	}
}

// newSlot is what Raft is told of a member's slot that it does not know: like the others (movedSlots), not past the
// horizon.
func newSlot(local slots.Slot, member syncrep.ID, horizon wal.LSN) raftlog.Slot {
	return raftlog.Slot{Name: local.Name, Restart: min(local.Restart, horizon), Member: member, InactiveSince: local.InactiveSince}
}

// publishMoved tells Raft where the slots are, if one of them has moved by a segment, or back, or if
// it is time. It reports whether it has.
func (r *reign) publishMoved(ctx context.Context, s *raftlog.State, now bool) bool {
	if !r.speaks(s) {
		return false
	}
	moved, due := movedSlots(r.slots.List(), s, r.horizon.Load(), wal.LSN(r.node.identity().SegmentSize))
	if own, ok := s.Slot(r.ownSlot()); ok && own.Member == r.node.memberID() {
		now, dueNow := movedOwn(own, r.checkpointer.Control().Redo)
		if due = due || dueNow; now != own {
			moved = append(moved, now)
		}
	}
	if len(moved) == 0 || !due && !(now && r.worthTelling(s, moved)) {
		return false
	}
	r.propose(ctx, &raftlog.SlotAdvance{Epoch: r.epoch, Slots: moved})
	return true
}

// movedOwn is the primary's own slot, which the others keep for it, as it should be in Raft: from the redo position
// on, and in use. What it was while another node was the primary, idle or invalidated, is due to go: should this
// node lead no longer, it would be held against it.
func movedOwn(own raftlog.Slot, redo wal.LSN) (now raftlog.Slot, due bool) {
	now = raftlog.Slot{Name: own.Name, Number: own.Number, Member: own.Member, Restart: max(own.Restart, redo)}
	return now, own.Reason != "" || !own.InactiveSince.IsZero()
}

// worthTelling reports whether one of the slots has moved by more than heartbeats, otherwise an idle cluster
// would have an entry in Raft every ten seconds; or is in use now, or no more: the next primary would hold
// against it an idle time that ended long ago.
func (r *reign) worthTelling(s *raftlog.State, moved []raftlog.Slot) bool {
	return slices.ContainsFunc(moved, func(m raftlog.Slot) bool {
		agreed, _ := s.Slot(m.Name)
		return agreed.Restart < r.redo.Important() || agreed.InactiveSince.IsZero() != m.InactiveSince.IsZero()
	})
}

// speaks reports whether Raft may be told where slots are: this node is the primary, and knows how far
// the log is acknowledged, which it does once its epoch is steady.
func (r *reign) speaks(s *raftlog.State) bool {
	if r.primary == nil || s.Epoch != r.epoch {
		return false
	}
	select {
	case <-r.opened:
		return true
	default:
		return false
	}
}

// movedSlots are the slots that are not where Raft has them, with where they are; due, if one of them
// should not wait. None is published past the horizon: what lies beyond may not be part of the next
// primary's log, and its consumer would have to go back.
func movedSlots(list []slots.Slot, s *raftlog.State, horizon, segment wal.LSN) (moved []raftlog.Slot, due bool) {
	for _, local := range list {
		agreed, ok := s.Slot(local.Name)
		if !ok || local.Temporary || local.Number != agreed.Number {
			continue
		}
		now, at := agreed, min(local.Restart, horizon)
		now.InactiveSince = local.InactiveSince
		switch {
		case at != 0:
			now.Restart, now.InvalidatedAt, now.Reason = at, 0, ""
			// One that goes back must not be found ahead of its consumer; one that holds nothing yet should.
			due = due || at < agreed.Restart || agreed.Restart == 0 || at >= agreed.Restart+segment
		case local.Decided: // not one whose WAL is only not here: another node may have it
			now.Restart, now.InvalidatedAt, now.Reason = 0, local.InvalidatedAt, local.Reason
			due = due || agreed.Restart != 0 || agreed.Reason != local.Reason // the others keep WAL for it
		}
		if now != agreed {
			moved = append(moved, now)
		}
	}
	return moved, due
}

// publishSlots tells Raft where all slots are, before another node takes over. It is no more than a
// courtesy to those who come back to their slots there, and does not hold up anything for long.
func (r *reign) publishSlots(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slotHandOver)
	defer cancel()
	if err := r.flushSlots(ctx); err != nil {
		r.node.log.Info("the next primary may find slots a little behind", "err", err)
	}
}

// flushSlots has keepSlots tell Raft where all slots are, after all that it was telling already.
func (r *reign) flushSlots(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case r.slotFlush <- done:
	case <-r.over:
		return errReignOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-r.over:
		return errReignOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errReignOver = errors.New("this node has another role now")

func (r *reign) ownSlot() string { return slots.MemberName(r.node.cfg.Name) }

// slotOf is the member whose slot has a name, as far as it has connected in this reign.
func (r *reign) slotOf(name string) syncrep.ID {
	r.admitting.Lock()
	defer r.admitting.Unlock()
	return r.admitted[name]
}

// admit gives a member that connects its slot, which keeps the WAL from the present redo position on:
// what it needs from now on is kept for it. An empty disk in the place of a known one is another
// member: the slot starts anew.
func (r *reign) admit(name string, id syncrep.ID) error {
	r.admitting.Lock()
	defer r.admitting.Unlock()
	slot := slots.MemberName(name)
	if err := r.ensureSlot(slot, id); err != nil {
		return clientError(err)
	}
	r.admitted[slot] = id
	return nil
}

// ensureSlot makes a member's slot, or keeps the one it has if its disk is the same.
func (r *reign) ensureSlot(name string, id syncrep.ID) error {
	slot, exists := r.slots.Get(name)
	agreed, _ := r.node.raft.State().Slot(name)
	same := r.admitted[name] == id
	if slot.Number != 0 { // perhaps of one that is no member any more, and about to go
		same = agreed.Number == slot.Number && agreed.Member == id
	}
	if exists && same && slot.Restart != 0 { // one that was invalidated keeps nothing
		return nil
	}
	return r.slots.Renew(name, r.checkpointer.Control().Redo, admitter)
}

// createSlot makes a permanent slot: Raft first, then here; the other nodes follow. It returns where
// the slot begins, 0 if it is not to reserve WAL yet.
//
//	crash before Raft has agreed: nothing was made, or Raft agrees yet, and nobody was told
//	crash after that: every node makes the slot, this one when it is back
func (r *reign) createSlot(ctx context.Context, name string, reserve bool) (wal.LSN, error) {
	hold := r.slots.Hold()
	defer hold.Release()
	for limit := time.Now().Add(slotTimeout); ; {
		var restart wal.LSN
		if reserve && r.primary != nil {
			restart = r.reserveWAL(hold)
		}
		late, err := r.agreeOnSlot(ctx, name, restart)
		if late && time.Now().Before(limit) {
			continue // a checkpoint was faster: the slot begins at that
		}
		return restart, err
	}
}

// copySlot makes a permanent slot where another one is, whose WAL the caller holds here.
func (r *reign) copySlot(ctx context.Context, name string, source slots.Slot) error {
	late, err := r.agreeOnSlot(ctx, name, min(source.Restart, r.horizon.Load()))
	if late {
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "could not copy replication slot \"%s\"", source.Name).
			WithDetail("Its WAL need not be on every node: only a permanent slot of a client sees to that.")
	}
	return err
}

// agreeOnSlot makes a permanent slot at restart. It is late, with an error, if the log need not be on every
// node from there on any more.
func (r *reign) agreeOnSlot(ctx context.Context, name string, restart wal.LSN) (late bool, err error) {
	if r.primary == nil {
		return false, errSlotOnStandby(name)
	}
	if err := r.slots.CanCreate(name); err != nil {
		return false, err
	}
	limited, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	create := &raftlog.SlotCreate{Epoch: r.epoch, Slot: raftlog.Slot{Name: name, Restart: restart}, AsOf: r.node.raft.State().Index}
	s, err := r.node.raft.Propose(limited, create)
	for err != nil && s.SlotDropped > create.AsOf && s.Epoch == r.epoch && limited.Err() == nil { // another one: look again
		create.AsOf = s.Index
		s, err = r.node.raft.Propose(limited, create)
	}
	if err == nil {
		return false, r.slotFailure(r.mirrorSlots(s, true))
	}
	_, conflict := errors.AsType[*raftlog.ConflictError](err)
	return conflict && s.Epoch == r.epoch && limited.Err() == nil, r.slotRefused(ctx, name, err)
}

// reserveWAL returns where a new slot begins, and keeps WAL here from there on. It is a checkpoint's redo
// position, as in PostgreSQL, but not one before what every node keeps.
func (r *reign) reserveWAL(hold *slots.Hold) wal.LSN {
	size := r.node.identity().SegmentSize
	for {
		restart := r.checkpointer.Control().Redo
		if own, ok := r.node.raft.State().Slot(r.ownSlot()); ok && own.Member == r.node.memberID() {
			restart = max(restart, own.Restart)
		}
		hold.Keep(restart)
		if size.Segno(restart) >= r.found.Dir.RemovedBelow() {
			return restart
		}
	}
}

// dropSlot removes a slot: Raft first, then here. Meanwhile nobody can use it.
//
//	crash before Raft has agreed: the slot is there, or Raft agrees yet, and nobody was told
//	crash after that: every node drops the slot, this one when it is back
func (r *reign) dropSlot(ctx context.Context, name string, pid int32, wait bool) error {
	slot, ok := r.slots.Get(name)
	if ok && (slot.Temporary || r.primary != nil && slot.Number == 0) {
		return r.slots.Drop(ctx, name, pid, wait)
	}
	if ok && r.primary == nil {
		return errSlotOnStandby(name)
	}
	if err := r.slots.Claim(ctx, name, pid, wait); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	s, err := r.node.raft.Propose(limited, dropOf(slot, name, r.epoch))
	if err != nil && !errors.Is(err, raftlog.ErrNoSlot) {
		r.slots.Unclaim(name, pid)
		return r.slotRefused(ctx, name, err)
	}
	return r.slotFailure(r.mirrorSlots(s, true))
}

// dropOf has Raft drop the slot that this node has, and no other that may have the name once that is agreed on. A slot
// that it does not have is dropped by its name.
func dropOf(here slots.Slot, name string, epoch uint64) *raftlog.SlotDrop {
	return &raftlog.SlotDrop{Epoch: epoch, Name: name, Number: here.Number, Final: true}
}

// slotFailure ends the process if nobody knows any more what is on disk.
func (r *reign) slotFailure(err error) error {
	if errors.Is(err, slots.ErrUnsynced) {
		r.node.fail(&FatalError{Err: err})
	}
	return err
}

// slotRefused is why Raft has not agreed on a slot, for a client.
func (r *reign) slotRefused(ctx context.Context, name string, err error) error {
	_, conflict := errors.AsType[*raftlog.ConflictError](err)
	_, invalid := errors.AsType[*raftlog.InvalidError](err)
	switch {
	case errors.Is(err, raftlog.ErrSlotExists):
		return &slots.Error{Err: slots.ErrExists, Name: name}
	case conflict:
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "node %s is not the primary any more", r.node.cfg.Name)
	case invalid:
		return pgwire.Errorf(pgwire.CodeInvalidParameterValue, "%w", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the cluster has not agreed on replication slot \"%s\": %w", name, err).
		WithDetail("Slots belong to the whole cluster. A majority of its voting members must be there to make or drop one; it may happen yet.").
		WithHint("Look at longship status for what is missing, and at pg_replication_slots before you try again.")
}

func errSlotOnStandby(name string) error {
	return pgwire.Errorf(pgwire.CodeReadOnlySQLTransaction, "cannot make or drop replication slot \"%s\" on a standby", name).
		WithHint("Connect to the primary, with all nodes' addresses and target_session_attrs=read-write. A temporary slot can be made here.")
}
