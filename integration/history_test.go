package integration

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/drill"
	"github.com/longship-db/longship/internal/history"
)

// A journal is what clients did and were told: operations on registers, for a proof that all of it
// can have happened in one order, and rows that are only ever inserted, for a proof that none was lost.
//
// Keys have the era in them in which they were used. An era ends between two faults; what is unknown in
// one leaves the search for an order in the next as it was.
type journal struct {
	t     *testing.T
	name  string // of its keys
	began time.Time

	mu        sync.Mutex
	era       int
	registers []porcupine.Operation
	rows      map[string]*inserted
	acks      []time.Duration // since began, of writes, in order
	told      map[string]int  // how often clients were told what, by SQLSTATE
	changed   chan struct{}   // closed at the next acknowledgement
}

// inserted is what is known of a row that somebody inserted.
type inserted struct {
	outcome history.Outcome
	seen    string // its LSN, once somebody has read it
}

// toldOf is what a client makes of an error: its SQLSTATE, or that the connection was lost.
func toldOf(err error) string {
	switch state := sqlState(err); {
	case err == nil:
		return "done"
	case state != "":
		return state
	case pgconn.Timeout(err):
		return "timeout"
	default:
		return "lost"
	}
}

const registersPerEra = 5

func newJournal(t *testing.T, name string) *journal {
	return &journal{
		t: t, name: name, began: time.Now(),
		rows: map[string]*inserted{}, told: map[string]int{}, changed: make(chan struct{}),
	}
}

// now is the time since the journal was begun.
func (j *journal) now() time.Duration { return time.Since(j.began) }

// nextEra begins an era.
func (j *journal) nextEra() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.era++
}

// prefix begins all keys of an era that a kind of operation uses, and none else.
func (j *journal) prefix(kind string, era int) string {
	return fmt.Sprintf("%s/%s/%05d/", j.name, kind, era)
}

func (j *journal) eraNow() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.era
}

// acknowledged notes an acknowledged write. The caller holds j.mu.
func (j *journal) acknowledged() {
	j.acks = append(j.acks, j.now())
	close(j.changed)
	j.changed = make(chan struct{})
}

// await waits for n acknowledgements from now on.
func (j *journal) await(n int) {
	j.t.Helper()
	ctx, cancel := testContext(j.t)
	defer cancel()
	j.mu.Lock()
	want := len(j.acks) + n
	j.mu.Unlock()
	for {
		j.mu.Lock()
		count, changed := len(j.acks), j.changed
		j.mu.Unlock()
		if count >= want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			j.t.Fatalf("history %s: %d commits acknowledged, want %d; clients were told %v", j.name, count, want, j.told)
		}
	}
}

// gap is the longest time without an acknowledged write, of those that end after since.
func (j *journal) gap(since time.Duration) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	i, _ := slices.BinarySearch(j.acks, since)
	longest := time.Duration(0)
	for i = max(i, 1); i < len(j.acks); i++ {
		longest = max(longest, j.acks[i]-j.acks[i-1])
	}
	return longest
}

// summary is for the log of the test.
func (j *journal) summary() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var told []string
	for _, what := range slices.Sorted(maps.Keys(j.told)) {
		told = append(told, fmt.Sprintf("%s %d", what, j.told[what]))
	}
	return fmt.Sprintf("%d writes acknowledged, %d operations on registers, %d rows; told: %s",
		len(j.acks), len(j.registers), len(j.rows), strings.Join(told, ", "))
}

// checkOrder verifies that everything that was done and read can have happened in one order, each
// operation at some time between its call and its return. The clients must have ended.
func (j *journal) checkOrder() {
	j.t.Helper()
	began := time.Now()
	found, keys := history.CheckRegisters(j.registers, 2*time.Minute)
	for _, anomaly := range found {
		j.t.Error(anomaly)
	}
	j.t.Logf("history %s: %d registers checked in %v", j.name, keys, time.Since(began).Round(time.Millisecond))
}

// checkRows verifies that a node has every row that was acknowledged or that anybody has read, none
// that was refused, and none that nobody wrote.
func (j *journal) checkRows(n *node) {
	j.t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	rows := n.rows(j.name+"/row/", j.name+"/row0")
	wrong := map[string]int{}
	complain := func(what, key string) {
		if wrong[what]++; wrong[what] <= 3 {
			j.t.Errorf("%s: %s %s", n.name, key, what)
		}
	}
	for key, r := range j.rows {
		at, ok := rows[key]
		switch {
		case !ok && r.outcome == history.Committed:
			complain("was acknowledged and is lost", key)
		case !ok && r.seen != "":
			complain("was read and is gone", key)
		case ok && r.outcome == history.Aborted:
			complain("was refused and is there", key)
		case ok && r.seen != "" && r.seen != at.lsn:
			complain("was read at "+r.seen+" and is now another", key)
		case ok && at.value != valueOf(key):
			complain("has another value", key)
		}
		delete(rows, key)
	}
	for key := range rows {
		complain("is there and nobody wrote it", key)
	}
	for what, count := range wrong {
		j.t.Errorf("%s: %d of %d rows: %s", n.name, count, len(j.rows), what)
	}
}

// A clientele is clients of a cluster, which find its primary by themselves.
type clientele struct {
	*journal
	cluster *cluster

	ctx    context.Context // ends with stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
	count  int // of clients
}

// How long clients wait: for a node that does not answer, and until they look for the primary again.
const (
	connectTimeout = 300 * time.Millisecond
	reconnectPause = 10 * time.Millisecond
	hasty          = time.Second      // for the outcome of a statement, before they go elsewhere
	loyal          = 20 * time.Second // the same
)

// startClients begins a history with clients that make for a moderate load, and one more for each node
// that keeps the table, which reads what that node shows.
func (c *cluster) startClients(name string, clients int) *clientele {
	k := &clientele{journal: newJournal(c.t, name), cluster: c}
	k.ctx, k.cancel = context.WithCancel(c.t.Context())
	c.t.Cleanup(k.stop)
	k.add(clients, hasty)
	for _, n := range c.nodes {
		if !n.isWitness() {
			k.wg.Go(func() { k.observe(n) })
		}
	}
	return k
}

// add adds clients that wait so long for the outcome of a statement.
func (k *clientele) add(clients int, patience time.Duration) {
	for range clients {
		w := k.worker(patience)
		k.wg.Go(w.run)
	}
}

func (k *clientele) worker(patience time.Duration) *worker {
	k.count++
	return &worker{
		clientele: k, id: k.count, patience: patience,
		random: rand.New(rand.NewPCG(uint64(k.count), 77)), known: map[string]string{},
	}
}

// stop ends the clients when the statements under way have ended.
func (k *clientele) stop() {
	k.cancel()
	k.wg.Wait()
}

// connConfig finds the primary among the nodes, of which the first-th is tried first.
func (c *cluster) connConfig(first int, attrs string) (*pgx.ConnConfig, error) {
	var hosts, ports []string
	for i := range c.nodes {
		host, port, _ := strings.Cut(c.nodes[(first+i)%len(c.nodes)].address(), ":")
		hosts, ports = append(hosts, host), append(ports, port)
	}
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=test dbname=test sslmode=disable target_session_attrs=%s",
		strings.Join(hosts, ","), strings.Join(ports, ","), attrs))
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // one message to the server for each statement
	return cfg, nil
}

// A worker is one client.
type worker struct {
	*clientele
	id       int
	patience time.Duration
	random   *rand.Rand
	known    map[string]string // the value that it saw last in each register of the era
	era      int               // of known
	next     int               // number of the next value, or row
}

// thinkTime is the pause after a statement.
const thinkTime = 3 * time.Millisecond

func (w *worker) run() {
	cfg, err := w.cluster.connConfig(w.id, "read-write")
	if err != nil {
		w.t.Error(err)
		return
	}
	for w.ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(w.ctx, cfg)
		if err != nil {
			pause(w.ctx, reconnectPause+rand.N(reconnectPause))
			continue
		}
		for err == nil && w.ctx.Err() == nil {
			err = w.step(conn)
			pause(w.ctx, thinkTime)
		}
		w.note(err)
		hangUp(conn)
	}
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	conn.Close(ctx)
}

// note counts what clients were told at the end of a session.
func (j *journal) note(err error) {
	if err == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told[toldOf(err)]++
}

// step does one thing. It is not interrupted, except by its timeout.
func (w *worker) step(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.patience)
	defer cancel()
	era := w.eraNow()
	if era != w.era {
		w.era = era
		clear(w.known)
	}
	w.next++
	key := w.prefix("register", era) + strconv.Itoa(w.random.IntN(registersPerEra))
	value := fmt.Sprintf("%d-%d", w.id, w.next)
	var err error
	switch old := w.known[key]; w.random.IntN(4) {
	case 0:
		err = w.insert(ctx, conn, fmt.Sprintf("%s%03d/%07d", w.prefix("row", era), w.id, w.next))
	case 1:
		err = w.operate(ctx, conn, history.RegisterInput{Op: "read", Key: key})
	case 2:
		if old != "" {
			err = w.operate(ctx, conn, history.RegisterInput{Op: "cas", Key: key, Old: old, New: value})
			break
		}
		fallthrough
	default:
		err = w.operate(ctx, conn, history.RegisterInput{Op: "write", Key: key, New: value})
	}
	if sqlState(err) == "40001" {
		return nil // the session goes on
	}
	return err
}

// insert adds a row.
func (w *worker) insert(ctx context.Context, conn *pgx.Conn, key string) error {
	r := &inserted{outcome: history.Unknown}
	w.mu.Lock()
	w.rows[key] = r
	w.mu.Unlock()
	_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, valueOf(key))
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.outcome = drill.OutcomeOf(err); r.outcome == history.Committed {
		w.acknowledged()
	}
	return err
}

// operate does an operation on a register and notes it.
func (w *worker) operate(ctx context.Context, conn *pgx.Conn, in history.RegisterInput) error {
	r := drill.CallRegister(ctx, conn, w.id, in, w.known, w.now)
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Counts() {
		w.registers = append(w.registers, r.Operation)
	}
	if r.Became == history.Committed && r.Wrote {
		w.acknowledged()
	}
	return r.Err
}

// observe reads what a node shows, whatever its role, and notes it: none of it may ever be gone.
func (k *clientele) observe(n *node) {
	for k.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(k.ctx, connectTimeout)
		conn, err := pgx.Connect(ctx, n.dsn("default_query_exec_mode=exec"))
		cancel()
		if err == nil {
			for err == nil && k.ctx.Err() == nil {
				err = k.look(conn)
				pause(k.ctx, 50*time.Millisecond)
			}
			hangUp(conn)
		}
		pause(k.ctx, 2*reconnectPause)
	}
}

// look reads a few rows of one client, the newest among them.
func (k *clientele) look(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(k.ctx, hasty)
	defer cancel()
	prefix := k.prefix("row", k.eraNow())
	rows, err := conn.Query(ctx, "SELECT key, lsn::text FROM kv WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT 100",
		prefix, fmt.Sprintf("%s%03d", prefix, 1+rand.IntN(16)))
	if err != nil {
		return err
	}
	seen := map[string]string{}
	var key, lsn string
	_, err = pgx.ForEachRow(rows, []any{&key, &lsn}, func() error {
		seen[key] = lsn
		return nil
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, lsn := range seen {
		r := k.rows[key]
		switch {
		case r == nil:
			k.t.Errorf("%s is shown and nobody wrote it", key)
		case r.seen != "" && r.seen != lsn:
			k.t.Errorf("%s was at %s and is at %s", key, r.seen, lsn)
		default:
			r.seen = lsn
		}
	}
	return nil
}

// finish ends the clients, waits until all nodes that run have everything, and verifies all that a
// history can prove, and that the nodes are equal: tables, and logs to their end.
func (k *clientele) finish() {
	k.t.Helper()
	k.stop()
	c := k.cluster
	end := c.awaitCaughtUp()
	primary := c.primary()
	for _, n := range c.nodes {
		if !n.isWitness() {
			k.checkRows(n)
		}
	}
	for _, s := range c.standbys() {
		if !s.isWitness() {
			checkSameTable(k.t, primary, s)
		}
		checkSameWAL(k.t, primary, s, end)
	}
	k.checkOrder()
	k.t.Log(k.summary())
}

// percentiles of durations, for a table.
func percentiles(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(p float64) time.Duration {
		return sorted[int(p*float64(len(sorted)-1)+0.5)].Round(time.Millisecond)
	}
	return fmt.Sprintf("n=%-4d p50=%-7v p95=%-7v p99=%-7v max=%v", len(sorted), at(0.5), at(0.95), at(0.99), sorted[len(sorted)-1].Round(time.Millisecond))
}
