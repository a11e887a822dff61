package walsender

import (
	"context"
	"errors"
	"strconv"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
)

// slotError is SlotError, and ends the process if nobody can know any more what is on disk.
func (s *Session) slotError(err error) error {
	if errors.Is(err, slots.ErrUnsynced) && s.server.cfg.Fatal != nil {
		s.server.cfg.Fatal(err)
	}
	return SlotError(err)
}

// SlotError gives an error of package slots its SQLSTATE. Others it returns as they are.
func SlotError(err error) error {
	e, ok := errors.AsType[*slots.Error](err)
	if !ok {
		return err
	}
	code := map[error]string{
		slots.ErrExists:           pgwire.CodeDuplicateObject,
		slots.ErrNotFound:         pgwire.CodeUndefinedObject,
		slots.ErrActive:           pgwire.CodeObjectInUse,
		slots.ErrNoneFree:         pgwire.CodeConfigurationLimitExceeded,
		slots.ErrNameTooShort:     pgwire.CodeInvalidName,
		slots.ErrNameTooLong:      pgwire.CodeNameTooLong,
		slots.ErrInvalidCharacter: pgwire.CodeInvalidName,
	}[e.Err]
	out := pgwire.Errorf(code, "%w", e)
	switch e.Err {
	case slots.ErrInvalidCharacter:
		return out.WithHint("Replication slot names may only contain lower case letters, numbers, and the underscore character.")
	case slots.ErrNoneFree:
		return out.WithHint("Free one or increase max_replication_slots.")
	}
	return out
}

// releaseSlots gives back what the session has of slots, and drops its temporary ones.
func (s *Session) releaseSlots() { s.server.cfg.Slots.ReleaseAll(s.conn.PID) }

func (s *Session) acquireSlot(name string) (*slots.Handle, error) {
	if err := s.usable(name); err != nil {
		return nil, err
	}
	h, err := s.server.cfg.Slots.Acquire(name, s.conn.PID)
	if err != nil {
		return nil, s.slotError(err)
	}
	return h, nil
}

// usable refuses the use of a slot that another node moves.
func (s *Session) usable(name string) error {
	cfg := &s.server.cfg
	slot, ok := cfg.Slots.Get(name)
	if !ok || slot.Number == 0 || cfg.Primary {
		return nil
	}
	return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cannot use replication slot \"%s\" on a standby", name).
		WithDetail("It follows the primary's, where its position is kept for the whole cluster.").
		WithHint("Connect to the primary, with all nodes' addresses and target_session_attrs=read-write, or use a temporary slot.")
}

func (s *Session) createSlot(ctx context.Context, cmd createSlot) error {
	if cmd.logical {
		return errLogical()
	}
	reserve, err := reserveWAL(cmd.options)
	if err != nil {
		return err
	}
	if err := s.makeSlot(ctx, cmd, reserve); err != nil {
		return err
	}
	// The consistent point of a physical slot is 0/0, even if it reserves WAL.
	return s.sendRow("CREATE_REPLICATION_SLOT",
		[]pgwire.Column{text("slot_name"), text("consistent_point"), text("snapshot_name"), text("output_plugin")},
		[]byte(cmd.slot), []byte("0/0"), nil, nil)
}

// reserveWAL reads the options of a physical slot.
func reserveWAL(options []option) (bool, error) {
	reserve, given := false, false
	for _, o := range options {
		switch o.name {
		case "reserve_wal":
			if given {
				return false, pgwire.Errorf(pgwire.CodeSyntaxError, "conflicting or redundant options")
			}
			given = true
			var err error
			if reserve, err = o.bool(); err != nil {
				return false, err
			}
		case "snapshot", "two_phase", "export_snapshot", "noexport_snapshot", "use_snapshot": // of logical slots
			return false, pgwire.Errorf(pgwire.CodeSyntaxError, "conflicting or redundant options")
		default:
			return false, pgwire.Errorf(pgwire.CodeInternalError, "unrecognized option: %s", o.name)
		}
	}
	return reserve, nil
}

// makeSlot creates the slot. One that reserves WAL begins at the last checkpoint's redo position. If
// that segment has gone before the slot could hold it, another checkpoint has been made, and the
// slot begins there.
func (s *Session) makeSlot(ctx context.Context, cmd createSlot, reserve bool) error {
	cfg := &s.server.cfg
	if !cmd.temporary && cfg.CreateSlot != nil {
		return s.slotError(cfg.CreateSlot(ctx, cmd.slot, reserve))
	}
	var restart wal.LSN
	if reserve {
		restart = cfg.Redo()
	}
	if err := cfg.Slots.Create(cmd.slot, cmd.temporary, restart, s.conn.PID); err != nil {
		return s.slotError(err)
	}
	size := cfg.Log.Format.SegmentSize
	if !reserve || size.Segno(restart) >= cfg.Log.Dir.RemovedBelow() {
		return nil
	}
	h, err := s.acquireSlot(cmd.slot)
	if err != nil {
		return err
	}
	defer h.Release()
	for size.Segno(restart) < cfg.Log.Dir.RemovedBelow() {
		restart = cfg.Redo()
		h.Advance(restart)
	}
	return nil
}

// readSlot describes a slot, by NULLs if there is none: a client then starts where the server is.
func (s *Session) readSlot(cmd readSlot) error {
	values := make([][]byte, 3)
	if slot, ok := s.server.cfg.Slots.Get(cmd.slot); ok {
		values[0] = []byte("physical")
		if slot.Restart != 0 {
			values[1] = lsnText(slot.Restart)
			values[2] = strconv.AppendUint(nil, uint64(timelineAt(s.server.cfg.Log.History, slot.Restart)), 10)
		}
	}
	return s.sendRow("READ_REPLICATION_SLOT",
		[]pgwire.Column{text("slot_type"), text("restart_lsn"), int8("restart_tli")}, values...)
}

// timelineAt is the timeline of h that a position belongs to.
func timelineAt(h wal.History, lsn wal.LSN) wal.TimelineID {
	for _, s := range h.Switches {
		if lsn < s.At {
			return s.Parent
		}
	}
	return h.Timeline
}

func (s *Session) dropSlot(ctx context.Context, cmd dropSlot) error {
	drop := s.server.cfg.Slots.Drop
	if s.server.cfg.DropSlot != nil {
		drop = s.server.cfg.DropSlot
	}
	if err := drop(ctx, cmd.slot, s.conn.PID, cmd.wait); err != nil {
		return s.slotError(err)
	}
	s.conn.SendCommandComplete("DROP_REPLICATION_SLOT")
	return nil
}
