package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// A work is clients of a cluster and what they did, were told and saw.
//
// Keys have the era in them in which they were used. An era ends after each round; what is unknown in one
// leaves the search for an order in the next as it was.
type work struct {
	began  time.Time
	prefix string                      // of all keys, and none else
	hosts  func(first int) []string    // where the nodes are, the first-th first
	nodeAt func(address string) string // its name
	login  login
	gen    history.Generator // of transactions
	seed   uint64            // of what the clients choose
	txns   history.Recorder  // lists.go

	mu      sync.Mutex
	era     int
	ops     []porcupine.Operation // on registers: registers.go
	rows    map[string]*inserted  // by key: rows.go
	newest  map[int]int           // the number of each client's newest row
	looks   []look                // looks.go
	acks    []ack                 // of writes, in order
	counts  Commits
	token   wal.LSN       // a commit that somebody was told of
	changed chan struct{} // closed at the next acknowledgement
	trouble error         // what a client was told last that was no success
	looking int           // sessions of observers so far

	ctx     context.Context // ends with stop
	cancel  context.CancelFunc
	clients sync.WaitGroup
	count   int // of clients
}

// newWork returns work on a cluster, on keys with a prefix, which start begins and stop ends.
func newWork(c *Cluster, prefix string, seed uint64) *work {
	w := &work{
		began: time.Now(), prefix: prefix, hosts: c.addresses, nodeAt: c.nodeAt, login: c.login, seed: seed,
		gen:  history.Generator{Prefix: prefix, Keys: 4, MaxOps: 3, Rounds: 150},
		rows: map[string]*inserted{}, newest: map[int]int{}, changed: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// start adds clients. Of three one runs transactions, the others work on registers and rows.
func (w *work) start(clients int) {
	for range clients {
		c := w.client()
		if c.id%3 == 0 {
			w.clients.Go((&listClient{client: c, sessions: map[string]*pgx.Conn{}}).run)
		} else {
			w.clients.Go(c.run)
		}
	}
}

// stop ends the clients when the statements under way have ended.
func (w *work) stop() {
	w.cancel()
	w.clients.Wait()
}

// now is the time since the work began.
func (w *work) now() time.Duration { return time.Since(w.began) }

// nextEra begins an era.
func (w *work) nextEra() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.era++
}

// key begins all keys of an era that a kind of operation uses.
func (w *work) key(kind string, era int) string {
	return fmt.Sprintf("%s%s/%05d/", w.prefix, kind, era)
}

// keys is the range in which all keys are: the prefix ends with a slash, and '0' comes after that.
func (w *work) keys() (lo, hi string) { return w.prefix, w.prefix[:len(w.prefix)-1] + "0" }

// An ack is an acknowledgement.
type ack struct {
	at time.Duration // since the work began
	on string        // the node that sent it
	to int           // the client, if all it does is done on the primary; else 0
}

// acknowledgedLocked notes an acknowledged write. lsn is where it is said to be; 0: that was not said. The caller
// holds w.mu.
func (w *work) acknowledgedLocked(lsn wal.LSN, on string, to int) {
	w.counts.Acknowledged++
	w.acks = append(w.acks, ack{w.now(), on, to})
	w.token = max(w.token, lsn)
	close(w.changed)
	w.changed = make(chan struct{})
}

// endedLocked notes how a client's write on a node ended. The caller holds w.mu.
func (w *work) endedLocked(o history.Outcome, lsn wal.LSN, on string, to int) {
	switch o {
	case history.Committed:
		w.acknowledgedLocked(lsn, on, to)
	case history.Aborted:
		w.counts.Refused++
	default:
		w.counts.Unknown++
	}
}

// await waits for n acknowledgements from now on.
func (w *work) await(ctx context.Context, n int) error {
	w.mu.Lock()
	want := len(w.acks) + n
	w.mu.Unlock()
	for {
		w.mu.Lock()
		count, changed, trouble := len(w.acks), w.changed, w.trouble
		w.mu.Unlock()
		if count >= want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("commits do not flow: %d of %d acknowledged (%w); clients were told: %w", n-(want-count), n, context.Cause(ctx), trouble)
		}
	}
}

// gaps are the longest times without an acknowledgement that end after since: that of any write on any node,
// from the last one before it to the one that ended it, or until now, of no node, if none has; and that of one
// client that follows the primary.
func (w *work) gaps(since time.Duration) (before, after ack, client time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := map[int]time.Duration{}
	for i, a := range w.acks {
		if a.at >= since {
			if at, ok := last[a.to]; ok && a.to != 0 {
				client = max(client, a.at-at)
			}
			if i > 0 && a.at-w.acks[i-1].at > after.at-before.at {
				before, after = w.acks[i-1], a
			}
		}
		last[a.to] = a.at
	}
	now := ack{at: w.now()}
	if n := len(w.acks); n > 0 && now.at-w.acks[n-1].at > after.at-before.at {
		before, after = w.acks[n-1], now
	}
	delete(last, 0)
	for _, at := range last {
		client = max(client, now.at-max(at, since))
	}
	return before, after, client
}

// How long clients wait for the outcome of a statement until they look for the primary again, and between
// two attempts to find it; and the pause after a statement.
const (
	statementTimeout = time.Second
	reconnectPause   = 10 * time.Millisecond
	thinkTime        = 5 * time.Millisecond
)

// A client is one that follows the primary.
type client struct {
	*work
	id     int
	random *rand.Rand
	known  map[string]string // the value that it saw last in each register of the era
	mine   int               // the era of known
	value  int               // the number of its last value
	row    int               // and row
	on     string            // the node of its session
	probes bool              // it stays on that node, whatever its role
}

func (w *work) client() *client {
	w.count++
	return &client{work: w, id: w.count, random: rand.New(rand.NewPCG(w.seed, uint64(w.count))), known: map[string]string{}}
}

// run works until the work ends, in as many sessions as it takes.
func (c *client) run() {
	c.sessionsOf(func(conn *pgx.Conn) error { return c.step(conn) })
}

// sessionsOf opens sessions on the primary, one after the other, and calls step in each until it fails.
func (c *client) sessionsOf(step func(*pgx.Conn) error) {
	for first := c.id; c.ctx.Err() == nil; first++ {
		cfg, err := c.login.connConfig("read-write", c.hosts(first)...)
		if err != nil {
			c.note(err)
			return
		}
		cfg.RuntimeParams["longship.report_commit_lsn"] = "on"
		conn, err := pgx.ConnectConfig(c.ctx, cfg)
		if err != nil {
			c.note(err)
			sleep(c.ctx, reconnectPause+rand.N(reconnectPause))
			continue
		}
		c.on = c.nodeAt(conn.PgConn().Conn().RemoteAddr().String())
		for err == nil && c.ctx.Err() == nil {
			err = step(conn)
			sleep(c.ctx, thinkTime)
		}
		c.note(err)
		hangUp(conn)
	}
}

// note remembers what a client was told.
func (w *work) note(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = err
}

// step does one thing. It is not interrupted, except by its timeout.
func (c *client) step(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), statementTimeout)
	defer cancel()
	c.mu.Lock()
	era := c.era
	c.mu.Unlock()
	if era != c.mine {
		c.mine = era
		clear(c.known)
	}
	var err error
	if c.random.IntN(4) == 0 {
		err = c.insert(ctx, conn, era)
	} else {
		err = c.operate(ctx, conn, c.choose(era))
	}
	if sqlState(err) == "40001" {
		return nil // the session goes on
	}
	return err
}

// reported is the position of the commit that the session has been told of last.
func reported(conn *pgx.Conn) wal.LSN {
	lsn, err := wal.ParseLSN(conn.PgConn().ParameterStatus("longship.last_commit_lsn"))
	if err != nil {
		return 0
	}
	return lsn
}
