package startup

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A redoTest is a redo over a log of commits, with two limits.
type redoTest struct {
	*Redo
	dir              *wal.Dir
	store            *kv.Store
	horizon, flushed wal.Position
	applied          wal.Position
	ends             []wal.LSN // of the commits
	batches          []wal.LSN // ends of the batches applied
}

func newRedoTest(t *testing.T, sizes ...int) *redoTest {
	t.Helper()
	l := newLog(t)
	x := &redoTest{}
	for _, size := range sizes {
		_, end := l.commit(size)
		x.ends = append(x.ends, end)
	}
	l.k.stop(t)
	var err error
	x.store, err = openStore(l.d)
	must(t, err)
	x.dir = wal.NewDir(l.d.FS, l.d.WAL(), testIdentity.Format())
	x.Redo = &Redo{
		Reader: wal.NewReader(wal.NewRawReader(x.dir, wal.History{Timeline: 1}, nil), segment.Start(1), 0),
		Limits: []*wal.Position{&x.horizon, &x.flushed},
		Batch:  x.store.NewBatch(),
		Apply: func(ctx context.Context, b *kv.Batch) error {
			x.batches = append(x.batches, b.End())
			if limit := min(x.horizon.Load(), x.flushed.Load()); b.End() > limit {
				t.Errorf("applied up to %s, the limit is %s", b.End(), limit)
			}
			return x.store.Apply(ctx, b)
		},
		Applied: &x.applied,
	}
	return x
}

func (x *redoTest) close(t *testing.T) {
	must(t, x.store.Close())
}

// Redo applies whole records below the lower of its limits, whichever that is.
func TestRedoLimits(t *testing.T) {
	x := newRedoTest(t, 10, 10, 10, 10)
	defer x.close(t)
	steps := []struct{ horizon, flushed, want wal.LSN }{
		{0, 0, 0},
		{x.ends[3], 0, 0},
		{x.ends[3], x.ends[0], x.ends[0]},
		{x.ends[3], x.ends[1] - 1, x.ends[0]},
		{x.ends[3], x.ends[1] + 8, x.ends[1]},
		{x.ends[3], x.ends[2] + 8, x.ends[2]},
		{x.ends[3] + 800, x.ends[3], x.ends[3]},
	}
	for i, s := range steps {
		x.horizon.Advance(s.horizon)
		x.flushed.Advance(s.flushed)
		must(t, x.CatchUp(t.Context()))
		if x.applied.Load() != s.want || x.store.Applied() != s.want {
			t.Errorf("step %d: applied %s, want %s", i, x.applied.Load(), s.want)
		}
	}
}

// Run waits for the limits without looking at the clock, and ends when it is told to.
func TestRedoRun(t *testing.T) {
	x := newRedoTest(t, 10, 10, 10)
	defer x.close(t)
	if _, ok := x.LastCommit(); ok {
		t.Error("a last commit before the first")
	}
	k := start(x.Run)
	for _, end := range x.ends {
		x.horizon.Advance(end)
		x.flushed.Advance(end)
		must(t, x.applied.Wait(t.Context(), end))
	}
	k.stop(t)
	if _, ok := x.LastCommit(); !ok {
		t.Error("no last commit")
	}
	if next := x.NextXID(3); next != 4 {
		t.Errorf("next xid %d", next)
	}
	must(t, x.CatchUp(t.Context())) // after Run, too
}

// A heartbeat tells the time and moves the applied position; it is no commit, and nothing important.
func TestRedoHeartbeat(t *testing.T) {
	l := newLog(t)
	_, commit := l.commit(10)
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)
	_, beat, err := l.w.Insert(wal.Heartbeat(at), 0)
	must(t, err)
	must(t, l.w.Flush(t.Context(), beat))
	l.k.stop(t)
	store, err := openStore(l.d)
	must(t, err)
	x := &redoTest{store: store}
	x.Redo = &Redo{
		Reader:  wal.NewReader(wal.NewRawReader(wal.NewDir(l.d.FS, l.d.WAL(), testIdentity.Format()), wal.History{Timeline: 1}, nil), segment.Start(1), 0),
		Limits:  []*wal.Position{&x.horizon},
		Batch:   store.NewBatch(),
		Apply:   store.Apply,
		Applied: &x.applied,
	}
	defer x.close(t)
	if _, ok := x.LastTime(); ok || x.Important() != 0 {
		t.Error("something is known before the first record")
	}
	x.horizon.Advance(commit)
	must(t, x.CatchUp(t.Context()))
	committed, _ := x.LastCommit()
	if last, ok := x.LastTime(); !ok || !last.Equal(committed) || x.Important() != commit {
		t.Errorf("after the commit of %s, which ends at %s: %s, %s", committed, commit, last, x.Important())
	}
	x.horizon.Advance(beat)
	must(t, x.CatchUp(t.Context()))
	if last, _ := x.LastTime(); !last.Equal(at) || x.Important() != commit || x.applied.Load() != beat {
		t.Errorf("after the heartbeat of %s: %s, %s, applied %s", at, last, x.Important(), x.applied.Load())
	}
	if last, _ := x.LastCommit(); !last.Equal(committed) {
		t.Errorf("the last commit is of %s, not %s", last, committed)
	}
}

// A batch ends when it is large enough, with a whole transaction.
func TestRedoBatches(t *testing.T) {
	x := newRedoTest(t, 300<<10, 300<<10, 300<<10, 1000<<10, 10)
	defer x.close(t)
	x.horizon.Advance(x.ends[4])
	x.flushed.Advance(x.ends[4])
	must(t, x.CatchUp(t.Context()))
	want := []wal.LSN{x.ends[1], x.ends[3], x.ends[4]}
	if len(x.batches) != 3 || x.batches[0] != want[0] || x.batches[1] != want[1] || x.batches[2] != want[2] {
		t.Errorf("batches end at %v, want %v", x.batches, want)
	}
}

// Between two batches of a primary is a pause, which the end of its reign cuts short.
func TestRedoLinger(t *testing.T) {
	x := newRedoTest(t, 10, 10)
	defer x.close(t)
	x.Linger, x.Wanted = time.Hour, new(wal.Position)
	k := start(x.Run)
	x.horizon.Advance(x.ends[1])
	x.flushed.Advance(x.ends[0])
	must(t, x.applied.Wait(t.Context(), x.ends[0]))
	x.flushed.Advance(x.ends[1])
	k.stop(t)
	if at := x.applied.Load(); at != x.ends[0] {
		t.Errorf("applied %s during the pause", at)
	}
}

// Nor does somebody who waits for what is not applied yet wait for the end of the pause.
func TestRedoLingerEndsWhenWanted(t *testing.T) {
	x := newRedoTest(t, 10, 10)
	defer x.close(t)
	x.Linger, x.Wanted = time.Hour, new(wal.Position)
	k := start(x.Run)
	x.horizon.Advance(x.ends[1])
	x.flushed.Advance(x.ends[0])
	must(t, x.applied.Wait(t.Context(), x.ends[0]))
	x.flushed.Advance(x.ends[1])
	x.Wanted.Advance(x.ends[1])
	must(t, x.applied.Wait(t.Context(), x.ends[1]))
	k.stop(t)
}

// There is no pause behind a full batch: there is more.
func TestRedoDoesNotLingerWhenBehind(t *testing.T) {
	x := newRedoTest(t, batchSize, batchSize, 10)
	defer x.close(t)
	x.Linger, x.Wanted = time.Hour, new(wal.Position)
	x.horizon.Advance(x.ends[2])
	x.flushed.Advance(x.ends[2])
	k := start(x.Run)
	must(t, x.applied.Wait(t.Context(), x.ends[2]))
	k.stop(t)
}

// While much of the log arrives, redo lets it come first, but not for ever, nor again before it has come, and not if
// somebody waits.
func TestRedoStandsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRedoTest(t, 10, 10, 10, 10, 10, 10)
		defer x.close(t)
		var behind atomic.Bool
		x.Wanted, x.Behind = new(wal.Position), behind.Load
		k := start(x.Run)
		for i, step := range []struct {
			what   string
			behind bool
			wanted wal.LSN
			want   time.Duration
		}{
			{"nothing arrives", false, 0, 0},
			{"much arrives, and somebody waits", true, x.ends[1], 0},
			{"much arrives", true, 0, patience},
			{"it still does, when all was applied", true, 0, 0},
			{"it has arrived", false, 0, 0},
			{"it has arrived meanwhile", true, 0, time.Second},
		} {
			synctest.Wait()
			behind.Store(step.behind)
			if 0 < step.want && step.want < patience {
				time.AfterFunc(step.want, func() { behind.Store(false) })
			}
			begin := time.Now()
			x.Wanted.Advance(step.wanted)
			x.horizon.Advance(x.ends[i])
			x.flushed.Advance(x.ends[i])
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			err := x.applied.Wait(ctx, x.ends[i])
			cancel()
			must(t, err)
			if took := time.Since(begin); took < step.want || took > step.want+standBackStep {
				t.Errorf("%s: applied after %v, want %v", step.what, took, step.want)
			}
		}
		k.stop(t)
	})
}

// A failure to apply ends Run, and nothing counts as applied.
func TestRedoFails(t *testing.T) {
	x := newRedoTest(t, 10)
	defer x.close(t)
	boom := errors.New("boom")
	x.Apply = func(context.Context, *kv.Batch) error { return boom }
	x.horizon.Advance(x.ends[0])
	x.flushed.Advance(x.ends[0])
	if err := x.Run(t.Context()); !errors.Is(err, boom) || IsStopped(t.Context(), err) || x.applied.Load() != 0 {
		t.Errorf("%v, applied %s", err, x.applied.Load())
	}
}

// What lies past the horizon becomes pending in a new primary's table: all of it, once, in order.
func TestLoadPending(t *testing.T) {
	x := newRedoTest(t, 10, 3<<20, 10, 10)
	defer x.close(t)
	var got []wal.LSN
	next, err := LoadPending(x.dir, wal.History{Timeline: 1}, x.ends[0], x.ends[2], 3, func(end wal.LSN, ops []kv.Op) error {
		if len(ops) != 1 || ops[0].Key != "k" {
			t.Errorf("commit at %s: %d operations", end, len(ops))
		}
		got = append(got, end)
		return nil
	})
	if err != nil || !slices.Equal(got, x.ends[1:3]) {
		t.Errorf("loaded %v, %v, want %v", got, err, x.ends[1:3])
	}
	if next != firstXID+1 { // the commits here all have the first one
		t.Errorf("next transaction id %d, want %d", next, firstXID+1)
	}
	boom := errors.New("boom")
	_, err = LoadPending(x.dir, wal.History{Timeline: 1}, x.ends[0], x.ends[2], 3, func(wal.LSN, []kv.Op) error { return boom })
	if !errors.Is(err, boom) {
		t.Error(err)
	}
}

// A redo that waits for room on a full disk ends with its context, and a later one applies what it had read.
func TestRedoEndsWithContext(t *testing.T) {
	x := newRedoTest(t, 10, 10)
	defer x.close(t)
	apply := x.Apply
	waiting := make(chan struct{})
	x.Apply = func(ctx context.Context, b *kv.Batch) error {
		close(waiting)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	x.horizon.Advance(x.ends[1])
	x.flushed.Advance(x.ends[1])
	ended := make(chan error)
	go func() { ended <- x.Run(ctx) }()
	<-waiting
	cause := errors.New("deposed")
	cancel(cause)
	if err := <-ended; !IsStopped(ctx, err) {
		t.Errorf("Run() = %v, want %v", err, cause)
	}
	x.Apply = apply
	must(t, x.CatchUp(t.Context()))
	if got := x.applied.Load(); got != x.ends[1] {
		t.Errorf("applied up to %s, want %s", got, x.ends[1])
	}
}
