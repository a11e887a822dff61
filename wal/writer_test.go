package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sys/unix"
)

// slowFS delays each sync of a file by d and counts them.
func slowFS(d time.Duration, syncs *atomic.Int64) vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData {
			syncs.Add(1)
			time.Sleep(d)
		}
		return nil
	}))
}

// Everybody who waits while a flush is under way is served by the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		d := newDir(t, slowFS(time.Millisecond, &syncs))
		w := start(t, d, emptyLog, WriterConfig{Buffers: 1})
		begin := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 3 {
					w.insert(t, []byte("x"), true)
				}
			})
		}
		wg.Wait()
		if n := syncs.Load(); n > 6 {
			t.Errorf("%d syncs for 3 rounds of 100 commits", n)
		}
		if d := time.Since(begin); d > 6*time.Millisecond {
			t.Errorf("3 rounds of commits took %v", d)
		}
		must(t, w.stop())
		if got := w.Stats().Records.Load(); got != 300 {
			t.Errorf("Stats.Records = %d, want 300", got)
		}
	})
}

// An asynchronous commit is flushed after wal_writer_delay, one somebody waits for at once.
func TestAsynchronousCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 1, WriterDelay: func() time.Duration { return 200 * time.Millisecond }})
		for range 3 {
			synctest.Wait()
			begin := time.Now()
			e := w.insert(t, []byte("async"), false)
			must(t, w.Flushed().Wait(t.Context(), e.End))
			if d := time.Since(begin); d != 200*time.Millisecond {
				t.Errorf("asynchronous commit flushed after %v, want wal_writer_delay", d)
			}
		}
		w.insert(t, []byte("async"), false)
		begin := time.Now()
		w.insert(t, []byte("sync"), true)
		if d := time.Since(begin); d != 0 {
			t.Errorf("synchronous commit flushed after %v", d)
		}
		must(t, w.stop())
	})
}

// An idle writer wakes for nothing: a day of bubble time would take for ever otherwise.
func TestIdleWriterSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 1})
		w.insert(t, []byte("x"), true)
		time.Sleep(24 * time.Hour)
		if n := w.Stats().Syncs.Load(); n != 1 {
			t.Errorf("%d syncs for one commit and a day of rest", n)
		}
		must(t, w.stop())
	})
}

// commit_delay: with commit_siblings others at work the flusher waits for company, alone it does not.
func TestCommitDelay(t *testing.T) {
	for _, c := range []struct {
		active int
		want   time.Duration
	}{{1, 0}, {5, 0}, {6, time.Millisecond}, {100, time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{
				Buffers: 1, CommitDelay: func() (time.Duration, int) { return time.Millisecond, 5 }, Active: func() int { return c.active },
			})
			begin := time.Now()
			w.insert(t, []byte("x"), true)
			if d := time.Since(begin); d != c.want {
				t.Errorf("%d active: flushed after %v, want %v", c.active, d, c.want)
			}
			must(t, w.stop())
		})
	}
}

// While others are under way, a flush begins when as many have joined it; when those others are released;
// or after a while.
func TestGather(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  func(w *running, waiting *atomic.Int64)
		after time.Duration
	}{
		{"joined", func(w *running, _ *atomic.Int64) { w.RequestFlush(w.Inserted().Load()) }, 0},
		{"too few settled", func(w *running, waiting *atomic.Int64) { waiting.Store(3); w.Settled() }, gatherLimit},
		{"settled", func(w *running, waiting *atomic.Int64) { waiting.Store(2); w.Settled() }, 0},
		{"nothing happens", func(*running, *atomic.Int64) {}, gatherLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var waiting atomic.Int64
				w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 1, Waiting: func() int { return int(waiting.Load()) }})
				for range 3 {
					w.insert(t, []byte("long ago"), true)
				}
				waiting.Store(4)
				begin := time.Now()
				end := w.insert(t, []byte("x"), false).End
				w.RequestFlush(end)
				synctest.Wait()
				if w.Flushing().Load() >= end || w.Flushed().Load() >= end {
					t.Error("a flush for one of four that wait")
				}
				c.then(w, &waiting)
				must(t, w.Flushed().Wait(t.Context(), end))
				if d := time.Since(begin); d != c.after || w.Flushing().Load() != end {
					t.Errorf("flushed after %v, want %v; flushing up to %s of %s", d, c.after, w.Flushing().Load(), end)
				}
				must(t, w.stop())
			})
		})
	}
}

// What a flush takes may be sent on while it is under way: members flush at the same time.
func TestFlushingIsAheadOfTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		w := start(t, newDir(t, slowFS(time.Second, &syncs)), emptyLog, WriterConfig{Buffers: 1})
		begin := time.Now()
		end := w.insert(t, []byte("x"), false).End
		w.RequestFlush(end)
		must(t, w.Flushing().Wait(t.Context(), end))
		if d := time.Since(begin); d != 0 || w.Flushed().Load() >= end {
			t.Errorf("to be sent after %v, and flushed up to %s of %s", d, w.Flushed().Load(), end)
		}
		must(t, w.stop())
	})
}

// An insert that has to wait for room in the buffer keeps all others out: the flush that makes room waits for
// nobody.
func TestFullBufferDoesNotGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 1, Waiting: func() int { return 100 }})
		begin := time.Now()
		w.insert(t, make([]byte, 4*w.buf.size()), false)
		if d := time.Since(begin); d != 0 || w.Stats().BuffersFull.Load() == 0 {
			t.Errorf("a record of four buffers took %v to insert, waiting %d times", d, w.Stats().BuffersFull.Load())
		}
		must(t, w.stop())
	})
}

// Commits that wait for something else than a flush cost the others a millisecond now and then, not each time.
func TestGatherInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 1, Waiting: func() int { return 4 }})
		begin := time.Now()
		for range 2 * (1 + gatherPause) {
			w.insert(t, []byte("x"), true)
		}
		if d := time.Since(begin); d != 2*gatherLimit {
			t.Errorf("%d flushes took %v, want %v", 2*(1+gatherPause), d, 2*gatherLimit)
		}
		must(t, w.stop())
	})
}

// Each wal_sync_method writes a log that reads back, on the real disk and in memory.
func TestSyncMethods(t *testing.T) {
	for _, method := range []SyncMethod{SyncFdatasync, SyncFsync, SyncOpenDatasync, SyncOpenSync} {
		for _, fsys := range []vfs.FS{vfs.Default, vfs.NewMem()} {
			d := newDir(t, fsys)
			w := start(t, d, emptyLog, WriterConfig{SyncMethod: method})
			var want []entry
			for i := range 30 {
				want = append(want, w.insert(t, pattern(100_000*(i%3)), i%4 == 0))
			}
			must(t, w.stop())
			wantLog(t, d, want)
		}
	}
}

// A stopped writer flushes what it holds, refuses more, and another goes on at its end.
func TestStopAndContinue(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	at := emptyLog
	var want []entry
	for i := range 20 {
		w := start(t, d, at, WriterConfig{WriterDelay: func() time.Duration { return time.Hour }})
		for j := range i {
			want = append(want, w.insert(t, pattern(j*1000), false))
		}
		must(t, w.stop())
		if _, _, err := w.Insert(Prepare(RmgrLongship, 0), 0); err != ErrWriterStopped {
			t.Fatalf("Insert into a stopped writer = %v", err)
		}
		if err := w.Flush(t.Context(), at.LSN+1<<30); err != ErrWriterStopped {
			t.Fatalf("Flush of a stopped writer = %v", err)
		}
		at = wantLog(t, d, want).End
	}
}

// Segments are reported once each, complete and durable, and the next is there before it is needed.
func TestSegmentsCompletedAndPreallocated(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	done := make(chan uint64, 100)
	var w *running
	w = start(t, d, emptyLog, WriterConfig{OnSegment: func(segno uint64) {
		if w.Flushed().Load() < MinSegmentSize.Start(segno+1)-LSN(2*PageSize) {
			t.Errorf("segment %d reported with the log flushed to %s", segno, w.Flushed().Load())
		}
		must(t, w.Preallocate())
		done <- segno
	}})
	for range 100 {
		w.insert(t, pattern(50_000), true)
	}
	must(t, w.stop())
	close(done)
	want := uint64(1)
	for segno := range done {
		if segno != want {
			t.Errorf("segment %d reported, want %d", segno, want)
		}
		want++
	}
	if want != MinSegmentSize.Segno(w.Inserted().Load()) {
		t.Errorf("segments up to %d reported, log at %s", want-1, w.Inserted().Load())
	}
	files, err := d.Segments()
	must(t, err)
	if last := files[len(files)-1].Segno; last != want+1 {
		t.Errorf("the last segment is %d, want %d: the one being filled and one more", last, want+1)
	}
}

// diskFS is a file system without room for new files while full.
func diskFS(full *atomic.Bool) vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			return &fs.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		}
		return nil
	}))
}

// A full disk refuses records with ErrDiskFull and breaks nothing: what is there is read and
// flushed, system records still fit, and a second after room is made inserts go on.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		d := newDir(t, diskFS(&full))
		w := start(t, d, emptyLog, WriterConfig{Buffers: 1})
		full.Store(true)
		var want []entry
		for {
			s, e, err := w.Insert(Prepare(RmgrLongship, 0, pattern(30_000)), 0)
			if errors.Is(err, ErrDiskFull) {
				break
			}
			must(t, err)
			want = append(want, entry{s, e, string(pattern(30_000))})
		}
		if room := 0x200000 - w.Inserted().Load(); room < systemReserve || room > 30_000+systemReserve+PageSize {
			t.Errorf("refused with %d bytes left", room)
		}
		must(t, w.Preallocate())
		s, e, err := w.InsertSystem(Prepare(RmgrLongship, 0, []byte("system")))
		must(t, err)
		want = append(want, entry{s, e, "system"})
		must(t, w.Flush(t.Context(), e))
		if names, _ := d.FS.List(d.Path); len(names) != 1 {
			t.Errorf("left behind: %v", names)
		}

		full.Store(false)
		if _, _, err := w.Insert(Prepare(RmgrLongship, 0, pattern(30_000)), 0); !errors.Is(err, ErrDiskFull) {
			t.Errorf("tried again at once: %v", err)
		}
		time.Sleep(time.Second)
		want = append(want, w.insert(t, pattern(1<<20), true), w.insert(t, nil, true))
		must(t, w.stop())
		wantLog(t, d, want)
	})
}

// A failed write or sync ends Run with an error that IsFatal, and is never retried: nothing is
// written or synced afterwards, nothing more is reported, whoever waits is told.
func TestIOFailureIsFinal(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData} {
		var armed, failed atomic.Bool
		var after atomic.Int64
		fsys := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, "pg_wal") || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if failed.Load() && op.Kind != errorfs.OpFileClose {
				after.Add(1)
			}
			if op.Kind == kind && armed.Load() && failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		}))
		w := start(t, newDir(t, fsys), emptyLog, WriterConfig{})
		good := w.insert(t, []byte("good"), true)
		armed.Store(true)
		_, end, err := w.Insert(Prepare(RmgrLongship, 0, []byte("lost")), 0)
		must(t, err)
		if err := w.Flush(context.Background(), end); err != ErrWriterStopped {
			t.Errorf("%v: Flush = %v, want %v", kind, err, ErrWriterStopped)
		}
		if err := <-w.done; !IsFatal(err) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%v: Run = %v, want a fatal EIO", kind, err)
		}
		if got := w.Flushed().Load(); got != good.End {
			t.Errorf("%v: flushed %s, want %s", kind, got, good.End)
		}
		if _, _, err := w.Insert(Prepare(RmgrLongship, 0), 0); err != ErrWriterStopped {
			t.Errorf("%v: Insert = %v, want %v", kind, err, ErrWriterStopped)
		}
		if n := after.Load(); n != 0 {
			t.Errorf("%v: %d writes or syncs after the failure", kind, n)
		}
	}
}

// A standby's writer is as strict: after a failed flush neither Write nor Flush succeeds again.
func TestRawWriterFailureIsFinal(t *testing.T) {
	var fail atomic.Bool
	fsys := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && fail.CompareAndSwap(true, false) {
			return syscall.EIO
		}
		return nil
	}))
	w := NewRawWriter(newDir(t, fsys), History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
	_, err := w.Write(pattern(1000))
	must(t, err)
	fail.Store(true)
	for range 2 {
		if at, err := w.Flush(); !IsFatal(err) || at != emptyLog.LSN {
			t.Errorf("Flush = %s, %v, want a fatal error", at, err)
		}
		if _, err := w.Write(pattern(10)); !IsFatal(err) {
			t.Errorf("Write = %v, want a fatal error", err)
		}
	}
	must(t, w.Close())
}

// A new base copy may begin before its timeline does, segments before: each goes where it is read.
func TestRawWriterBeforeItsTimeline(t *testing.T) {
	d := newDir(t, vfs.NewMem())
	size := d.Format.SegmentSize
	h := History{Timeline: 3, Switches: []Switch{{Parent: 1, At: size.Start(2) + 100}, {Parent: 2, At: size.Start(4) + 100}}}
	w := NewRawWriter(d, h, emptyLog.LSN, SyncFdatasync)
	b := pattern(int(size.Start(5) - emptyLog.LSN))
	for at := 0; at < len(b); at += 100_000 {
		_, err := w.Write(b[at:min(at+100_000, len(b))])
		must(t, err)
	}
	_, err := w.Flush()
	must(t, err)
	must(t, w.Close())
	for segno, tli := range map[uint64]TimelineID{1: 1, 2: 2, 3: 2, 4: 3} {
		f, err := d.OpenSegment(tli, segno)
		if err != nil {
			t.Errorf("segment %d of timeline %d: %v", segno, tli, err)
			continue
		}
		must(t, f.Close())
	}
	got := make([]byte, len(b))
	r := NewRawReader(d, h, nil)
	defer r.Close()
	for n := 0; n < len(got); {
		m, err := r.ReadAt(got[n:], emptyLog.LSN+LSN(n))
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if !bytes.Equal(got, b) {
		t.Error("what is read is not what was written")
	}
}

// A segment of which all is on its way is not written twice: it has room on the disk, and no zeros of its own. The one
// that is only begun has.
func TestExpectedSegments(t *testing.T) {
	zeros, reserved := 0, 0
	fsys := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, tempPrefix) {
			switch op.Kind {
			case errorfs.OpFileWrite:
				zeros++
			case errorfs.OpFilePreallocate:
				reserved++
			}
		}
		return nil
	}))
	d := newDir(t, fsys)
	zeros = 0 // the first segment's
	w := NewRawWriter(d, History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
	size := d.Format.SegmentSize
	w.Expect(size.Start(4) + 1000)
	b := pattern(int(size.Start(4) + 1000 - emptyLog.LSN))
	whole := size.Start(4) - emptyLog.LSN
	for wantZeros, p := range [][]byte{b[:whole], b[whole:]} {
		_, err := w.WriteDurably(p)
		must(t, err)
		if zeros != wantZeros || reserved != 2 {
			t.Errorf("zeros were written for %d segments, want %d, and room made for %d, want 2", zeros, wantZeros, reserved)
		}
	}
	must(t, w.Close())
	if got := peek(t, d, emptyLog.LSN, emptyLog.LSN+LSN(len(b))); !bytes.Equal(got, b) {
		t.Error("the files do not hold the log")
	}
}

// Where blocks cannot be reserved, or a signal came between, zeros are written. A full disk is one.
func TestBlocksThatCannotBeReserved(t *testing.T) {
	for _, test := range []struct{ reserve, want error }{
		{unix.EOPNOTSUPP, nil}, {unix.ENOSYS, nil}, {unix.EINVAL, nil}, {unix.EINTR, nil},
		{unix.ENOSPC, unix.ENOSPC}, {unix.EDQUOT, unix.EDQUOT}, {unix.EIO, unix.EIO},
	} {
		fsys := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFilePreallocate {
				return test.reserve
			}
			return nil
		}))
		d := newDir(t, fsys)
		if err := d.AllocateBlocks(1, 7); !errors.Is(err, test.want) {
			t.Errorf("%v: %v, want %v", test.reserve, err, test.want)
		}
		info, err := fsys.Stat(d.file(MinSegmentSize.FileName(1, 7)))
		if test.want == nil && (err != nil || info.Size() != int64(MinSegmentSize)) {
			t.Errorf("%v: the segment is not there: %v, %v", test.reserve, info, err)
		}
		left, err := fsys.List(d.Path)
		must(t, err)
		if i := slices.IndexFunc(left, func(name string) bool { return strings.HasPrefix(name, tempPrefix) }); i >= 0 {
			t.Errorf("%v: %s is left", test.reserve, left[i])
		}
	}
}

// A segment whose blocks are reserved reads as zeros, has its full size, and its room on the disk; one of zeros that
// were written past the page cache too.
func TestAllocatedSegmentHasItsRoom(t *testing.T) {
	t.Run("cached", func(t *testing.T) { testAllocatedSegment(t, newDir(t, vfs.Default)) })
	t.Run("direct", func(t *testing.T) { testAllocatedSegment(t, newDirectDir(t)) })
}

func testAllocatedSegment(t *testing.T, d *Dir) {
	must(t, d.Allocate(1, 7))
	must(t, d.AllocateBlocks(1, 8))
	for segno := uint64(7); segno <= 8; segno++ {
		path := d.file(MinSegmentSize.FileName(1, segno))
		content, err := os.ReadFile(path)
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		blocks := info.Sys().(*syscall.Stat_t).Blocks
		if len(content) != int(MinSegmentSize) || firstNonZeroAt(content) >= 0 || blocks*512 < int64(MinSegmentSize) {
			t.Errorf("segment %d: %d bytes, %d blocks", segno, len(content), blocks)
		}
	}
}

// On a standby a full disk is no failure: nothing counts as written, and the same bytes can be
// written again when there is room.
func TestRawWriterDiskFull(t *testing.T) {
	var full atomic.Bool
	d := newDir(t, diskFS(&full))
	w := NewRawWriter(d, History{Timeline: 1}, emptyLog.LSN, SyncFdatasync)
	full.Store(true)
	b := pattern(1<<20 + 5000)
	_, err := w.Write(b)
	if !errors.Is(err, syscall.ENOSPC) || IsFatal(err) || w.Written().Load() != emptyLog.LSN {
		t.Fatalf("Write = %v, written %s", err, w.Written().Load())
	}
	full.Store(false)
	_, err = w.Write(b)
	must(t, err)
	at, err := w.Flush()
	must(t, err)
	if want := emptyLog.LSN + LSN(len(b)); at != want || w.Flushed().Load() != want {
		t.Errorf("flushed %s, want %s", at, want)
	}
	must(t, w.Close())
}

// The writer does not make up a segment that is missing or short.
func TestWriterWantsItsSegment(t *testing.T) {
	for _, spoil := range []string{"missing", "short"} {
		fsys := vfs.NewMem()
		d := newDir(t, fsys)
		name := d.file(MinSegmentSize.FileName(1, 1))
		must(t, fsys.Remove(name))
		if spoil == "short" {
			f, err := fsys.Create(name, diskCategory)
			must(t, err)
			must(t, f.Close())
		}
		w := start(t, d, End{LSN: emptyLog.LSN + 64, Prev: emptyLog.LSN + 40, Timeline: 1}, WriterConfig{})
		_, end, err := w.Insert(Prepare(RmgrLongship, 0), 0)
		must(t, err)
		wantErr(t, w.Flush(t.Context(), end), ErrWriterStopped)
		if err := <-w.done; !IsFatal(err) {
			t.Errorf("%s segment: Run = %v", spoil, err)
		}
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

// Insert allocates nothing: encoding and CRC are Prepare's.
func TestInsertDoesNotAllocate(t *testing.T) {
	w := start(t, newDir(t, vfs.NewMem()), emptyLog, WriterConfig{Buffers: 2 * blockSize})
	for range 1000 {
		w.insert(t, pattern(500), false) // fill the ring once
	}
	records := make([]*Prepared, 300)
	for i := range records {
		records[i] = Prepare(RmgrLongship, 0, pattern(200))
	}
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		if _, _, err := w.Insert(records[i], 1); err != nil {
			panic(fmt.Sprint(err))
		}
		i++
	}); n > 0 {
		t.Errorf("%v allocations per insert", n)
	}
	must(t, w.stop())
}
