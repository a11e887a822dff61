package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walreceiver"
)

// A Node is one running process of a cluster.
type Node struct {
	cfg        Config
	log        *slog.Logger
	started    time.Time
	configured configured    // what of the cluster's settings is in settings
	runID      uint64        // of this process: what another was promised or named for does not concern it
	faults     *faults.Table // nil: none are allowed
	settings   *sql.Settings
	catalog    *sql.Catalog

	// Made by Run, in this order.
	dir           startup.DataDir
	listener      net.Listener // for clients, receivers and members
	raftListener  net.Listener
	httpListener  net.Listener // nil: metrics and health are not served
	address       string       // under which clients and members reach this node
	raftAddress   string
	gossipAddress string
	server        *pgwire.Server
	peers         *election.Client
	raftID        string
	raft          *raftlog.Node
	coordinator   *election.Coordinator
	gossip        Gossip
	connected     atomic.Bool // raft and coordinator are there
	takenIn       bool        // announce has succeeded; owned by the goroutine that announces
	ready         atomic.Bool // there is data here, of a cluster that this node is a member of
	tasks         []*task     // of the cluster
	store         *kv.Store

	id       atomic.Pointer[startup.Identity] // complete once there is data
	present  *present                         // what clients are served by
	leases   *walreceiver.Leases              // read leases that this node has given
	promised atomic.Uint64                    // nothing before this epoch is followed
	reigned  atomic.Uint64                    // the last epoch in which this process was the primary
	seals    chan sealRequest
	fetches  chan fetchRequest
	orders   *orders       // of sessions, to change the primary
	wanted   *fetchRequest // by the role that has just ended; owned by the goroutine of the roles
	sealed   int           // how often this node has answered; as wanted
	hints    chan struct{} // make the coordinator look
	fatal    chan error    // a failure that the process must not survive

	scrubbing  scrubbing     // of the log's closed segments
	latencies  latencies     // of commits and flushes
	neighbours neighbours    // the members, as they answered
	diskFree   atomic.Uint64 // bytes on the data directory's disk that the node may use; see watchSpace
	diskSize   atomic.Uint64 // 0: not known
	announced  string        // what announceReady said last
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Machine = cfg.Machine.complete()
	settings, err := newSettings(cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:      cfg,
		log:      cfg.Logger.With("node", cfg.Name),
		started:  time.Now(),
		runID:    uint64(startup.RandomID()),
		settings: settings,
		present:  newPresent(),
		leases:   walreceiver.NewLeases(),
		seals:    make(chan sealRequest),
		fetches:  make(chan fetchRequest),
		orders:   newOrders(),
		hints:    make(chan struct{}, 1),
		fatal:    make(chan error, 1),

		latencies: newLatencies(),
		scrubbing: scrubbing{suspects: make(chan wal.LSN, 1)},
	}
	if cfg.AllowFaults {
		n.allowFaults()
	}
	n.id.Store(&startup.Identity{})
	n.configured.used = n.started
	n.catalog = n.newCatalog()
	return n, nil
}

// identity is who this node is.
func (n *Node) identity() startup.Identity { return *n.id.Load() }

// Run is the node's life: it returns when ctx has ended and everything is shut down cleanly, or when
// the node cannot go on. After some failures, a failed fsync above all, the process must end at once
// and recover at its next start: then the error says so with IsFatal and nothing has been closed.
func (n *Node) Run(ctx context.Context) error {
	lock, err := n.cfg.Machine.Lock(n.cfg.DataDir, n.cfg.Listen)
	if err != nil {
		return err
	}
	err = n.runLocked(ctx)
	if IsFatal(err) {
		return err // the lock goes with the process
	}
	return errors.Join(err, lock.Close())
}

func (n *Node) runLocked(ctx context.Context) error {
	n.dir = startup.DataDir{FS: n.cfg.Machine.FS, Path: n.cfg.DataDir}
	n.recallSettings() // before anything is made by them
	if err := n.listen(); err != nil {
		return err
	}
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(serveCtx, n.listener) }()
	stopHTTP := n.serveHTTP(ctx)

	err := n.live(ctx)
	if IsFatal(err) {
		return err
	}
	stopServing()
	if serveErr := <-served; err == nil {
		err = serveErr
	}
	stopHTTP()
	if n.faults != nil {
		n.faults.Close()
	}
	return err
}

// listen opens the ports. From here on clients are answered, if only that the system is starting up.
func (n *Node) listen() (err error) {
	host, port := n.cfg.advertised()
	if n.listener, n.address, err = n.open(n.cfg.Listen, "--listen", host, port); err != nil {
		return err
	}
	if n.raftListener, n.raftAddress, err = n.open(n.cfg.RaftListen, "--raft-listen", host, ""); err != nil {
		return errors.Join(err, n.listener.Close())
	}
	if err := n.openHTTP(); err != nil {
		return errors.Join(err, n.listener.Close(), n.raftListener.Close())
	}
	n.server = n.newServer()
	return nil
}

// open opens one port. It returns the address under which others reach it: that of the listener, or the
// host and the port given.
func (n *Node) open(listen, flag, host, port string) (net.Listener, string, error) {
	l, err := n.cfg.Machine.Listen("tcp", listen)
	if err != nil {
		return nil, "", fmt.Errorf("%w: is another node running there? choose another port with %s", err, flag)
	}
	ownHost, ownPort, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, "", errors.Join(err, l.Close())
	}
	return l, net.JoinHostPort(cmp.Or(host, ownHost), cmp.Or(port, ownPort)), nil
}

// live finds out who this node is, takes its place in the cluster, and then is what the cluster wants
// of it until ctx ends.
func (n *Node) live(ctx context.Context) error {
	n.peers = n.newPeers()
	ready, err := n.identify()
	if err != nil {
		return errors.Join(err, n.raftListener.Close())
	}
	n.ready.Store(ready)
	if err := n.enterCluster(ctx); err != nil {
		return err
	}
	roles, stop := n.untilHandedOver(ctx)
	err = n.serveData(roles)
	if IsFatal(err) {
		return err
	}
	stop()
	n.orders.close()
	return errors.Join(err, n.leaveCluster(ctx))
}

// serveData serves from this node's data, which it takes from another node if it has none. A standby
// that is too far behind to follow takes it from there once more, and goes on with that.
func (n *Node) serveData(ctx context.Context) error {
	if !n.ready.Load() {
		if err := n.unlessFailed(ctx, n.copyCluster); err != nil {
			return stopped(ctx, err)
		}
		n.ready.Store(true)
	}
	for {
		err := n.serveMember(ctx)
		r, complete := errors.AsType[*replacement](err)
		if !complete || IsFatal(err) {
			return err
		}
		if err := n.replaceData(r); err != nil {
			return err
		}
	}
}

// unlessFailed does something that may take as long as it likes. If a part of the node fails meanwhile, that is the
// error, and nobody waits for the rest: the process ends.
func (n *Node) unlessFailed(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-n.fatal:
		return err
	}
}

// serveMember is the node's life with its data as it is.
func (n *Node) serveMember(ctx context.Context) error {
	if err := n.openStore(); err != nil {
		return err
	}
	tasks := []*task{n.start(n.takePart), n.start(n.rememberPeers), n.start(n.rememberSettings), n.start(n.awaitRemoval)}
	err := n.serveRoles(ctx)
	if IsFatal(err) {
		return err
	}
	reason := errShuttingDown()
	if _, complete := errors.AsType[*replacement](err); complete {
		reason = errRebuilding()
	}
	for _, t := range tasks {
		err = errors.Join(err, t.stop())
	}
	if IsFatal(err) {
		return err
	}
	return errors.Join(err, n.closeStore(reason))
}

// closeStore ends the sessions that the last role has left, and closes the store: they may still read it,
// and hold files of it open. No role is under way, so nobody begins to. What is left open must be neither
// discarded nor opened again: any failure ends the process.
func (n *Node) closeStore(reason *pgwire.Error) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := n.server.TerminateSessions(ctx, reason); err != nil {
		return asFatal(fmt.Errorf("end the sessions before the store is closed: %w", err))
	}
	return asFatal(n.store.Close())
}

func (n *Node) openStore() error {
	store, err := kv.OpenStore(n.dir.FS, n.dir.Store(), kv.StoreOptions{
		Positions: n.cfg.Witness,
		Logger:    n.log.With("component", "store"),
		Fatal:     func(err error) { n.fail(&FatalError{Err: err}) },
	})
	if err != nil {
		return err
	}
	n.store = store
	return nil
}

// stopped turns the error of a context that was ended on purpose into none.
func stopped(ctx context.Context, err error) error {
	if startup.IsStopped(ctx, err) {
		return nil
	}
	return err
}

// explainRecovery adds what to do.
func explainRecovery(err error, dir string) error {
	if _, ok := errors.AsType[*wal.CorruptError](err); ok {
		return fmt.Errorf("%w. Nothing has been cut. If another node holds the data, move %s away and join again to take a new copy; look at the damage with longship waldump", err, dir)
	}
	if errors.Is(err, startup.ErrLogBehind) {
		return fmt.Errorf("%w. WAL has been removed or damaged by hand: put it back, or move %s away and join again", err, dir)
	}
	if _, ok := errors.AsType[*wal.MissingError](err); ok {
		return fmt.Errorf("%w. Put the missing file back from an archive or another node, or move %s away and join again", err, dir)
	}
	return err
}

// A RefusedError says that the cluster does not want this node as it is.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return "the cluster refuses this node: " + e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// A FatalError is a failure after which the process must end without touching its files again.
type FatalError struct{ Err error }

func (e *FatalError) Error() string {
	return fmt.Sprintf("%v; the process ends and recovers at its next start", e.Err)
}
func (e *FatalError) Unwrap() error { return e.Err }

// IsFatal reports whether err holds a FatalError, a RefusedError or a failure of WAL I/O: the process
// ends as it is.
func IsFatal(err error) bool {
	_, fatal := errors.AsType[*FatalError](err)
	_, refused := errors.AsType[*RefusedError](err)
	return fatal || refused || wal.IsFatal(err)
}

// asFatal makes err one after which nothing is closed any more.
func asFatal(err error) error {
	if err == nil || IsFatal(err) {
		return err
	}
	return &FatalError{Err: err}
}

// failed reports what a part of the node has failed with since the role ended.
func (n *Node) failed() error {
	select {
	case err := <-n.fatal:
		return err
	default:
		return nil
	}
}

// fail ends the process with err: others still use what would have to be closed.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- asFatal(err):
	default:
		n.log.Error("failed again while ending", "err", err)
	}
}

// Connect implements pgwire.Handler.
func (n *Node) Connect(ctx context.Context, c *pgwire.Conn) (pgwire.Session, error) {
	if _, err := n.present.admit(ctx); err != nil {
		return nil, err
	}
	if n.cfg.Witness && c.Database != AdminDatabase {
		return nil, n.errWitness()
	}
	return newClient(c, &session{node: n, conn: c, pid: c.PID, admin: c.Database == AdminDatabase})
}

// ConnectReplication implements pgwire.Handler.
func (n *Node) ConnectReplication(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	if c.Native > 0 {
		return n.connectMember(c)
	}
	for {
		r, err := n.present.admit(ctx)
		if err != nil {
			return nil, err
		}
		var session pgwire.Replication
		if n.present.enter(r, func() { session, err = r.sender.Connect(ctx, c) }) {
			return session, err
		}
	}
}

func errStartingUp() error {
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the database system is starting up").Fatal()
}
