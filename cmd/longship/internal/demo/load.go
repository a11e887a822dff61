package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/drill"
	"github.com/longship-db/longship/internal/history"
)

// Keys of the load lie in [keyLow, keyHigh).
const (
	keyLow  = "demo/"
	keyHigh = "demo0" // '0' comes after '/'
)

const upsert = "INSERT INTO kv (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"

const (
	keysPerWriter = 64
	retryPause    = 100 * time.Millisecond

	// lastCommits is how long commits under way at the end may still take.
	lastCommits = 10 * time.Second
)

// A load is a group of writers, one connection each, which follow the primary.
type load struct {
	ledger *Ledger
	reigns *Reigns
	began  func(Reign) // called at the first acknowledgement of each reign

	enough  context.CancelFunc // no new commits
	abandon context.CancelFunc // do not wait for those under way either
	ctx     context.Context    // ends with enough
	all     []*writer
	running sync.WaitGroup
	newest  atomic.Uint64 // epoch, of those that nodes say have begun
	trouble atomic.Value  // string: why a writer last failed to find the primary
}

// newLoad returns a load that start begins and stop ends.
func newLoad(cfg Config, ledger *Ledger, reigns *Reigns, began func(Reign)) *load {
	abandoned, abandon := context.WithCancel(context.Background())
	ctx, enough := context.WithCancel(abandoned)
	l := &load{ledger: ledger, reigns: reigns, began: began, enough: enough, abandon: abandon, ctx: ctx}
	count := min(max(cfg.Load/25, 4), 64, max(cfg.Load, 1))
	interval := time.Second * time.Duration(count) / time.Duration(cfg.Load)
	for i := range count {
		l.all = append(l.all, &writer{
			load:      l,
			id:        i,
			conninfo:  cfg.conninfo(),
			interval:  interval,
			offset:    interval * time.Duration(i) / time.Duration(count), // or all would commit at once
			abandoned: abandoned,
			keys:      make([]string, keysPerWriter),
		})
	}
	return l
}

func (l *load) start() {
	for _, w := range l.all {
		l.running.Go(func() { w.run(l.ctx) })
	}
}

// follow ends the sessions of earlier epochs, now that a later one has begun. Most end by themselves;
// that of a primary which is frozen, or cut off, would keep its writer waiting.
func (l *load) follow(epoch uint64) {
	for {
		newest := l.newest.Load()
		if epoch <= newest {
			return
		}
		if l.newest.CompareAndSwap(newest, epoch) {
			break
		}
	}
	for _, w := range l.all {
		w.leave(epoch)
	}
}

// stop ends the load: commits under way get some time to be answered.
func (l *load) stop(hurry context.Context) {
	l.enough()
	defer l.running.Wait()
	defer l.abandon()
	done := make(chan struct{})
	go func() {
		l.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-hurry.Done():
	case <-time.After(lastCommits):
	}
}

// hosts is the part of a connection string that names all nodes.
func (cfg *Config) hosts() string {
	var hosts, ports []string
	for i := range cfg.Nodes {
		hosts = append(hosts, host)
		ports = append(ports, strconv.Itoa(cfg.Port+i))
	}
	return fmt.Sprintf("host=%s port=%s target_session_attrs=read-write", strings.Join(hosts, ","), strings.Join(ports, ","))
}

// conninfo finds the primary among the nodes. What the environment says of other servers is left out
// of it.
func (cfg *Config) conninfo() string { return cfg.hosts() + " " + credentials }

// The timeout, in seconds, is for each node: one that is frozen must not keep us from the next.
const credentials = "user=longship password='' dbname=longship sslmode=disable connect_timeout=1 application_name=demo"

// A writer commits to keys of its own, one after the other, at a steady pace.
type writer struct {
	load      *load
	id        int
	conninfo  string
	interval  time.Duration
	offset    time.Duration // of the first commit
	abandoned context.Context
	session   atomic.Pointer[session] // nil: none

	keys    []string // "": to be named before its next use
	retired int      // keys whose fate is unknown
	value   int64
}

// A session is a connection to the primary of one epoch.
type session struct {
	conn  *pgx.Conn
	node  string
	epoch uint64
	ctx   context.Context // of its commits
	end   context.CancelFunc
}

func (w *writer) run(ctx context.Context) {
	defer w.close()
	next := time.Now().Add(w.offset - w.interval)
	for {
		// After a pause nothing is made up for: a load that comes in bursts would not be steady.
		next = later(next.Add(w.interval), time.Now())
		if !sleep(ctx, time.Until(next)) {
			return
		}
		s := w.session.Load()
		if s != nil && (s.ctx.Err() != nil || !usable(s.conn)) {
			w.close()
			s = nil
		}
		if s == nil {
			var err error
			if s, err = w.open(ctx); err != nil {
				w.load.trouble.Store(strings.Join(strings.Fields(err.Error()), " "))
				// Not all at the same time: the first to get through ends the gap.
				sleep(ctx, retryPause/2+rand.N(retryPause))
				continue
			}
		}
		if !w.commit(s) {
			w.close()
		}
	}
}

// openTimeout bounds the search for a primary that answers.
const openTimeout = 5 * time.Second

var errNoPrimary = errors.New("the node is not the primary")

// open connects to the primary and asks of which epoch it is the primary.
func (w *writer) open(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.conninfo)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn}
	s.ctx, s.end = context.WithCancel(w.abandoned)
	var primary *string
	err = conn.QueryRow(ctx, `SELECT node, "primary", epoch FROM longship_cluster`).Scan(&s.node, &primary, &s.epoch)
	w.session.Store(s)
	if err == nil && (primary == nil || *primary != s.node || s.epoch < w.load.newest.Load()) {
		err = errNoPrimary
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return s, nil
}

// leave ends the session if it is of an epoch before the given one.
func (w *writer) leave(epoch uint64) {
	if s := w.session.Load(); s != nil && s.epoch < epoch {
		s.end()
	}
}

// usable reports whether the server is still there, as far as that can be known without asking. What
// is sent to one that is not would count as unknown.
func usable(conn *pgx.Conn) bool {
	if conn.IsClosed() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := conn.PgConn().ReceiveMessage(ctx)
	return err == nil || pgconn.Timeout(err)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sleep waits, and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// commit writes the next value to the next key and notes what became of it. After a failure it returns
// false: another connection, perhaps to another node, is a better place for the next one.
func (w *writer) commit(s *session) bool {
	key, value := w.next()
	begin := time.Now()
	_, err := s.conn.Exec(s.ctx, upsert, key, strconv.FormatInt(value, 10))
	switch drill.OutcomeOf(err) {
	case history.Committed:
		now := time.Now()
		w.load.ledger.Acknowledged(key, value, now.Sub(begin))
		if reign, isNew := w.load.reigns.Acknowledged(s.node, s.epoch, now); isNew {
			w.load.began(reign)
		}
	case history.Aborted:
		w.load.ledger.Refused()
	default:
		w.load.ledger.Unknown(key, value)
		w.retire(key)
	}
	return err == nil
}

// next goes around the keys.
func (w *writer) next() (key string, value int64) {
	w.value++
	i := int(w.value) % len(w.keys)
	if w.keys[i] == "" {
		w.keys[i] = fmt.Sprintf("%s%02d/%d", keyLow, w.id, i+w.retired*len(w.keys))
	}
	return w.keys[i], w.value
}

// retire puts a key that was never used in the place of key.
func (w *writer) retire(key string) {
	w.keys[slices.Index(w.keys, key)] = ""
	w.retired++
}

// close ends the session, if there is one.
func (w *writer) close() {
	s := w.session.Swap(nil)
	if s == nil {
		return
	}
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.conn.Close(ctx) // whether the server hears of it does not matter
}
