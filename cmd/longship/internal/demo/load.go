package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// A load is a group of writers, one connection each.
type load struct {
	enough  context.CancelFunc // no new commits
	abandon context.CancelFunc // do not wait for those under way either
	writers sync.WaitGroup
}

func startLoad(cfg Config, ledger *Ledger) *load {
	abandoned, abandon := context.WithCancel(context.Background())
	ctx, enough := context.WithCancel(abandoned)
	l := &load{enough: enough, abandon: abandon}
	count := min(max(cfg.Load/25, 4), 64, max(cfg.Load, 1))
	interval := time.Second * time.Duration(count) / time.Duration(cfg.Load)
	for i := range count {
		w := &writer{
			id:        i,
			conninfo:  cfg.conninfo(),
			interval:  interval,
			offset:    interval * time.Duration(i) / time.Duration(count), // or all would commit at once
			ledger:    ledger,
			abandoned: abandoned,
			keys:      make([]string, keysPerWriter),
		}
		l.writers.Go(func() { w.run(ctx) })
	}
	return l
}

// stop ends the load: commits under way get some time to be answered.
func (l *load) stop(hurry context.Context) {
	l.enough()
	defer l.writers.Wait()
	defer l.abandon()
	done := make(chan struct{})
	go func() {
		l.writers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-hurry.Done():
	case <-time.After(lastCommits):
	}
}

// conninfo finds the primary among the nodes. What the environment says of other servers is left out
// of it.
func (cfg *Config) conninfo() string {
	var hosts, ports []string
	for i := range cfg.Nodes {
		hosts = append(hosts, host)
		ports = append(ports, strconv.Itoa(cfg.Port+i))
	}
	return fmt.Sprintf("host=%s port=%s %s target_session_attrs=read-write", strings.Join(hosts, ","), strings.Join(ports, ","), credentials)
}

const credentials = "user=longship password='' dbname=longship sslmode=disable connect_timeout=5 application_name=demo"

// A writer commits to keys of its own, one after the other, at a steady pace.
type writer struct {
	id        int
	conninfo  string
	interval  time.Duration
	offset    time.Duration // of the first commit
	ledger    *Ledger
	abandoned context.Context

	keys    []string // "": to be named before its next use
	retired int      // keys whose fate is unknown
	value   int64
}

func (w *writer) run(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { w.close(conn) }()
	next := time.Now().Add(w.offset - w.interval)
	for {
		// After a pause nothing is made up for: a load that comes in bursts would not be steady.
		next = later(next.Add(w.interval), time.Now())
		if !sleep(ctx, time.Until(next)) {
			return
		}
		if conn != nil && !usable(conn) {
			w.close(conn)
			conn = nil
		}
		if conn == nil {
			c, err := pgx.Connect(ctx, w.conninfo)
			if err != nil {
				sleep(ctx, retryPause)
				continue
			}
			conn = c
		}
		w.commit(conn)
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

// commit writes the next value to the next key and notes what became of it.
func (w *writer) commit(conn *pgx.Conn) {
	key, value := w.next()
	begin := time.Now()
	_, err := conn.Exec(w.abandoned, upsert, key, strconv.FormatInt(value, 10))
	switch {
	case err == nil:
		w.ledger.Acknowledged(key, value, time.Since(begin))
	case certainlyNot(err):
		w.ledger.Refused()
	default:
		w.ledger.Unknown(key, value)
		w.retire(key)
	}
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

// certainlyNot reports whether err proves that nothing was committed. Whatever it does not know
// counts as unknown: that costs a key, and no certainty.
func certainlyNot(err error) bool {
	if pgconn.SafeToRetry(err) {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(pgErr.Code) != 5 {
		return false
	}
	switch pgErr.Code[:2] {
	case "0A", "22", "23", "25", "26", "42", "53", "54", "55": // refused before anything was written
		return true
	case "40":
		return pgErr.Code != "40003" // statement_completion_unknown
	}
	return pgErr.Code == "57P03" // cannot_connect_now
}

func (w *writer) close(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx) // whether the server hears of it does not matter
}
