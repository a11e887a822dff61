package node

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
	"github.com/longship-db/longship/walsender"
)

// A reign is what a node has while it is in one role, primary or standby: clients are served by it,
// and nothing of it is used in the next.
type reign struct {
	node    *Node
	log     *startup.Recovered // as the roles leave it: for the goroutine that lives them
	found   startup.Recovered  // as the reign found it, or made it: for everybody
	epoch   uint64
	horizon *wal.Position
	opened  chan struct{} // closed when sessions may read and write
	over    chan struct{} // closed when the reign is not the present one any more
	tail    wal.Position  // end of the log of a standby that follows nobody

	table        *kv.Table
	redo         *startup.Redo
	applied      wal.Position
	wanted       wal.Position // on a standby: somebody waits for the log up to there to be applied
	slots        *slots.Slots
	backups      backups
	checkpointer *startup.Checkpointer
	checkpoints  *task // runs checkpointer
	applying     *task // runs redo, on a standby
	scrubs       *task // runs scrub
	sender       *walsender.Server

	primary  *primary                // nil on a standby
	stream   *walreceiver.Stream     // nil unless a standby follows somebody
	upstream raftlog.Member          // whom a standby follows
	fetch    *fetchRequest           // why it does, if that is no primary
	giveUp   context.CancelCauseFunc // ends the stream for good, or the base copy that is taken instead of it
	wasCut   bool                    // the log was cut; set by the stream, read when that has ended

	stopStream context.CancelCauseFunc // ends the stream; a base copy may follow

	admitting sync.Mutex            // one member connects at a time
	admitted  map[string]syncrep.ID // by slot: the members that have connected

	slotKeeper *task              // runs keepSlots
	slotFlush  chan chan struct{} // makes it publish what has moved
}

// newReign begins what both roles have. assemble completes it once the role's own log is there.
func (n *Node) newReign(log *startup.Recovered, horizon *wal.Position) *reign {
	r := &reign{
		node:    n,
		log:     log,
		found:   *log,
		epoch:   log.Control.Epoch,
		horizon: horizon,
		opened:  make(chan struct{}),
		over:    make(chan struct{}),

		admitted:  map[string]syncrep.ID{},
		slotFlush: make(chan chan struct{}),
	}
	r.applied.Advance(n.store.Applied())
	return r
}

// assemble makes the parts that need the log. Nothing runs yet.
func (r *reign) assemble() error {
	n := r.node
	if err := n.settings.Set("in_hot_standby", strconv.FormatBool(r.primary == nil), "override"); err != nil {
		return err
	}
	set, err := slots.Open(n.dir.FS, n.dir.Slots(), int(n.settings.Int("max_replication_slots")))
	if err != nil {
		return err
	}
	r.slots = set
	if n.raft.CaughtUp() {
		// Before anything is removed or anybody served: no slot is ahead of what the cluster knows.
		if err := r.mirrorSlots(n.raft.State(), false); err != nil {
			return err
		}
	}
	var writer *wal.Writer
	var tableLog kv.Log // stays a nil interface on a standby
	var buffered wal.Buffered
	limits := []*wal.Position{r.horizon}
	if r.primary != nil {
		writer = r.primary.writer
		tableLog, buffered = writer, writer
	} else {
		limits = append(limits, r.flushed())
		if r.stream != nil {
			buffered = r.stream
		}
	}
	r.table = kv.NewTable(n.store, tableLog, r.horizon, kv.TableOptions{})
	r.table.SetNextXID(r.log.Control.NextXID)
	r.redo = &startup.Redo{
		Reader:  wal.NewReader(wal.NewRawReader(r.found.Dir, r.found.History, buffered), r.redoStart(), 0),
		Limits:  limits,
		Batch:   n.store.NewBatch(),
		Apply:   r.table.Apply,
		Applied: &r.applied,
		Wanted:  &r.wanted,
		Linger:  standbyLinger,
	}
	if r.primary != nil {
		r.redo.Linger = primaryLinger
	} else if r.stream != nil {
		r.redo.Behind = r.stream.Behind
	}
	r.checkpointer = r.newCheckpointer(writer)
	r.sender = r.newSender(buffered)
	return r.forgetRemoved()
}

// redoStart is where the log goes on behind what the store holds.
func (r *reign) redoStart() wal.LSN { return max(r.node.store.Applied(), r.log.Control.Redo) }

// flushed is how far this node's log is durable, written how far the kernel has it, and inserted how
// far it reaches.
func (r *reign) flushed() *wal.Position {
	switch {
	case r.primary != nil:
		return r.primary.writer.Flushed()
	case r.stream != nil:
		return r.stream.Flushed()
	}
	return &r.tail
}

func (r *reign) written() *wal.Position {
	switch {
	case r.primary != nil:
		return r.primary.writer.Written()
	case r.stream != nil:
		return r.stream.Written()
	}
	return &r.tail
}

func (r *reign) inserted() *wal.Position {
	if r.primary != nil {
		return r.primary.writer.Inserted()
	}
	return r.flushed()
}

// flushing is how far the log may be sent to members.
func (r *reign) flushing() *wal.Position {
	if r.primary != nil {
		return r.primary.writer.Flushing()
	}
	return r.flushed()
}

func (r *reign) newCheckpointer(writer *wal.Writer) *startup.Checkpointer {
	n := r.node
	c := startup.NewCheckpointer(r.log.Control)
	c.DataDir = n.dir
	c.WAL = r.found.Dir
	c.Store = n.store
	c.Writer = writer
	c.Flushed = r.flushed()
	c.Horizon = r.horizon
	c.NextXID = r.nextXID
	c.Retention = n.retention
	c.Timeout = n.checkpointTimeout
	begin := r.redoStart()
	c.Important = func() wal.LSN { return max(begin, r.redo.Important()) }
	c.Needed = r.walNeeds
	c.Invalidate = r.invalidateSlots
	c.Save = r.slots.Save
	c.Log = n.log.With("component", "checkpointer")
	return c
}

// nextXID is the transaction id after the last one in the log.
func (r *reign) nextXID() uint32 {
	if r.primary != nil {
		return r.table.NextXID()
	}
	return r.redo.NextXID(r.log.Control.NextXID)
}

func (r *reign) newSender(buffered wal.Buffered) *walsender.Server {
	n := r.node
	cfg := walsender.Config{
		Log: &walsender.Log{
			System: walsender.System{
				SystemID: n.identity().SystemID,
				Epoch:    r.epoch,
				Timeline: r.found.End.Timeline,
				History:  r.found.History,
				Format:   r.found.Dir.Format,
			},
			Dir:      r.found.Dir,
			Buffer:   buffered,
			Flushing: r.flushing(),
			Flushed:  r.flushed(),
			Horizon:  r.horizon,
		},
		Primary: r.primary != nil,
		Slots:   r.slots,
		CreateSlot: func(ctx context.Context, name string, reserve bool) error {
			_, err := r.createSlot(ctx, name, reserve)
			return err
		},
		DropSlot:    r.dropSlot,
		Refused:     n.scrubbing.suspect,
		Redo:        func() wal.LSN { return r.checkpointer.Control().Redo },
		Timeout:     n.senderTimeout,
		CatchupRate: func() int64 { return n.settings.Bytes("wal_catchup_rate") },
		Show:        r.show,
		Backup:      r,
		Sealed:      func() bool { return r.primary == nil && r.stream == nil },
		Fatal:       func(err error) { n.fail(&FatalError{Err: err}) },
		Logger:      n.log,
	}
	if r.primary != nil {
		cfg.Sync = r.primary.group
		cfg.ReserveSlot = r.reserveSlot
		cfg.CaughtUp = func() { r.primary.keeper.Kick() }
	}
	return walsender.New(cfg)
}

// prepareDelay keeps the preparation of the next change of timelines out of the way of this one.
const prepareDelay = 500 * time.Millisecond

// prepare has what the next change of timelines needs ready, so that commits wait less for it.
func (r *reign) prepare(ctx context.Context) error {
	select {
	case <-time.After(prepareDelay):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := r.found.Dir.Prepare(); err != nil {
		r.node.log.Warn("the next failover will take longer", "err", err)
	}
	return nil
}

// endSenders ends the connections that get the log from this reign. Members that only ask something
// stay.
func (r *reign) endSenders(ctx context.Context, e *pgwire.Error) error {
	senders := map[*pgwire.Conn]bool{}
	for _, s := range r.sender.Stats() {
		senders[s.Conn] = true
	}
	return r.node.server.TerminateReplication(ctx, e, func(c *pgwire.Conn) bool { return senders[c] })
}

// show answers SHOW on a replication connection.
func (r *reign) show(name string) (string, bool) {
	switch name {
	case "longship.epoch":
		return strconv.FormatUint(r.epoch, 10), true
	case "longship.primary":
		return r.node.primaryAddress(), true
	}
	value, err := r.node.settings.Show(name)
	return value, err == nil
}
