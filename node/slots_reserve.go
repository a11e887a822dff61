package node

import (
	"context"
	"errors"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
)

// reserveSlot has a client's slot keep WAL from start on, on every node, if it keeps none yet: one that is used
// for the first time, or for the first time since it was invalidated. Only then is its consumer sent anything,
// as it may throw away what it has confirmed, and the next primary must have what follows. The slots of members,
// and those that keep WAL already, are not held up.
//
//	crash before Raft has agreed: the consumer has got nothing yet
//	crash after that: the next primary has the slot, and the log from start on
//
// The log before what every node keeps may be gone elsewhere; there the slot is then lost.
func (r *reign) reserveSlot(ctx context.Context, h *slots.Handle, name string, start wal.LSN) error {
	if !r.reservesNothing(name) || start > r.flushed().Load() { // the stream refuses that
		return nil
	}
	if err := r.reserveFrom(h, start); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	for { // once at least: Raft may be hearing of an invalidation just now
		err := r.flushSlots(limited)
		if err == nil && !r.reservesNothing(name) {
			return nil
		}
		if err == nil { // Raft has refused, or the epoch is not steady yet
			err = pause(limited, slotLook)
		}
		if err != nil {
			return slotNotReserved(ctx, name, err)
		}
	}
}

// reservesNothing reports whether a client's permanent slot keeps nothing, here or on the other nodes.
func (r *reign) reservesNothing(name string) bool {
	local, ok := r.slots.Get(name)
	agreed, known := r.node.raft.State().Slot(name)
	return ok && known && unreserved(local, agreed)
}

func unreserved(local slots.Slot, agreed raftlog.Slot) bool {
	return local.Number == agreed.Number && agreed.Member.IsZero() && (local.Restart == 0 || agreed.Restart == 0)
}

// reserveFrom makes a slot keep WAL here from start on, if it is still there.
func (r *reign) reserveFrom(h *slots.Handle, start wal.LSN) error {
	hold := r.slots.Hold()
	defer hold.Release()
	hold.Keep(start)
	oldest, err := r.oldestWAL()
	if err != nil {
		return err
	}
	if start < oldest {
		size := r.node.identity().SegmentSize
		segno := size.Segno(start)
		return pgwire.Errorf(pgwire.CodeUndefinedFile, "%w",
			&wal.RemovedError{Segment: size.FileName(r.found.History.FileTimeline(segno, size), segno)})
	}
	h.Advance(start)
	return nil
}

// pause waits, unless ctx ends before, whose cause it then returns.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// slotNotReserved is why a stream does not begin, for a client whose ctx it is.
func slotNotReserved(ctx context.Context, name string, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errReignOver):
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "cannot use replication slot \"%s\": %w", name, err)
	}
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the cluster has not agreed on where replication slot \"%s\" begins", name).
		WithDetail("It keeps no WAL yet. Before anything is streamed with it, all nodes are told to, by a majority of the voting members.").
		WithHint("Look at longship status for what is missing, and try again.")
}
