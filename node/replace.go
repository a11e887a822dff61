package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// A replacement ends the role of a standby whose data cannot be brought to where its upstream's log begins: a base copy
// of the upstream's is complete beside it, and is to take its place.
type replacement struct{ own, copied *startup.Recovered }

func (*replacement) Error() string { return "a base copy takes the place of this node's data" }

// errRebuilding is for the sessions that read the data which a base copy replaces.
func errRebuilding() *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeAdminShutdown, "terminating connection because this node takes a new base copy").
		WithHint("Connect again, here in a moment, or to another node.").Fatal()
}

// follow takes the upstream's log. If that does not go on where this node's ends, or this node's is beyond
// repair, a base copy is taken. Until it is complete, which may take long, the role goes on: what this node has,
// a rule in force may count on, and clients read it. The end of the role, for whatever reason, is the end of the
// copy.
func (r *reign) follow(ctx, streaming context.Context) error {
	err := r.stream.Run(streaming)
	takes, later := takesCopy(err)
	if ctx.Err() != nil || r.fetch != nil || !takes {
		return err
	}
	if r.wasCut {
		return errRoleEnds // the log as it is now is found at the end of the role, and is followed up in the next
	}
	n := r.node
	n.log.Warn("taking a new base copy", "upstream", r.upstream.Name, "because", err)
	for {
		own := r.found
		own.End, _ = r.stream.End()
		own.Horizon = r.horizon.Load()
		copied, err := n.copyBeside(ctx, &own, r.upstream.Address)
		if err == nil {
			return &replacement{&own, copied}
		}
		if dropped := n.dir.DropCopy(); dropped != nil {
			err = errors.Join(err, dropped)
		}
		if wal.IsFatal(err) {
			return err
		}
		if ctx.Err() == nil {
			n.log.Warn("no base copy was taken: will try again", "err", err)
		}
		if later {
			return errRoleEnds
		}
		if err := pause(ctx, copyPause(err)); err != nil {
			return err
		}
	}
}

// errBeyondRepair says that a standby's own recovery reads where its log is damaged, and that nobody could help.
var errBeyondRepair = errors.New("the log is damaged where this node's recovery reads it, " +
	"and no other member could repair it")

// takesCopy reports whether a base copy helps a standby whose stream has ended with err. If none can be taken now, but
// what is damaged may be repaired yet, the log is followed again, and a copy is taken later.
func takesCopy(err error) (takes, later bool) {
	_, gone := errors.AsType[*wal.RemovedError](err)
	_, damaged := errors.AsType[*wal.DamagedError](err)
	apart := gone || errors.Is(err, startup.ErrStoreAhead) || errors.Is(err, walreceiver.ErrUnbegun)
	later = damaged || errors.Is(err, errBeyondRepair)
	return apart || later, later
}

// copyRetry is the pause between two attempts to take a base copy, if not just the connection was interrupted.
const copyRetry = 10 * time.Second

func copyPause(err error) time.Duration {
	if interrupted(err) {
		return joinRetry
	}
	return copyRetry
}

// errNoRoomBeside says that the disk has no room for the data and its copy.
var errNoRoomBeside = errors.New("there is no room for a base copy beside the data that is here, which is kept until " +
	"the copy is complete: free some; or stop this node, empty its data directory and join again, which gives up what " +
	"only this disk may have of commits that were acknowledged")

// copyBeside takes a base copy of the node at address, the primary of the epoch that this node has promised, which may
// take the place of own.
func (n *Node) copyBeside(ctx context.Context, own *startup.Recovered, address string) (*startup.Recovered, error) {
	if err := n.dir.DropCopy(); err != nil {
		return nil, err
	}
	cfg := n.receiverConfig(n.identity(), address)
	cfg.Log = true
	sys, err := walreceiver.Identify(ctx, cfg)
	if err != nil {
		return nil, err
	}
	promised := n.promised.Load()
	if sys.Epoch != promised {
		return nil, fmt.Errorf("%w: it is in epoch %d, and epoch %d is promised", errMovedOn, sys.Epoch, promised)
	}
	copying, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p := &progress{out: n.cfg.Out}
	report := func(done, total int64) {
		p.report(done, total)
		usage, err := n.dir.FS.GetDiskUsage(n.dir.Path)
		if missing := total - done; err == nil && missing > int64(usage.AvailBytes) {
			stop(fmt.Errorf("%w. It takes %d MB more, and %d MB are free", errNoRoomBeside, missing>>20, usage.AvailBytes>>20))
		}
	}
	_, _, err = walreceiver.BaseCopy(copying, cfg, n.dir.FS, n.dir.Copy().Path, report)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", errNoRoomBeside, err)
	}
	if err != nil {
		return nil, err
	}
	p.done()
	copied, err := n.dir.RecoverCopy(n.identity(), n.log.With("component", "startup"))
	if err != nil {
		return nil, err
	}
	return copied, own.Fits(copied, promised)
}

// unlessOver is what a role ends with whose stream ended with end. If it was to end anyway, with a request to seal or
// because the node stops, a base copy that has just been completed is given up: the answer is what was here.
func (r *reign) unlessOver(ctx context.Context, req *sealRequest, end error) error {
	if _, complete := errors.AsType[*replacement](end); !complete || req == nil && ctx.Err() == nil {
		return end
	}
	if err := r.node.dir.DropCopy(); err != nil {
		r.node.log.Warn("the next base copy, or the next start, will remove this one", "err", err)
	}
	return errRoleEnds
}

// replaceData has a base copy take the place of this node's data, which nobody uses any more.
func (n *Node) replaceData(r *replacement) error {
	err := n.dir.Replace(r.own, r.copied)
	if err == nil {
		n.log.Info("a base copy has taken the place of this node's data", "end", r.copied.End.LSN, "before", r.own.End.LSN)
		return nil
	}
	if _, full := errors.AsType[*wal.NoRoomError](err); full || errors.Is(err, startup.ErrUnfit) {
		n.log.Warn("a base copy has not taken the place of this node's data", "err", err)
		return n.dir.DropCopy()
	}
	return asFatal(err)
}
