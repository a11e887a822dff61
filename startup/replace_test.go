package startup

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

// A farBehind is a standby's directory that has the first transactions of a primary, and beside them a base copy of
// it, with its log, that has more.
type farBehind struct {
	d        DataDir
	own      *Recovered
	n, more  int // transactions that the directory has, and the copy
	promised uint64
}

const (
	hadTransactions    = 30
	copiedTransactions = 90
)

// newFarBehind makes one on disk, whose primary is gone. The standby has promised the primary's epoch.
func newFarBehind(t *testing.T, disk vfs.FS) *farBehind {
	t.Helper()
	p := startPrimary(t, newCluster(t, vfs.NewMem()))
	p.needed = segment.Start(1)
	p.commitFlushed(0, hadTransactions/2)
	p.applyAll()
	d := baseCopy(t, p, disk, func() {})
	end := p.commitFlushed(hadTransactions/2, hadTransactions)
	s := newStandby(t, d)
	s.receive(newSource(t, p, s.raw.Written().Load()), end)
	s.flush()
	s.horizon.Advance(end)
	s.stop()
	leave(t, d)

	p.commitFlushed(hadTransactions, copiedTransactions-10)
	p.applyAll()
	must(t, p.checkpointer.Request(t.Context()))
	control := p.checkpointer.Control()
	p.commitFlushed(copiedTransactions-10, copiedTransactions)
	p.applyAll() // the store of the copy is ahead of its redo position
	c := d.Copy()
	must(t, d.FS.MkdirAll(c.Global(), 0o700))
	from := p.d.join("copy")
	must(t, p.store.Checkpoint(t.Context(), from))
	for source, dest := range map[string]string{from: c.Store(), p.d.WAL(): c.WAL()} {
		_, err := vfs.Clone(p.d.FS, disk, source, dest, vfs.CloneSync)
		must(t, err)
	}
	for segno := uint64(1); segno < segment.Segno(control.Redo); segno++ {
		must(t, disk.RemoveAll(disk.PathJoin(c.WAL(), segment.FileName(control.Timeline, segno))))
	}
	control.ReignStart, control.Clean = 0, false
	control.Durable = segment.SegmentStart(control.Redo)
	must(t, control.Write(disk, c.Global()))
	p.stop()
	own := recoverDir(t, d)
	if own.End.LSN != end {
		t.Fatalf("the standby has the log up to %s, want %s", own.End.LSN, end)
	}
	return &farBehind{d: d, own: own, n: hadTransactions, more: copiedTransactions, promised: own.Control.PromisedEpoch}
}

// check starts on what is there, which is one or the other, and says which.
func (f *farBehind) check(d DataDir) (replaced bool, err error) {
	state, id, err := d.Open()
	if err != nil || state != Ready || id != testIdentity {
		return false, fmt.Errorf("state %d, identity %+v: %w", state, id, err)
	}
	if err := left(d); err != nil {
		return false, err
	}
	for _, name := range []string{copyFolder, completeFolder} {
		if there, err := wal.Exists(d.FS, d.join(name)); there || err != nil {
			return false, fmt.Errorf("%s is there: %v, %w", name, there, err)
		}
	}
	control, err := ReadControl(d.FS, d.Global())
	if err == nil && control.PromisedEpoch != f.promised {
		err = fmt.Errorf("epoch %d is promised, and %d was", control.PromisedEpoch, f.promised)
	}
	if err != nil {
		return false, err
	}
	l, err := load(d)
	if err == nil && l.n != f.n && l.n != f.more {
		err = fmt.Errorf("%d transactions, want %d or %d", l.n, f.n, f.more)
	}
	return l.n == f.more, err
}

// Whenever the power fails while a base copy takes the place of a node's data, one of them is there, whole, and what
// the node has promised. Once Replace has returned it is the copy.
func TestReplacePowerCuts(t *testing.T) {
	slow.Test(t)
	kept, replaced := 0, 0
	for seed := range uint64(3) {
		c := newCutter(t, seed, 1)
		f := newFarBehind(t, c.disk)
		f.d.FS = c.fs()
		c.on(func(cut func() *vfs.MemFS) error {
			d := DataDir{FS: cut(), Path: f.d.Path}
			was, err := f.check(d)
			if err != nil {
				return err
			}
			if was {
				replaced++
			} else {
				kept++
			}
			d.FS = after(d.FS)
			if is, err := f.check(d); err != nil || is != was {
				return fmt.Errorf("after another cut: replaced %v, and before it %v: %w", is, was, err)
			}
			return nil
		})
		copied, err := f.d.RecoverCopy(testIdentity, quiet)
		must(t, err)
		must(t, f.d.Replace(f.own, copied))
		c.off()
		if is, err := f.check(DataDir{FS: after(c.disk), Path: f.d.Path}); !is || err != nil {
			t.Errorf("replaced %v, %v", is, err)
		}
	}
	if kept < 10 || replaced < 10 {
		t.Errorf("found as before at %d power cuts, replaced at %d", kept, replaced)
	}
}

// Going on with what a crash has interrupted may be interrupted again.
func TestSettlePowerCuts(t *testing.T) {
	slow.Test(t)
	for n := range 4 { // how many parts have been moved
		c := newCutter(t, uint64(n), 1)
		f := newFarBehind(t, c.disk)
		moves := -1 // the first one says that the copy is complete
		f.d.FS = errorfs.Wrap(c.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpRename && strings.Contains(op.Path, copyFolder) && !strings.HasSuffix(op.Path, ".tmp") {
				if moves++; moves > n {
					return syscall.EIO
				}
			}
			return nil
		}))
		copied, err := f.d.RecoverCopy(testIdentity, quiet)
		must(t, err)
		if err := f.d.Replace(f.own, copied); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%d parts moved: %v", n, err)
		}
		c.disk = after(c.disk).(*vfs.MemFS)
		c.on(func(cut func() *vfs.MemFS) error {
			is, err := f.check(DataDir{FS: cut(), Path: f.d.Path})
			if err == nil && !is {
				err = errors.New("as before")
			}
			return err
		})
		_, _, err = DataDir{FS: c.fs(), Path: f.d.Path}.Open()
		c.off()
		if must(t, err); c.cuts < 5 {
			t.Errorf("%d power cuts", c.cuts)
		}
	}
}

// Whichever operation fails, the next start finds the one or the other.
func TestReplaceErrors(t *testing.T) {
	slow.Test(t)
	ready := vfs.NewCrashableMem()
	f := newFarBehind(t, ready)
	copied, err := f.d.RecoverCopy(testIdentity, quiet)
	must(t, err)
	for n := 0; ; n++ {
		disk := ready.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))})
		ops, failed := 0, false
		f.d.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileClose {
				return nil
			}
			if ops++; ops-1 == n {
				failed = true
				return syscall.EIO
			}
			return nil
		}))
		err = f.d.Replace(f.own, copied)
		if !failed {
			must(t, err)
			if n < 10 {
				t.Errorf("%d operations", n)
			}
			return
		}
		if err == nil || errors.Is(err, ErrUnfit) {
			t.Errorf("operation %d fails: %v", n, err)
		}
		if _, err := f.check(DataDir{FS: disk, Path: f.d.Path}); err != nil {
			t.Errorf("operation %d fails: %v", n, err)
		}
	}
}

// What is known to be durable under the rule stays known: nobody reads less than before.
func TestReplaceKeepsHorizon(t *testing.T) {
	f := newFarBehind(t, vfs.NewCrashableMem())
	copied, err := f.d.RecoverCopy(testIdentity, quiet)
	must(t, err)
	copied.Control.Horizon = f.own.End.LSN
	f.own.Horizon = copied.End.LSN
	must(t, f.d.Replace(f.own, copied))
	if r := recoverDir(t, f.d); r.Horizon != copied.End.LSN {
		t.Errorf("horizon %s, and it was %s", r.Horizon, copied.End.LSN)
	}
}

// A copy that is not to take the place of the data leaves that as it is, and a promise that was given since counts.
func TestReplaceRefused(t *testing.T) {
	f := newFarBehind(t, vfs.NewCrashableMem())
	copied, err := f.d.RecoverCopy(testIdentity, quiet)
	must(t, err)
	f.promised++
	must(t, Seal(f.d, recoverDir(t, f.d), f.promised))
	if err := f.d.Replace(f.own, copied); !errors.Is(err, ErrUnfit) {
		t.Errorf("a copy of an epoch that is over: %v", err)
	}
	if is, err := f.check(f.d); is || err != nil {
		t.Errorf("replaced %v, %v", is, err)
	}
}

// Which base copy may take the place of a log. The log is on timeline 3, which left timeline 1 at 0/3000.
func TestFits(t *testing.T) {
	first := wal.History{Timeline: 1}
	ours := first.Child(3, 0x3000, "")
	for _, test := range []struct {
		name   string
		end    wal.LSN     // of our log
		theirs wal.History // of the copy
		copied wal.LSN     // its end
		epoch  uint64      // of the copy; 0: that of its timeline, which is promised
		fits   bool
	}{
		{"has more", 0x3800, ours, 0x4000, 0, true},
		{"has the same", 0x3800, ours, 0x3800, 0, true},
		{"lacks what is attested", 0x3800, ours, 0x37f8, 0, false},
		{"of the next timeline, has more", 0x3800, ours.Child(4, 0x3800, ""), 0x3900, 0, true},
		{"of the next timeline, which left ours before its end", 0x3800, ours.Child(4, 0x3400, ""), 0x3400, 0, true},
		{"lacks what both logs have", 0x3800, ours.Child(4, 0x3400, ""), 0x33f8, 0, false},
		{"left before our timeline began", 0x3800, first.Child(4, 0x2000, ""), 0x2008, 0, true},
		{"has not come to its timeline", 0x1000, first.Child(4, 0x2000, ""), 0x1800, 0, false},
		{"no common ancestor", 0x3800, wal.History{Timeline: 2}, 0x4000, 0, false},
		{"of an older epoch", 0x2000, first, 0x4000, 1, false},
		{"of a newer epoch", 0x3800, ours.Child(4, 0x3800, ""), 0x4000, 4, false},
	} {
		own := &Recovered{History: ours, End: wal.End{LSN: test.end, Timeline: 3}}
		copied := &Recovered{History: test.theirs, End: wal.End{LSN: test.copied, Timeline: test.theirs.Timeline}}
		copied.Control.Epoch = uint64(test.theirs.Timeline)
		promised := copied.Control.Epoch
		if test.epoch != 0 {
			promised = 3
		}
		if err := own.Fits(copied, promised); (err == nil) != test.fits || err != nil && !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A base copy that was interrupted is removed by the next start. A folder that happens to have its name, where no node
// lives, is not.
func TestOpenRemovesCopy(t *testing.T) {
	d := newCluster(t, vfs.NewMem())
	must(t, d.FS.MkdirAll(d.Copy().Store(), 0o700))
	if state, _, err := d.Open(); state != Ready || err != nil {
		t.Fatal(state, err)
	}
	if there, err := wal.Exists(d.FS, d.Copy().Path); there || err != nil {
		t.Errorf("it is there: %v, %v", there, err)
	}
	d.Path = "/home/somebody"
	must(t, d.FS.MkdirAll(d.Copy().Path, 0o700))
	if _, _, err := d.Open(); !errors.Is(err, ErrNotOurs) {
		t.Error(err)
	}
	if there, err := wal.Exists(d.FS, d.Copy().Path); !there || err != nil {
		t.Errorf("it is there: %v, %v", there, err)
	}
}
