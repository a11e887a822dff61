package startup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

// A promise is what a primary has said: the transactions up to n end before position at.
type promises struct {
	mu    sync.Mutex
	ends  []wal.LSN // of each transaction, in order
	begun atomic.Int64
}

func (p *promises) add(end wal.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = append(p.ends, end)
}

// upTo is how many transactions end at or before l.
func (p *promises) upTo(l wal.LSN) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.ends) && p.ends[n] <= l {
		n++
	}
	return n
}

// Whenever the power fails on a primary, a start finds every transaction reported flushed, nothing
// that was not committed, nothing past the horizon in the store, and a log that reads from redo to its
// end; and so does a start after another cut. Some commits are flushed and some not, the horizon is
// sometimes stuck for a while, and checkpoints, removal and recycling happen meanwhile.
func TestPrimaryPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { primaryPowerCuts(t, seed) })
	}
}

func primaryPowerCuts(t *testing.T, seed uint64) {
	c := newCutter(t, seed, 4)
	d := newCluster(t, c.fs())
	p := startPrimary(t, d)
	p.held.Store(true) // this test moves the horizon
	var said promises
	c.on(func(cut func() *vfs.MemFS) error {
		flushed := p.writer.Flushed().Load() // before: what is promised now must be there
		disk := cut()
		return checkCut(DataDir{FS: disk, Path: d.Path}, flushed, &said, p.horizon.Load)
	})
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range 260 {
		said.begun.Add(1)
		end := p.commit(i)
		said.add(end)
		if rng.IntN(3) == 0 {
			must(t, p.writer.Flush(t.Context(), end))
		}
		if rng.IntN(8) == 0 {
			p.horizon.Advance(p.writer.Flushed().Load())
		}
	}
	end := p.writer.Flushed().Load() // a checkpoint may be written behind it at any time
	p.horizon.Advance(end)
	must(t, p.applied.Wait(t.Context(), end))
	must(t, p.checkpointer.Request(t.Context()))
	redo := p.checkpointer.Control().Redo
	p.shutdown()
	c.off()
	if c.cuts < 5 || segment.Segno(redo) < 6 {
		t.Errorf("%d power cuts, redo at %s: too little happened", c.cuts, redo)
	}
	if r := recoverDir(t, d); !r.Clean {
		t.Error("a clean stop was not recognised")
	}
}

// checkCut starts on what a power cut has left, and on what another leaves after that.
func checkCut(d DataDir, flushed wal.LSN, said *promises, horizon func() wal.LSN) error {
	l, err := load(d)
	if err != nil {
		return err
	}
	if h := horizon(); l.horizon > h || l.store > h {
		return fmt.Errorf("store at %s, horizon at %s, but it was never past %s", l.store, l.horizon, h)
	}
	if n := said.upTo(flushed); l.n < n || l.end.LSN < flushed {
		return fmt.Errorf("%d transactions up to %s, but %d had been flushed up to %s", l.n, l.end.LSN, n, flushed)
	}
	if begun := int(said.begun.Load()); l.n > begun {
		return fmt.Errorf("%d transactions, but only %d were begun", l.n, begun)
	}
	if err := readsToEnd(d, l); err != nil {
		return err
	}
	again, err := load(DataDir{FS: after(d.FS), Path: d.Path})
	if err != nil {
		return fmt.Errorf("after another cut: %w", err)
	}
	if again.end != l.end || again.n != l.n || again.horizon != l.horizon {
		return fmt.Errorf("after another cut: %+v, before it %+v", again, l)
	}
	return nil
}

// readsToEnd reads the log from redo to its end.
func readsToEnd(d DataDir, l loaded) error {
	control, err := ReadControl(d.FS, d.Global())
	if err != nil {
		return err
	}
	dir := wal.NewDir(d.FS, d.WAL(), testIdentity.Format())
	h, err := dir.ReadHistory(control.Timeline)
	if err != nil {
		return err
	}
	r := wal.NewReader(wal.NewRawReader(dir, h, nil), l.redo, 0)
	defer r.Close()
	at := l.redo
	for {
		rec, ok, err := r.Next(l.end.LSN)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		at = rec.End
	}
	if at != l.end.LSN {
		return fmt.Errorf("the log reads from %s to %s, but ends at %s", l.redo, at, l.end.LSN)
	}
	return nil
}

// A node that crashes again and again, taking office each time, goes on from what it had.
func TestReignAfterReign(t *testing.T) {
	slow.Test(t)
	disk := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(5, 5))
	d := newCluster(t, disk)
	n := 0
	var epoch uint64
	for range 6 {
		p := startPrimary(t, d)
		if e := p.log.Control.Epoch; e <= epoch {
			t.Fatalf("epoch %d after %d", e, epoch)
		} else {
			epoch = e
		}
		p.commitFlushed(n, n+20)
		p.commit(n + 20) // perhaps lost
		disk = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		p.stop()
		d.FS = disk
		l, err := load(d)
		must(t, err)
		if l.n != n+20 && l.n != n+21 {
			t.Fatalf("%d transactions, want %d or one more", l.n, n+20)
		}
		n = l.n
	}
}

// Recovery that is itself cut short can be repeated.
func TestRecoverPowerCuts(t *testing.T) {
	slow.Test(t)
	c := newCutter(t, 9, 1)
	d := newCluster(t, c.fs())
	p := startPrimary(t, d)
	flushed := p.commitFlushed(0, 40)
	for i := 40; i < 50; i++ {
		p.commit(i)
	}
	disk := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 60, RNG: c.rng})
	p.stop()

	c.disk = disk
	d.FS = c.fs()
	c.on(func(cut func() *vfs.MemFS) error {
		l, err := load(DataDir{FS: cut(), Path: d.Path})
		if err == nil && (l.n < 40 || l.end.LSN < flushed) {
			err = fmt.Errorf("%d transactions", l.n)
		}
		return err
	})
	_, err := Recover(d, testIdentity, quiet)
	c.off()
	must(t, err)
	if c.cuts < 4 {
		t.Errorf("%d power cuts", c.cuts)
	}
}

// A clean stop cut short is an unclean one. Once it has been reported, the next start finds it clean.
func TestShutdownPowerCuts(t *testing.T) {
	slow.Test(t)
	c := newCutter(t, 3, 1)
	d := newCluster(t, c.fs())
	p := startPrimary(t, d)
	p.commitFlushed(0, 60)
	c.on(func(cut func() *vfs.MemFS) error {
		d := DataDir{FS: cut(), Path: d.Path}
		control, err := ReadControl(d.FS, d.Global())
		if err != nil {
			return err
		}
		l, err := load(d)
		switch {
		case err != nil:
			return err
		case l.n != 60:
			return fmt.Errorf("%d transactions, want 60", l.n)
		case control.Clean && control.Durable != l.end.LSN:
			return fmt.Errorf("marked clean at %s, but the log ends at %s", control.Durable, l.end.LSN)
		}
		return nil
	})
	p.tasks[1].stop(t)
	must(t, p.redo.CatchUp(t.Context()))
	p.tasks[2].stop(t)
	must(t, p.checkpointer.Shutdown(context.Background()))
	c.off()
	disk := after(c.disk)
	p.tasks = p.tasks[:1]
	p.stop()
	if r := recoverDir(t, DataDir{FS: disk, Path: d.Path}); !r.Clean {
		t.Error("a clean stop that was reported is not found")
	}
}
