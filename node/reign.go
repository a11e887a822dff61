package node

import (
	"context"
	"math"
	"strconv"
	"sync"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
	"github.com/longship-db/longship/walsender"
)

// A reign is what a node has while it is in one role, primary or standby: clients are served by it,
// and nothing of it is used in the next.
type reign struct {
	node    *Node
	log     *startup.Recovered
	epoch   uint64
	horizon *wal.Position
	opened  chan struct{} // closed when sessions may read and write

	table        *kv.Table
	redo         *startup.Redo
	applied      wal.Position
	slots        *slots.Slots
	backups      backups
	checkpointer *startup.Checkpointer
	checkpoints  *task // runs checkpointer
	sender       *walsender.Server
	catalog      *sql.Catalog

	primary  *primary                // nil on a standby
	stream   *walreceiver.Stream     // nil on a primary
	upstream string                  // client address of the node that a standby follows
	giveUp   context.CancelCauseFunc // ends the stream for good
	wasCut   bool                    // the log was cut; set by the stream, read when that has ended

	admitting sync.Mutex // one member joins at a time
}

// newReign begins what both roles have. assemble completes it once the role's own log is there.
func (n *Node) newReign(log *startup.Recovered, horizon *wal.Position) *reign {
	r := &reign{
		node:    n,
		log:     log,
		epoch:   log.Control.Epoch,
		horizon: horizon,
		opened:  make(chan struct{}),
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
	var writer *wal.Writer
	var tableLog kv.Log // stays a nil interface on a standby
	var buffered wal.Buffered
	limits := []*wal.Position{r.horizon}
	if r.primary != nil {
		writer = r.primary.writer
		tableLog, buffered = writer, writer
	} else {
		limits = append(limits, r.stream.Flushed())
	}
	r.table = kv.NewTable(n.store, tableLog, r.horizon, kv.TableOptions{})
	r.table.SetNextXID(r.log.Control.NextXID)
	r.redo = &startup.Redo{
		Reader:  wal.NewReader(wal.NewRawReader(r.log.Dir, r.log.History, buffered), r.redoStart(), 0),
		Limits:  limits,
		Batch:   n.store.NewBatch(),
		Apply:   r.table.Apply,
		Applied: &r.applied,
	}
	if r.primary != nil {
		r.redo.Linger = redoLinger
	}
	r.checkpointer = r.newCheckpointer(writer)
	r.sender = r.newSender(buffered)
	r.catalog = r.newCatalog()
	return nil
}

// redoStart is where the log goes on behind what the store holds.
func (r *reign) redoStart() wal.LSN { return max(r.node.store.Applied(), r.log.Control.Redo) }

// flushed is how far this node's log is durable, inserted how far it reaches.
func (r *reign) flushed() *wal.Position {
	if r.primary != nil {
		return r.primary.writer.Flushed()
	}
	return r.stream.Flushed()
}

func (r *reign) inserted() *wal.Position {
	if r.primary != nil {
		return r.primary.writer.Inserted()
	}
	return r.stream.Flushed()
}

func (r *reign) newCheckpointer(writer *wal.Writer) *startup.Checkpointer {
	n := r.node
	c := startup.NewCheckpointer(r.log.Control)
	c.DataDir = n.dir
	c.WAL = r.log.Dir
	c.Store = n.store
	c.Writer = writer
	c.Flushed = r.flushed()
	c.Horizon = r.horizon
	c.NextXID = r.nextXID
	c.Retention = n.retention
	c.Timeout = n.checkpointTimeout
	c.Needed = r.walNeeded
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

// walNeeded is the lowest position that a slot or a base copy needs, 0 if none does. Slots that need
// a segment before limit are invalidated first.
func (r *reign) walNeeded(limit uint64) (wal.LSN, error) {
	size := r.node.id.SegmentSize
	invalidated, err := r.slots.Invalidate(size.Start(limit))
	if err != nil {
		return 0, err
	}
	for _, i := range invalidated {
		r.node.log.Warn("invalidating slot because its restart_lsn exceeds max_slot_wal_keep_size", "slot", i.Name, "restart_lsn", i.Restart)
		r.node.server.TerminateBackend(i.PID)
	}
	needed := r.slots.MinRestart()
	if b := r.backups.oldest(); b != 0 && (needed == 0 || b < needed) {
		needed = b
	}
	return needed, nil
}

func (r *reign) newSender(buffered wal.Buffered) *walsender.Server {
	n := r.node
	cfg := walsender.Config{
		Log: &walsender.Log{
			System: walsender.System{
				SystemID: n.id.SystemID,
				Epoch:    r.epoch,
				Timeline: r.log.End.Timeline,
				History:  r.log.History,
				Format:   r.log.Dir.Format,
			},
			Dir:      r.log.Dir,
			Buffer:   buffered,
			Inserted: r.inserted(),
			Flushed:  r.flushed(),
			Horizon:  r.horizon,
		},
		Primary: r.primary != nil,
		Slots:   r.slots,
		Redo:    func() wal.LSN { return r.checkpointer.Control().Redo },
		Timeout: n.settings.Duration("wal_sender_timeout"),
		Show:    r.show,
		Backup:  r,
		Fatal:   func(err error) { n.fail(&FatalError{Err: err}) },
		Logger:  n.log,
	}
	if r.primary != nil {
		cfg.Sync = r.primary.group
		cfg.CaughtUp = r.memberCaughtUp
	}
	return walsender.New(cfg)
}

// connect makes a client's session.
func (r *reign) connect(c *pgwire.Conn) (pgwire.Session, error) {
	return sql.NewSession(c, &session{reign: r}, sql.Identity{User: c.User, Database: c.Database, PID: c.PID, Params: c.Params})
}

// connectReplication serves a receiver or a member. A member is known, and has its slot, before it
// asks for anything: what it needs from then on is kept for it. A node of another cluster does not
// become one: it will find out from IDENTIFY_SYSTEM that it is in the wrong place.
func (r *reign) connectReplication(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	if c.Native > 0 && r.primary != nil && r.ours(c.Params[paramSystemID]) {
		m, err := memberOf(c)
		if err != nil {
			return nil, err
		}
		if err := r.admit(m); err != nil {
			return nil, err
		}
	}
	return r.sender.Connect(ctx, c)
}

// ours reports whether a system identifier, as a member sends it, is this cluster's or none yet.
func (r *reign) ours(id string) bool {
	return id == "" || id == "0" || id == strconv.FormatUint(r.node.id.SystemID, 10)
}

// Start-up parameters by which a member says who it is.
const (
	paramNodeID      = "longship.node_id"
	paramIncarnation = "longship.incarnation"
	paramAddress     = "longship.address"
	paramSystemID    = "longship.system_id" // 0: it has no data yet
)

func memberOf(c *pgwire.Conn) (Member, error) {
	m := Member{Name: c.Params["application_name"], Address: c.Params[paramAddress]}
	id, errID := strconv.ParseUint(c.Params[paramNodeID], 16, 64)
	inc, errInc := strconv.ParseUint(c.Params[paramIncarnation], 16, 64)
	if errID != nil || errInc != nil || !namePattern.MatchString(m.Name) {
		return m, pgwire.Errorf(pgwire.CodeProtocolViolation, "a member must say who it is: application_name %q, %s %q, %s %q",
			m.Name, paramNodeID, c.Params[paramNodeID], paramIncarnation, c.Params[paramIncarnation]).Fatal()
	}
	m.NodeID, m.Incarnation = startup.Hex64(id), startup.Hex64(inc)
	return m, nil
}

// admit makes a member known and gives it a slot, which keeps the WAL from the present redo position
// on. An empty disk in the place of a known one is a new member: the slot starts anew.
func (r *reign) admit(m Member) error {
	r.admitting.Lock()
	defer r.admitting.Unlock()
	members := r.primary.members
	known, ok := members.get(m.Name)
	if m.Name == r.node.cfg.Name {
		return pgwire.Errorf(pgwire.CodeDuplicateObject, "the name %q is this node's own", m.Name).
			WithHint("Start the other node with another --name.").Fatal()
	}
	if ok && known.Incarnation != m.Incarnation && r.sender.Connected(m.Name) {
		return pgwire.Errorf(pgwire.CodeObjectInUse, "a member named %q is connected already, with another disk", m.Name).
			WithHint("Start this node with another --name, or stop the other one first.").Fatal()
	}
	same := ok && known.Incarnation == m.Incarnation
	if err := r.ensureSlot(slots.MemberName(m.Name), same); err != nil {
		return clientError(err)
	}
	// A new disk in the place of one that counted: the rule asks for no less meanwhile.
	m.Counted = known.Counted
	return members.put(m)
}

// ensureSlot makes a member's slot, or keeps the one it has if its disk is the same.
func (r *reign) ensureSlot(name string, keep bool) error {
	if s, exists := r.slots.Get(name); exists {
		if keep && s.Restart != 0 { // one that was invalidated keeps nothing
			return nil
		}
		if err := r.slots.Drop(context.Background(), name, admitter, false); err != nil {
			return err
		}
	}
	return r.slots.Create(name, false, r.checkpointer.Control().Redo, admitter)
}

// admitter stands for this node among the connections that use slots.
const admitter = math.MaxInt32

// memberCaughtUp makes a member count for the rule once it has all there is: had it counted before,
// commits would have waited for its base copy.
func (r *reign) memberCaughtUp(name string) {
	r.admitting.Lock() // the rule follows the list, in the same order
	defer r.admitting.Unlock()
	p := r.primary
	counted, err := p.members.count(name)
	if err != nil {
		r.node.log.Error("a member that has caught up does not count yet: it will when it streams again", "member", name, "err", err)
		return
	}
	if counted {
		n := p.members.counted()
		r.node.log.Info("a member counts from now on", "member", name, "members", n, "rule", p.rule.String())
		p.group.SetRule(p.rule, n)
		r.sender.RuleChanged()
	}
}

// show answers SHOW on a replication connection.
func (r *reign) show(name string) (string, bool) {
	switch name {
	case "longship.epoch":
		return strconv.FormatUint(r.epoch, 10), true
	case "longship.primary":
		if r.primary != nil {
			return r.node.address, true
		}
		return r.upstream, true
	}
	value, err := r.node.settings.Show(name)
	return value, err == nil
}
