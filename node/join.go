package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// identify finds out who this node is, and founds a cluster if it is nobody yet and has none to join.
// It is ready unless it needs a copy of the cluster's data.
func (n *Node) identify() (ready bool, err error) {
	state, id, err := n.dir.Open()
	if err != nil {
		return false, err
	}
	if err := removeBackups(n.dir); err != nil {
		return false, err
	}
	switch {
	case state == startup.Ready:
		err = n.checkIdentity(id)
	case state == startup.Copied:
		id, err = n.newIdentity(0), n.joinFromCopy()
	case len(n.cfg.Join) > 0 || id.NodeID != 0:
		id = n.newIdentity(id.NodeID)
	case n.cfg.Witness:
		return false, errors.New("a witness cannot found a cluster: it keeps no table; start a node without --witness first, and the witness with --join HOST:PORT of that one")
	default:
		state = startup.Ready
		id, err = n.foundCluster()
	}
	if err != nil {
		return false, err
	}
	if n.raftID, _, err = raftlog.LoadID(n.dir.Raft(), n.cfg.Machine.Raft); err != nil {
		return false, err
	}
	return state == startup.Ready, n.become(id)
}

// become makes id this node's identity.
func (n *Node) become(id startup.Identity) error {
	n.id.Store(&id)
	if id.SegmentSize == 0 {
		return nil // not known before the copy
	}
	return n.settings.Set("wal_segment_size", fmt.Sprint(uint32(id.SegmentSize)), "override")
}

// newIdentity is the identity of this node with no data yet; node is the one it had before, or 0.
func (n *Node) newIdentity(node startup.Hex64) startup.Identity {
	if node == 0 {
		node = startup.RandomID()
	}
	return startup.Identity{Name: n.cfg.Name, NodeID: node, Incarnation: startup.RandomID(), PGVersion: wal.PG15.Major, Witness: n.cfg.Witness}
}

// checkIdentity refuses to start a directory as something that it is not.
func (n *Node) checkIdentity(id startup.Identity) error {
	if id.Name != n.cfg.Name {
		return fmt.Errorf("data directory %s belongs to node %q, not %q: start it with --name %s, or use another directory", n.dir.Path, id.Name, n.cfg.Name, id.Name)
	}
	switch {
	case id.Witness && !n.cfg.Witness:
		return fmt.Errorf("data directory %s is a witness's, and holds no table: start it with --witness, or make a node that keeps the table with another --data-dir and --join", n.dir.Path)
	case n.cfg.Witness && !id.Witness:
		return fmt.Errorf("data directory %s holds a table, and a witness keeps none: start it without --witness, or make a witness with another --data-dir and --join", n.dir.Path)
	}
	if n.cfg.SegmentSize != 0 && n.cfg.SegmentSize != id.SegmentSize {
		return fmt.Errorf("data directory %s has WAL segments of %d MB, but %d MB were asked for: the size is fixed when a cluster is made; leave --wal-segsize out", n.dir.Path, id.SegmentSize>>20, n.cfg.SegmentSize>>20)
	}
	return nil
}

// foundCluster makes this node the first of a new cluster, and its Raft store the only one that
// begins without others.
func (n *Node) foundCluster() (startup.Identity, error) {
	id := n.newIdentity(0)
	id.SegmentSize = cmp.Or(n.cfg.SegmentSize, wal.DefaultSegmentSize)
	id.SystemID = startup.NewSystemID(time.Now(), os.Getpid())
	id.Founder = true
	// What an attempt that crashed has left of Raft belongs to a cluster that never was.
	if err := n.dir.FS.RemoveAll(n.dir.Raft()); err != nil {
		return id, err
	}
	var err error
	if n.raftID, _, err = raftlog.LoadID(n.dir.Raft(), n.cfg.Machine.Raft); err != nil {
		return id, err
	}
	if err := raftlog.Bootstrap(n.raftConfig()); err != nil {
		return id, fmt.Errorf("begin Raft's log: %w", err)
	}
	if err := n.dir.NewCluster(id); err != nil {
		return id, fmt.Errorf("make a new cluster in %s: %w", n.dir.Path, err)
	}
	n.log.Info("new cluster", "system_identifier", id.SystemID, "segment_size", id.SegmentSize)
	return id, nil
}

// copyCluster makes this node a member and its directory a standby's: it takes a base copy of the
// primary. One that is interrupted leaves a directory that counts as empty, and is begun again.
func (n *Node) copyCluster(ctx context.Context) error {
	if err := n.announce(ctx); err != nil {
		return err
	}
	for begin := time.Now(); ; {
		err := n.tryCopy(ctx)
		if err == nil || ctx.Err() != nil || !interrupted(err) && !(occupied(err) && time.Since(begin) < earlierTimeout) {
			return err
		}
		n.log.Warn("beginning the base copy again", "because", err)
		if _, _, err := n.dir.Open(); err != nil { // clears what it left
			return err
		}
		select {
		case <-time.After(joinRetry):
		case <-ctx.Done():
		}
	}
}

// joinPatience is how long a node that was taken in waits to hear of the primary through Raft.
const joinPatience = 10 * time.Second

// hearOfPrimary is awaitPrimary for a node that has just been taken in. It may be a member no more: a request of this
// node's process before, whose identity a power cut has lost, may have come to a leader that could not reach this one,
// and then Raft sends nothing here, or what it sends knows nothing of this node. So it asks again.
func (n *Node) hearOfPrimary(ctx context.Context) (raftlog.Member, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, joinPatience)
		primary, err := n.awaitPrimary(wait)
		cancel()
		if err == nil || ctx.Err() != nil {
			return primary, err
		}
		if err := n.announce(ctx); err != nil {
			return raftlog.Member{}, err
		}
	}
}

// errMovedOn says that the primary changed between two questions.
var errMovedOn = errors.New("the log of the upstream has moved on meanwhile")

// interrupted reports whether a base copy failed because its connection did, or because the upstream
// stopped or is starting: another attempt may succeed.
func interrupted(err error) bool {
	if e, ok := errors.AsType[*pgwire.Error](err); ok {
		return e.Code == pgwire.CodeAdminShutdown || e.Code == pgwire.CodeCannotConnectNow
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, errMovedOn) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, walreceiver.ErrTimeout)
}

// earlierTimeout is how long a joining node waits for the primary to notice that an earlier attempt of
// its own, which crashed, is gone.
const earlierTimeout = 10 * time.Second

// occupied reports whether the primary refused the node because one of its name is connected.
func occupied(err error) bool {
	e, ok := errors.AsType[*pgwire.Error](err)
	return ok && e.Code == pgwire.CodeObjectInUse
}

// tryCopy takes a base copy of the primary and completes this node's identity from what the primary
// says of its cluster. Before the data becomes this node's for good, it asks to be a member once more: it may have been
// replaced meanwhile, and comes back as who it is, having promised nobody anything. With data it could not.
func (n *Node) tryCopy(ctx context.Context) error {
	primary, err := n.hearOfPrimary(ctx)
	if err != nil {
		return err
	}
	id := n.identity()
	cfg := n.receiverConfig(id, primary.Address)
	sys, err := walreceiver.Identify(ctx, cfg)
	if err != nil {
		return err
	}
	id.SystemID, id.SegmentSize = sys.SystemID, sys.SegmentSize
	if n.cfg.SegmentSize != 0 && n.cfg.SegmentSize != id.SegmentSize {
		return fmt.Errorf("the cluster at %s has WAL segments of %d MB, but %d MB were asked for: leave --wal-segsize out", primary.Address, id.SegmentSize>>20, n.cfg.SegmentSize>>20)
	}
	if state, _, err := n.dir.Open(); err != nil {
		return err
	} else if state == startup.Copied {
		if err := n.announce(ctx); err != nil {
			return err
		}
		if err := n.adopt(id, sys); err != nil {
			return err
		}
		return n.become(id)
	}
	err = n.dir.Build(id, func() (startup.Control, error) {
		control, err := n.baseCopy(ctx, cfg, sys)
		if err == nil {
			err = n.announce(ctx)
		}
		return control, err
	})
	if err != nil {
		return fmt.Errorf("base copy from %s: %w", primary.Address, err)
	}
	return n.become(id)
}

// baseCopy fills a directory that is being built from the primary's data.
func (n *Node) baseCopy(ctx context.Context, cfg walreceiver.Config, sys walreceiver.System) (startup.Control, error) {
	fs := n.dir.FS
	arrived := n.dir.Copy().Path
	p := &progress{out: n.cfg.Out}
	if _, _, err := walreceiver.BaseCopy(ctx, cfg, fs, arrived, p.report); err != nil {
		return startup.Control{}, err
	}
	p.done()
	control, err := startup.ReadControl(fs, fs.PathJoin(arrived, "global"))
	if err != nil {
		return startup.Control{}, err
	}
	if control.Timeline != sys.History.Timeline {
		return startup.Control{}, fmt.Errorf("%w: from timeline %d to %d", errMovedOn, sys.History.Timeline, control.Timeline)
	}
	if !n.cfg.Witness { // else the store is made when it is opened, and its log begins at the redo position
		if err := fs.Rename(fs.PathJoin(arrived, "store"), n.dir.Store()); err != nil {
			return startup.Control{}, err
		}
	}
	if err := fs.RemoveAll(arrived); err != nil {
		return startup.Control{}, err
	}
	if len(sys.History.Switches) > 0 {
		if err := wal.NewDir(fs, n.dir.WAL(), wal.Format{SegmentSize: sys.SegmentSize}).WriteHistory(sys.History); err != nil {
			return startup.Control{}, err
		}
	}
	return control, nil
}

// A progress prints how far a base copy is, at most once a second.
type progress struct {
	out      io.Writer
	last     time.Time
	received int64
}

// report takes what has been received and what was estimated, which may be too little.
func (p *progress) report(received, total int64) {
	p.received = received
	if time.Since(p.last) < time.Second || total == 0 {
		return
	}
	p.last = time.Now()
	total = max(total, received)
	fmt.Fprintf(p.out, "base copy: %d%% (%.1f of %.1f MB)\n", 100*received/total, float64(received)/1e6, float64(total)/1e6)
}

func (p *progress) done() {
	fmt.Fprintf(p.out, "base copy: complete (%.1f MB)\n", float64(p.received)/1e6)
}
