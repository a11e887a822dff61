package startup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

const segment = wal.MinSegmentSize

var quiet = slog.New(slog.DiscardHandler)

var testIdentity = Identity{
	Name:        "n1",
	NodeID:      0x0123456789abcdef,
	Incarnation: 7,
	SystemID:    0x1122334455667788,
	SegmentSize: segment,
	PGVersion:   wal.PG15.Major,
	Founder:     true,
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newCluster makes the data directory of a new cluster.
func newCluster(t testing.TB, fsys vfs.FS) DataDir {
	t.Helper()
	d := DataDir{FS: fsys, Path: "/var/n1"}
	state, _, err := d.Open()
	if err != nil || state != Empty {
		t.Fatal(state, err)
	}
	must(t, d.NewCluster(testIdentity))
	return d
}

func recoverDir(t testing.TB, d DataDir) *Recovered {
	t.Helper()
	r, err := Recover(d, testIdentity, quiet)
	must(t, err)
	return r
}

// openStore opens the store with little memory, so that it flushes by itself now and then.
func openStore(d DataDir) (*kv.Store, error) {
	return kv.OpenStore(d.FS, d.Store(), kv.StoreOptions{CacheSize: 1 << 20, MemTableSize: 256 << 10, Fatal: func(error) {}})
}

// A task is a goroutine with an owner.
type task struct {
	cancel context.CancelFunc
	done   chan error
}

func start(run func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	k := &task{cancel: cancel, done: make(chan error, 1)}
	go func() { k.done <- run(ctx) }()
	return k
}

func (k *task) stop(t testing.TB) {
	t.Helper()
	k.cancel()
	if err := <-k.done; err != nil && err != context.Canceled {
		t.Error(err)
	}
}

// A primary is what package node makes of this package's parts, without clients. Its rule is empty
// unless held: then nobody acknowledges and the horizon stays where it is.
type primary struct {
	t            testing.TB
	d            DataDir
	log          *Recovered
	store        *kv.Store
	writer       *wal.Writer
	table        *kv.Table
	redo         *Redo
	checkpointer *Checkpointer
	horizon      wal.Position
	applied      wal.Position
	held         atomic.Bool // the horizon does not follow the flushes
	needed       wal.LSN
	tasks        []*task // writer, redo, checkpointer
}

var testRetention = wal.Retention{
	SegmentSize:          segment,
	MinWALSize:           2 << 20,
	MaxWALSize:           3 << 20,
	MaxSlotKeepSize:      -1,
	CheckpointCompletion: 0.9,
}

// newPrimary takes office on a log that has been recovered, on a new timeline. Nothing runs yet.
func newPrimary(t testing.TB, d DataDir, log *Recovered) *primary {
	t.Helper()
	p := &primary{t: t, d: d, log: log}
	var err error
	p.store, err = openStore(d)
	must(t, err)
	must(t, BeginTimeline(d, log, unusedEpoch(t, d), "test"))
	p.horizon.Advance(max(log.Horizon, p.store.Applied())) // what the store holds was within it
	p.applied.Advance(p.store.Applied())
	p.writer = wal.NewWriter(log.Dir, log.End, wal.WriterConfig{
		Buffers:     256 << 10,
		WriterDelay: func() time.Duration { return time.Hour }, // what is not flushed on request is not flushed
		OnFlush: func(l wal.LSN) {
			if !p.held.Load() {
				p.horizon.Advance(l)
			}
		},
		OnSegment: func(uint64) { p.checkpointer.Kick() },
	})
	p.table = kv.NewTable(p.store, p.writer, &p.horizon, kv.TableOptions{})
	p.table.SetNextXID(log.Control.NextXID)
	from := max(p.store.Applied(), log.Control.Redo)
	p.redo = &Redo{
		Reader:  wal.NewReader(wal.NewRawReader(log.Dir, log.History, p.writer), from, 0),
		Limits:  []*wal.Position{&p.horizon},
		Batch:   p.store.NewBatch(),
		Apply:   p.table.Apply,
		Applied: &p.applied,
	}
	c := NewCheckpointer(log.Control)
	c.DataDir, c.WAL, c.Store, c.Writer = d, log.Dir, p.store, p.writer
	c.Flushed, c.Horizon, c.NextXID = p.writer.Flushed(), &p.horizon, p.table.NextXID
	c.Retention = func() wal.Retention { return testRetention }
	c.Timeout = func() time.Duration { return time.Hour }
	c.Important = p.redo.Important
	c.Needed = func() wal.Needs { return wal.Needs{Slots: p.needed} }
	c.Invalidate = func(uint64) (bool, error) { return false, nil }
	c.Save = func() error { return nil }
	c.Log = quiet
	p.checkpointer = c
	must(t, p.redo.CatchUp(t.Context()))
	_, err = LoadPending(log.Dir, log.History, max(p.store.Applied(), log.Control.Redo), log.End.LSN, 3, p.table.Recover)
	must(t, err)
	return p
}

// unusedEpoch is what Raft would name a primary for: an epoch past everything a directory knows of.
func unusedEpoch(t testing.TB, d DataDir) uint64 {
	t.Helper()
	control, err := ReadControl(d.FS, d.Global())
	must(t, err)
	last := control.PromisedEpoch
	dir := wal.NewDir(d.FS, d.WAL(), testIdentity.Format())
	known, err := dir.Histories()
	must(t, err)
	for _, tli := range known {
		last = max(last, uint64(tli))
	}
	files, err := dir.Segments()
	must(t, err)
	for _, f := range files {
		last = max(last, uint64(f.Timeline))
	}
	return last + 1
}

// run starts what runs in a primary, and writes the first record of its epoch.
func (p *primary) run() {
	p.t.Helper()
	p.tasks = []*task{start(p.writer.Run), start(p.redo.Run), start(p.checkpointer.Run)}
	eor := wal.EndOfRecovery{Time: time.Now(), Timeline: p.log.End.Timeline, PrevTimeline: p.log.End.Timeline - 1}
	_, end, err := p.writer.InsertSystem(eor.Prepare())
	must(p.t, err)
	must(p.t, p.writer.Flush(p.t.Context(), end))
}

// stopCheckpointer has no checkpoint made but those that a test makes.
func (p *primary) stopCheckpointer() {
	p.t.Helper()
	p.tasks[2].stop(p.t)
	p.tasks = p.tasks[:2]
}

// startPrimary recovers a directory and runs a primary on it.
func startPrimary(t testing.TB, d DataDir) *primary {
	t.Helper()
	p := newPrimary(t, d, recoverDir(t, d))
	p.run()
	return p
}

// commit commits transaction i of the history that expected describes, and returns its LSN.
func (p *primary) commit(i int) wal.LSN {
	p.t.Helper()
	tx := p.table.Begin(kv.TxnOptions{Latest: true})
	for _, op := range transaction(i) {
		if op.Kind == kv.Delete {
			must(p.t, tx.Delete(op.Key))
		} else {
			must(p.t, tx.Put(op.Key, op.Value))
		}
	}
	end, err := tx.Commit(p.t.Context())
	must(p.t, err)
	return end
}

// commitFlushed commits the transactions [from, to) and makes them durable.
func (p *primary) commitFlushed(from, to int) (end wal.LSN) {
	p.t.Helper()
	for i := from; i < to; i++ {
		end = p.commit(i)
	}
	must(p.t, p.writer.Flush(p.t.Context(), end))
	return end
}

// applyAll waits until everything is in the store.
func (p *primary) applyAll() {
	p.t.Helper()
	must(p.t, p.applied.Wait(p.t.Context(), p.writer.Flushed().Load()))
}

// stop ends the goroutines, as a crash does, and lets go of the store.
func (p *primary) stop() {
	p.t.Helper()
	for _, k := range slices.Backward(p.tasks) {
		k.stop(p.t)
	}
	p.tasks = nil
	p.table.Close()
	must(p.t, p.store.Close())
}

// shutdown ends as package node does.
func (p *primary) shutdown() {
	p.t.Helper()
	p.tasks[1].stop(p.t)
	must(p.t, p.redo.CatchUp(p.t.Context()))
	p.tasks[2].stop(p.t)
	must(p.t, p.checkpointer.Shutdown(p.t.Context()))
	p.tasks = p.tasks[:1]
	p.stop()
}

const counterKey = "counter"

// transaction i writes i to the counter, and to one row of 40 a value that no other writes, between 0
// and 150 kB. Every seventh deletes a row.
func transaction(i int) []kv.Op { return transactions()[i] }

var transactions = sync.OnceValue(func() (all [][]kv.Op) {
	for i := range 300 {
		all = append(all, newTransaction(i))
	}
	return all
})

func newTransaction(i int) []kv.Op {
	rng := rand.New(rand.NewPCG(uint64(i), 99))
	ops := []kv.Op{{Kind: kv.Put, Key: counterKey, Value: fmt.Append(nil, i)}}
	if i%7 == 0 {
		return append(ops, kv.Op{Kind: kv.Delete, Key: fmt.Sprint("k", rng.IntN(40))})
	}
	size := rng.IntN(200)
	if i%3 == 0 {
		size = rng.IntN(150_000)
	}
	value := append(fmt.Appendf(nil, "%d ", i), strings.Repeat("0123456789abcdef", size/16)...)
	return append(ops, kv.Op{Kind: kv.Put, Key: fmt.Sprint("k", rng.IntN(40)), Value: value})
}

// expected is the table after the first n transactions.
func expected(n int) map[string]string {
	rows := map[string]string{}
	for i := range n {
		for _, op := range transaction(i) {
			if op.Kind == kv.Delete {
				delete(rows, op.Key)
			} else {
				rows[op.Key] = string(op.Value)
			}
		}
	}
	return rows
}

// A loaded is the table as a node would have it after a start: of how many transactions, and where
// the log ends.
type loaded struct {
	n       int
	end     wal.End
	horizon wal.LSN
	store   wal.LSN // what the store had applied before redo
	redo    wal.LSN
}

// load starts on a directory, up to where a primary would take office, and checks that the table is
// what some number of transactions make of it.
func load(d DataDir) (l loaded, err error) {
	r, err := Recover(d, testIdentity, quiet)
	if err != nil {
		return l, fmt.Errorf("recover: %w", err)
	}
	store, err := openStore(d)
	if err != nil {
		return l, err
	}
	defer store.Close()
	l = loaded{end: r.End, horizon: r.Horizon, store: store.Applied(), redo: r.Control.Redo}
	if l.store > r.End.LSN {
		return l, fmt.Errorf("the store has applied %s, the log ends at %s", l.store, r.End.LSN)
	}
	var horizon, applied wal.Position
	horizon.Advance(max(r.Horizon, l.store))
	table := kv.NewTable(store, wal.NewWriter(r.Dir, r.End, wal.WriterConfig{Buffers: 128 << 10}), &horizon, kv.TableOptions{})
	defer table.Close()
	redo := &Redo{
		Reader:  wal.NewReader(wal.NewRawReader(r.Dir, r.History, nil), max(l.store, l.redo), 0),
		Limits:  []*wal.Position{&horizon},
		Batch:   store.NewBatch(),
		Apply:   table.Apply,
		Applied: &applied,
	}
	if err := redo.CatchUp(context.Background()); err != nil {
		return l, err
	}
	if _, err := LoadPending(r.Dir, r.History, max(store.Applied(), l.redo), r.End.LSN, 3, table.Recover); err != nil {
		return l, err
	}
	rows := map[string]string{}
	tx := table.Begin(kv.TxnOptions{Latest: true})
	defer tx.Rollback()
	for row, err := range tx.Scan(context.Background(), kv.Range{Unbounded: true}) {
		if err != nil {
			return l, err
		}
		rows[row.Key] = string(row.Value)
	}
	if c, ok := rows[counterKey]; ok {
		fmt.Sscan(c, &l.n)
		l.n++
	}
	if want := expected(l.n); !maps.Equal(rows, want) {
		return l, fmt.Errorf("after %d transactions the table has %d rows, want %d, or other values", l.n, len(rows), len(want))
	}
	return l, nil
}

// A cutter cuts the power of a crashable file system just before changes to it: it hands a copy of
// what the disk would hold then, with 0 to 100 % of what was not synced, to check.
type cutter struct {
	t     testing.TB
	disk  *vfs.MemFS
	every int // on average one change in so many

	mu    sync.Mutex
	rng   *rand.Rand
	check func(cut func() *vfs.MemFS) error // nil: nothing is cut
	cuts  int
}

func newCutter(t testing.TB, seed uint64, every int) *cutter {
	return &cutter{t: t, disk: vfs.NewCrashableMem(), every: every, rng: rand.New(rand.NewPCG(seed, 1))}
}

// fs is the file system to use.
func (c *cutter) fs() vfs.FS { return errorfs.Wrap(c.disk, c) }

func (c *cutter) String() string { return "cutter" }

// on lets the power be cut from now on, off no more.
func (c *cutter) on(check func(cut func() *vfs.MemFS) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.check = check
}

func (c *cutter) off() { c.on(nil) }

func (c *cutter) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRename, errorfs.OpRemove, errorfs.OpRemoveAll,
		errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpFileWriteAt:
	default:
		return nil
	}
	// One at a time. The store's own goroutines go on; who writes the log waits, or a cut of theirs may last as long as
	// all that it does.
	if strings.Contains(op.Path, "pg_wal") {
		c.mu.Lock()
	} else if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if c.check == nil || c.rng.IntN(c.every) != 0 || c.t.Failed() {
		return nil
	}
	c.cuts++
	percent := []int{0, 10, 50, 90, 100}[c.rng.IntN(5)]
	err := c.check(func() *vfs.MemFS {
		return c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: c.rng})
	})
	if err != nil {
		c.t.Errorf("power cut %d, before %v of %s, %d %% kept: %v", c.cuts, op.Kind, op.Path, percent, err)
	}
	return nil
}

// after is the disk after another power cut, which keeps nothing that was not synced.
func after(disk vfs.FS) vfs.FS {
	return disk.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
}
