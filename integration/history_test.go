package integration

import (
	"context"
	"errors"
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
)

// A history is what clients did and were told: operations on registers, for a proof that all of it
// can have happened in one order, and rows that are only ever inserted, for a proof that none was lost.
//
// Keys have the era in them in which they were used. An era ends between two faults; what is unknown in
// one leaves the search for an order in the next as it was.
type history struct {
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
	outcome outcome
	seen    string // its LSN, once somebody has read it
}

// An outcome is what a client knows of what it asked for.
type outcome int

const (
	unknown outcome = iota // perhaps done, perhaps to be done yet
	done
	refused // and never to be done
)

// outcomeOf is what an error tells of the statement that it answers. 57P01 ends a session between two
// statements: what becomes of a commit under way is told with 08007.
func outcomeOf(err error) outcome {
	if err == nil {
		return done
	}
	switch sqlState(err) {
	case "57P01", "57P03", "25006", "40001", "23505", "53300":
		return refused
	}
	// pgx says of a closed connection that it is safe to retry, although it has sent the statement, if it
	// finds the connection closed only before it reads the answer.
	if pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed) {
		return refused
	}
	return unknown
}

// told is what a client makes of an error: its SQLSTATE, or that the connection was lost.
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

func newHistory(t *testing.T, name string) *history {
	return &history{
		t: t, name: name, began: time.Now(),
		rows: map[string]*inserted{}, told: map[string]int{}, changed: make(chan struct{}),
	}
}

// now is the time since the history began.
func (h *history) now() time.Duration { return time.Since(h.began) }

// nextEra begins an era.
func (h *history) nextEra() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.era++
}

// prefix begins all keys of an era that a kind of operation uses, and none else.
func (h *history) prefix(kind string, era int) string {
	return fmt.Sprintf("%s/%s/%05d/", h.name, kind, era)
}

func (h *history) eraNow() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.era
}

// acknowledged notes an acknowledged write. The caller holds h.mu.
func (h *history) acknowledged() {
	h.acks = append(h.acks, h.now())
	close(h.changed)
	h.changed = make(chan struct{})
}

// await waits for n acknowledgements from now on.
func (h *history) await(n int) {
	h.t.Helper()
	ctx, cancel := testContext(h.t)
	defer cancel()
	h.mu.Lock()
	want := len(h.acks) + n
	h.mu.Unlock()
	for {
		h.mu.Lock()
		count, changed := len(h.acks), h.changed
		h.mu.Unlock()
		if count >= want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			h.t.Fatalf("history %s: %d commits acknowledged, want %d; clients were told %v", h.name, count, want, h.told)
		}
	}
}

// gap is the longest time without an acknowledged write, of those that end after since.
func (h *history) gap(since time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearch(h.acks, since)
	longest := time.Duration(0)
	for i = max(i, 1); i < len(h.acks); i++ {
		longest = max(longest, h.acks[i]-h.acks[i-1])
	}
	return longest
}

// summary is for the log of the test.
func (h *history) summary() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var told []string
	for _, what := range slices.Sorted(maps.Keys(h.told)) {
		told = append(told, fmt.Sprintf("%s %d", what, h.told[what]))
	}
	return fmt.Sprintf("%d writes acknowledged, %d operations on registers, %d rows; told: %s",
		len(h.acks), len(h.registers), len(h.rows), strings.Join(told, ", "))
}

// A registerInput is an operation on one key. Values are never used twice; "" is no row.
type registerInput struct {
	op       string // read, write, or cas: write if the value is old
	key      string
	old, new string
}

// never is when an operation returns that nobody knows of whether it was done.
const never = int64(1 << 62)

// A registerOutput is what became of it. An operation that is unknown may be done at any time, or never.
type registerOutput struct {
	known   bool
	value   string // read
	changed bool   // cas: the value was old
}

// registerModel says what a register does; the state is its value.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(registerInput).key
			byKey[key] = append(byKey[key], o)
		}
		var parts [][]porcupine.Operation
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			parts = append(parts, byKey[key])
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(registerInput), output.(registerOutput)
		switch {
		case in.op == "read":
			return now == out.value, state
		case in.op == "write":
			return true, in.new
		case out.known && out.changed != (now == in.old):
			return false, state
		case now == in.old:
			return true, in.new
		}
		return true, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// checkOrder verifies that everything that was done and read can have happened in one order, each
// operation at some time between its call and its return. The clients must have ended.
func (h *history) checkOrder() {
	h.t.Helper()
	began := time.Now()
	parts := registerModel.Partition(h.registers)
	for _, part := range parts {
		result, info := porcupine.CheckOperationsVerbose(registerModel, part, 2*time.Minute)
		if result == porcupine.Ok {
			continue
		}
		key := part[0].Input.(registerInput).key
		h.t.Errorf("%s: %d operations are %s (Illegal: no order explains them)", key, len(part), result)
		h.explain(part, info)
	}
	h.t.Logf("history %s: %d registers checked in %v", h.name, len(parts), time.Since(began).Round(time.Millisecond))
}

// explain logs the operations around where the search for an order got stuck.
func (h *history) explain(part []porcupine.Operation, info porcupine.LinearizationInfo) {
	longest := 0
	for _, partial := range info.PartialLinearizationsOperations() {
		for _, p := range partial {
			longest = max(longest, len(p))
		}
	}
	ordered := slices.SortedFunc(slices.Values(part), func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	from := max(0, longest-12)
	for _, o := range ordered[from:min(len(ordered), longest+12)] {
		h.t.Logf("  client %d, %v to %v: %+v -> %+v", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
	}
}

// checkRows verifies that a node has every row that was acknowledged or that anybody has read, none
// that was refused, and none that nobody wrote.
func (h *history) checkRows(n *node) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	rows := n.rows(h.name+"/row/", h.name+"/row0")
	wrong := map[string]int{}
	complain := func(what, key string) {
		if wrong[what]++; wrong[what] <= 3 {
			h.t.Errorf("%s: %s %s", n.name, key, what)
		}
	}
	for key, r := range h.rows {
		at, ok := rows[key]
		switch {
		case !ok && r.outcome == done:
			complain("was acknowledged and is lost", key)
		case !ok && r.seen != "":
			complain("was read and is gone", key)
		case ok && r.outcome == refused:
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
		h.t.Errorf("%s: %d of %d rows: %s", n.name, count, len(h.rows), what)
	}
}

// A checker that finds nothing proves nothing: here are histories that cannot have been.
func TestRegisterModel(t *testing.T) {
	op := func(call, ret int64, in registerInput, out registerOutput) porcupine.Operation {
		in.key, out.known = "k", ret != never
		return porcupine.Operation{Call: call, Return: ret, Input: in, Output: out}
	}
	write := func(v string) registerInput { return registerInput{op: "write", new: v} }
	read, cas := registerInput{op: "read"}, registerInput{op: "cas", old: "a", new: "b"}
	first := op(0, 1, write("a"), registerOutput{})
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want bool
	}{
		"read what was written": {[]porcupine.Operation{first, op(2, 3, read, registerOutput{value: "a"})}, true},
		"lost":                  {[]porcupine.Operation{first, op(2, 3, read, registerOutput{})}, false},
		"stale":                 {[]porcupine.Operation{first, op(2, 3, write("b"), registerOutput{}), op(4, 5, read, registerOutput{value: "a"})}, false},
		"unknown and there":     {[]porcupine.Operation{first, op(2, never, write("b"), registerOutput{}), op(4, 5, read, registerOutput{value: "b"})}, true},
		"unknown and not there": {[]porcupine.Operation{first, op(2, never, write("b"), registerOutput{}), op(4, 5, read, registerOutput{value: "a"})}, true},
		"seen and gone": {[]porcupine.Operation{first, op(2, never, write("b"), registerOutput{}),
			op(4, 5, read, registerOutput{value: "b"}), op(6, 7, read, registerOutput{value: "a"})}, false},
		"both of two": {[]porcupine.Operation{first, op(2, 3, cas, registerOutput{changed: true}), op(4, 5, cas, registerOutput{changed: true})}, false},
		"neither":     {[]porcupine.Operation{first, op(2, 3, cas, registerOutput{})}, false},
	} {
		if got := porcupine.CheckOperations(registerModel, c.ops); got != c.want {
			t.Errorf("%s: linearizable %v, want %v", name, got, c.want)
		}
	}
}

// A clientele is clients of a cluster, which find its primary by themselves.
type clientele struct {
	*history
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
	k := &clientele{history: newHistory(c.t, name), cluster: c}
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
func (h *history) note(err error) {
	if err == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[toldOf(err)]++
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
		err = w.operate(ctx, conn, registerInput{op: "read", key: key})
	case 2:
		if old != "" {
			err = w.operate(ctx, conn, registerInput{op: "cas", key: key, old: old, new: value})
			break
		}
		fallthrough
	default:
		err = w.operate(ctx, conn, registerInput{op: "write", key: key, new: value})
	}
	if sqlState(err) == "40001" {
		return nil // the session goes on
	}
	return err
}

// insert adds a row.
func (w *worker) insert(ctx context.Context, conn *pgx.Conn, key string) error {
	r := &inserted{}
	w.mu.Lock()
	w.rows[key] = r
	w.mu.Unlock()
	_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, valueOf(key))
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.outcome = outcomeOf(err); r.outcome == done {
		w.acknowledged()
	}
	return err
}

const upsert = "INSERT INTO kv VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"

// operate does an operation on a register and notes it.
func (w *worker) operate(ctx context.Context, conn *pgx.Conn, in registerInput) error {
	o := porcupine.Operation{ClientId: w.id, Input: in, Call: int64(w.now())}
	out := registerOutput{known: true}
	var tag pgconn.CommandTag
	var err error
	switch in.op {
	case "read":
		out.value, err = readRegister(ctx, conn, in.key)
	case "write":
		_, err = conn.Exec(ctx, upsert, in.key, in.new)
	case "cas":
		tag, err = conn.Exec(ctx, "UPDATE kv SET value = $3 WHERE key = $1 AND value = $2", in.key, in.old, in.new)
		out.changed = tag.RowsAffected() == 1
	}
	o.Return = int64(w.now())
	switch became := outcomeOf(err); {
	case became == refused, became == unknown && in.op == "read":
		return err // it did nothing
	case became == unknown:
		out, o.Return = registerOutput{}, never
	case in.op == "read":
		w.known[in.key] = out.value
	case in.op == "write" || out.changed:
		w.known[in.key] = in.new
	}
	o.Output = out
	w.mu.Lock()
	defer w.mu.Unlock()
	w.registers = append(w.registers, o)
	if out.known && (in.op == "write" || out.changed) {
		w.acknowledged()
	}
	return err
}

func readRegister(ctx context.Context, conn *pgx.Conn, key string) (string, error) {
	var value string
	err := conn.QueryRow(ctx, "SELECT value FROM kv WHERE key = $1", key).Scan(&value)
	if err == pgx.ErrNoRows {
		err = nil
	}
	return value, err
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
