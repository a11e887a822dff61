package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A Node is one running process of a cluster.
type Node struct {
	cfg      Config
	log      *slog.Logger
	started  time.Time
	settings *sql.Settings

	// Made by Run, in this order.
	dir      startup.DataDir
	listener net.Listener
	address  string // under which clients and members reach this node
	server   *pgwire.Server
	id       startup.Identity
	store    *kv.Store

	reign atomic.Pointer[reign] // what clients are served by; nil while there is no role
	fatal chan error            // a failure that the process must not survive
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	settings, err := newSettings(cfg)
	if err != nil {
		return nil, err
	}
	return &Node{
		cfg:      cfg,
		log:      cfg.Logger.With("node", cfg.Name),
		started:  time.Now(),
		settings: settings,
		fatal:    make(chan error, 1),
	}, nil
}

// Run is the node's life: it returns when ctx has ended and everything is shut down cleanly, or when
// the node cannot go on. After some failures, a failed fsync above all, the process must end at once
// and recover at its next start: then the error says so with IsFatal and nothing has been closed.
func (n *Node) Run(ctx context.Context) error {
	lock, err := lockDataDir(n.cfg.DataDir, n.cfg.Listen)
	if err != nil {
		return err
	}
	err = n.runLocked(ctx)
	if IsFatal(err) {
		return err // the lock goes with the process
	}
	return errors.Join(err, lock.release())
}

func (n *Node) runLocked(ctx context.Context) error {
	n.dir = startup.DataDir{FS: vfs.Default, Path: n.cfg.DataDir}
	if err := n.listen(); err != nil {
		return err
	}
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(serveCtx, n.listener) }()

	err := n.live(ctx)
	if IsFatal(err) {
		return err
	}
	stopServing()
	if serveErr := <-served; err == nil {
		err = serveErr
	}
	return err
}

// listen opens the port. From here on clients are answered, if only that the system is starting up.
func (n *Node) listen() error {
	l, err := net.Listen("tcp", n.cfg.Listen)
	if err != nil {
		return fmt.Errorf("%w: is another node running there? choose another port with --listen", err)
	}
	n.listener = l
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if n.cfg.AdvertiseHost != "" {
		host = n.cfg.AdvertiseHost
	}
	n.address = net.JoinHostPort(host, port)
	n.server = pgwire.NewServer(pgwire.Config{
		Handler:               n,
		ServerVersion:         serverVersion,
		MaxConnections:        int(n.settings.Int("max_connections")),
		MaxWALSenders:         int(n.settings.Int("max_wal_senders")),
		AuthenticationTimeout: n.settings.Duration("authentication_timeout"),
		Logger:                n.log.With("component", "pgwire"),
	})
	return nil
}

// live opens the data directory, and then is what Roles says until ctx ends. A standby that is too
// far behind to follow begins anew.
func (n *Node) live(ctx context.Context) error {
	for {
		if err := n.openDataDir(ctx); err != nil {
			return stopped(ctx, err)
		}
		if err := n.openStore(); err != nil {
			return err
		}
		err := n.serveRoles(ctx)
		if IsFatal(err) {
			return err
		}
		err = errors.Join(err, n.store.Close())
		if !errors.Is(err, errRebuild) {
			return err
		}
		if err := n.dir.Discard(); err != nil {
			return err
		}
	}
}

func (n *Node) openStore() error {
	store, err := kv.OpenStore(n.dir.FS, n.dir.Store(), kv.StoreOptions{
		Logger: n.log.With("component", "store"),
		Fatal:  func(err error) { n.fail(&FatalError{Err: err}) },
	})
	if err != nil {
		return err
	}
	n.store = store
	return nil
}

// serveRoles is the node in one loop.
func (n *Node) serveRoles(ctx context.Context) error {
	roles := FixedRoles{FindPrimary: n.findPrimary}
	for ctx.Err() == nil {
		log, err := startup.Recover(n.dir, n.id, n.log.With("component", "startup"))
		if err != nil {
			return explainRecovery(err, n.dir.Path)
		}
		role, err := roles.Next(ctx, n.id, log)
		if err != nil {
			return stopped(ctx, err)
		}
		n.log.Info("role", "primary", role.Primary, "new_epoch", role.NewEpoch, "upstream", role.Upstream)
		if role.Primary {
			err = n.runPrimary(ctx, role, log)
		} else {
			err = n.runStandby(ctx, role, log)
		}
		if err != nil {
			return stopped(ctx, err)
		}
	}
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

// A FatalError is a failure after which the process must end without touching its files again.
type FatalError struct{ Err error }

func (e *FatalError) Error() string {
	return fmt.Sprintf("%v; the process ends and recovers at its next start", e.Err)
}
func (e *FatalError) Unwrap() error { return e.Err }

// IsFatal reports whether err holds a FatalError or a failure of WAL I/O.
func IsFatal(err error) bool {
	_, ok := errors.AsType[*FatalError](err)
	return ok || wal.IsFatal(err)
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
	r := n.reign.Load()
	if r == nil {
		return nil, errStartingUp()
	}
	return r.connect(c)
}

// ConnectReplication implements pgwire.Handler.
func (n *Node) ConnectReplication(ctx context.Context, c *pgwire.Conn) (pgwire.Replication, error) {
	r := n.reign.Load()
	if r == nil {
		return nil, errStartingUp()
	}
	return r.connectReplication(ctx, c)
}

func errStartingUp() error {
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the database system is starting up").Fatal()
}

// self is this node as a member.
func (n *Node) self() Member {
	return Member{Name: n.cfg.Name, NodeID: n.id.NodeID, Incarnation: n.id.Incarnation, Address: n.address}
}
