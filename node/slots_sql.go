package node

import (
	"context"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// A slotFunction is a function of SQL that makes or moves a slot, for a client. It returns the slot's name
// and a position.
type slotFunction func(ctx context.Context, r *reign, s *session, args []sql.Value) (string, wal.LSN, error)

// addSlotFunctions adds PostgreSQL 15's functions for physical slots ("Replication Management Functions").
// A name is a text here: a name of SQL would be cut at 63 bytes, and a long one is refused.
func (n *Node) addSlotFunctions(c *sql.Catalog) {
	row := func(name string, args []sql.Type, defaults []sql.Value, lsn string, call slotFunction) {
		c.AddFunc(sql.Func{
			Name: name, Args: args, Defaults: defaults,
			Columns: []sql.Column{{Name: "slot_name", Type: sql.Name}, {Name: lsn, Type: sql.PgLSN}},
			Row: func(ctx context.Context, caller sql.Backend, args []sql.Value) ([]sql.Value, error) {
				r, err := n.present.await(ctx)
				if err != nil {
					return nil, err
				}
				slot, at, err := call(ctx, r, caller.(*session), args)
				return []sql.Value{sql.NameValue(slot), sql.LSNOrNull(at)}, clientError(err)
			},
		})
	}
	no := sql.BoolValue(false)
	row("pg_create_physical_replication_slot", []sql.Type{sql.Text, sql.Bool, sql.Bool}, []sql.Value{no, no}, "lsn", sqlCreateSlot)
	row("pg_copy_physical_replication_slot", []sql.Type{sql.Text, sql.Text}, nil, "lsn", sqlCopySlot)
	row("pg_copy_physical_replication_slot", []sql.Type{sql.Text, sql.Text, sql.Bool}, nil, "lsn", sqlCopySlot)
	row("pg_replication_slot_advance", []sql.Type{sql.Text, sql.PgLSN}, nil, "end_lsn", sqlAdvanceSlot)
	c.AddFunc(sql.Func{
		Name: "pg_drop_replication_slot", Args: []sql.Type{sql.Text}, Result: sql.Void,
		Own: func(ctx context.Context, caller sql.Backend, args []sql.Value) (sql.Value, error) {
			r, err := n.present.await(ctx)
			if err == nil {
				err = r.dropSlot(ctx, args[0].Text(), caller.(*session).pid, false)
			}
			return sql.VoidValue(), clientError(err)
		},
	})
}

func sqlCreateSlot(ctx context.Context, r *reign, s *session, args []sql.Value) (string, wal.LSN, error) {
	name, reserve := args[0].Text(), args[1].Bool()
	if !args[2].Bool() {
		at, err := r.createSlot(ctx, name, reserve)
		return name, at, err
	}
	hold := r.slots.Hold()
	defer hold.Release()
	var at wal.LSN
	if reserve {
		at = r.reserveWAL(hold)
	}
	return name, at, s.createTemporary(r, name, at)
}

// createTemporary makes a slot that goes with the client's connection, or its next error.
func (s *session) createTemporary(r *reign, name string, at wal.LSN) error {
	s.temporary = r.slots
	return r.slots.Create(name, true, at, s.pid)
}

// releaseSlots drops the client's temporary slots.
func (s *session) releaseSlots() {
	if s.temporary != nil {
		s.temporary.ReleaseAll(s.pid)
	}
}

// sqlCopySlot makes a slot that keeps what another one keeps; a temporary one of a temporary one, if
// nothing else is asked for.
func sqlCopySlot(ctx context.Context, r *reign, s *session, args []sql.Value) (string, wal.LSN, error) {
	from, name := args[0].Text(), args[1].Text()
	source, ok := r.slots.Get(from)
	if !ok {
		return "", 0, &slots.Error{Err: slots.ErrNotFound, Name: from}
	}
	if source.Restart == 0 {
		return "", 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cannot copy a replication slot that doesn't reserve WAL")
	}
	temporary := source.Temporary
	if len(args) == 3 {
		temporary = args[2].Bool()
	}
	hold := r.slots.Hold()
	defer hold.Release()
	hold.Keep(source.Restart)
	before := source.Restart
	if source, ok = r.slots.Get(from); !ok || source.Restart < before { // dropped or invalidated before the hold was there
		return "", 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "could not copy replication slot \"%s\"", from).
			WithDetail("The source replication slot was modified incompatibly during the copy operation.")
	}
	if temporary {
		return name, 0, s.createTemporary(r, name, source.Restart)
	}
	return name, 0, r.copySlot(ctx, name, source)
}

// sqlAdvanceSlot moves a slot that nobody uses forward, but not past what there is to be read.
func sqlAdvanceSlot(_ context.Context, r *reign, s *session, args []sql.Value) (string, wal.LSN, error) {
	name, to := args[0].Text(), args[1].LSN()
	if to == 0 {
		return "", 0, pgwire.Errorf(pgwire.CodeInternalError, "invalid target WAL LSN")
	}
	if slot, ok := r.slots.Get(name); ok && slot.Number != 0 && r.primary == nil {
		return "", 0, errSlotOnStandby(name)
	}
	h, err := r.slots.Acquire(name, s.pid)
	if err != nil {
		return "", 0, err
	}
	defer h.Release()
	slot, _ := r.slots.Get(name)
	if slot.Restart == 0 {
		return "", 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "replication slot \"%s\" cannot be advanced", name).
			WithDetail("This slot has never previously reserved WAL, or it has been invalidated.")
	}
	if to = min(to, r.readable()); to < slot.Restart {
		return "", 0, pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cannot advance replication slot to %s, minimum is %s", to, slot.Restart)
	}
	h.Advance(to)
	return name, to, nil
}

// readable is how far the log may be read here.
func (r *reign) readable() wal.LSN {
	if r.primary != nil {
		return r.horizon.Load()
	}
	return r.applied.Load()
}
