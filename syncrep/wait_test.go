package syncrep

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/longship-db/longship/wal"
)

// newGroup returns a group under a rule, and a streaming member for each that it lists.
func newGroup(rule string) (*Group, []*Handle) {
	g, r := NewGroup(), resolved(rule)
	g.SetRules(Rule{}, r)
	var handles []*Handle
	for _, l := range r.Listed {
		h := g.Join(l.Name, l.ID)
		h.SetState(Streaming)
		handles = append(handles, h)
	}
	return g, handles
}

// Many sessions, the flusher and two standbys at once; some sessions give up. Who is released finds the
// horizon past its commit, and both standbys and the primary have it; who gives up is told so.
func TestWaitUnderFire(t *testing.T) {
	const sessions, commits = 32, 300
	g, handles := newGroup("2 of a b")
	var log, flushed, acked [3]wal.Position // [0] inserted and flushed; acked by a and b
	var sessionsDone, feedsDone sync.WaitGroup
	done := make(chan struct{})

	follow := func(at *wal.Position, report func(wal.LSN)) {
		feedsDone.Go(func() {
			for seen := wal.LSN(0); ; {
				select {
				case <-done:
					return
				case <-log[0].Changed(seen):
				}
				seen = log[0].Load()
				at.Advance(seen)
				report(seen)
			}
		})
	}
	follow(&flushed[0], g.LocalFlush)
	for i, h := range handles {
		follow(&acked[i], func(l wal.LSN) { h.Report(l, l, l) })
	}
	var next sync.Mutex
	insert := func() wal.LSN {
		next.Lock()
		defer next.Unlock()
		l := log[0].Load() + 8
		log[0].Advance(l)
		return l
	}
	for s := range sessions {
		sessionsDone.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(s), 1))
			for range commits {
				ctx, cancel := context.WithCancel(t.Context())
				if rng.IntN(4) == 0 {
					go cancel()
				}
				lsn := insert()
				err := g.Wait(ctx, lsn, On)
				reached := min(flushed[0].Load(), acked[0].Load(), acked[1].Load(), g.Horizon().Load())
				if unknown, ok := errors.AsType[*UnknownError](err); ok {
					if unknown.LSN != lsn || !errors.Is(err, context.Canceled) {
						t.Errorf("Wait(%s) = %v", lsn, err)
					}
				} else if err != nil || reached < lsn {
					t.Errorf("Wait(%s) = %v with everything at %s", lsn, err, reached)
				}
				cancel()
			}
		})
	}
	sessionsDone.Wait()
	close(done)
	feedsDone.Wait()
	for level := range g.waiting {
		if q := &g.waiting[level]; q.first != nil || q.last != nil || q.n.Load() != 0 {
			t.Errorf("someone still waits at level %v", Level(level))
		}
	}
}

// A context that has ended already ends the wait, unless there is nothing to wait for.
func TestWaitWithEndedContext(t *testing.T) {
	g, handles := newGroup("1 of a")
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	g.LocalFlush(100)
	for level := Local; level < numLevels; level++ {
		lsn := wal.LSN(100)
		if level == Local {
			lsn = 101
		}
		err := g.Wait(ctx, lsn, level)
		if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.LSN != lsn || !errors.Is(err, cause) {
			t.Errorf("Wait at %v = %v, want *UnknownError of %s by %v", level, err, lsn, cause)
		}
	}
	if err := g.Wait(ctx, 100, Off); err != nil {
		t.Errorf("Wait at off = %v", err)
	}
	handles[0].Report(100, 100, 100)
	if err := g.Wait(ctx, 100, On); err != nil {
		t.Errorf("Wait for what is released = %v", err)
	}
}

// A wait abandoned after its release is a success, and its waiter is clean for the next one.
func TestReleaseBeatsCancel(t *testing.T) {
	g, _ := newGroup("0 of")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := g.waiters.Get().(*waiter)
	w.lsn = 100
	g.waiting[On].insert(w)
	g.LocalFlush(100)
	if err := g.abandon(ctx, w, On); err != nil {
		t.Errorf("abandon after release = %v", err)
	}
	if len(w.done) != 0 || w.queued {
		t.Errorf("waiter put back with %d messages, queued %v", len(w.done), w.queued)
	}
}

// The paths every commit takes allocate nothing.
func TestNoAllocations(t *testing.T) {
	g, handles := newGroup("2 of a b c")
	lsn := wal.LSN(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	check := func(what string, f func()) {
		if n := testing.AllocsPerRun(1000, f); n >= 1 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	check("report and flush", func() {
		lsn += 8
		g.LocalFlush(lsn)
		for _, h := range handles {
			h.Report(lsn, lsn, lsn)
		}
	})
	check("report of nothing new", func() { handles[0].Report(lsn, lsn, lsn) })
	check("wait for what is there", func() { _ = g.Wait(ctx, lsn, On) })
	if !raceEnabled { // under the race detector a sync.Pool forgets on purpose
		woken := make(chan wal.LSN)
		go func() {
			for l := range woken {
				g.LocalFlush(l)
				handles[0].Report(l, l, l)
				handles[1].Report(l, l, l)
			}
		}()
		check("wait", func() {
			lsn += 8
			woken <- lsn
			_ = g.Wait(ctx, lsn, On)
		})
		close(woken)
	}
}

// Waiting counts who waits now, at whatever level, and nobody else; OnRelease tells when they have become
// fewer because they were let go.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, handles := newGroup("1 of a")
		var releases []int
		g.OnRelease = func() { releases = append(releases, g.Waiting()) }
		ctx, giveUp := context.WithCancel(t.Context())
		var sessions sync.WaitGroup
		for _, level := range []Level{Local, RemoteWrite, On, On, RemoteApply} {
			sessions.Go(func() { g.Wait(ctx, 100, level) })
		}
		check := func(want int, told []int, when string) {
			t.Helper()
			synctest.Wait()
			if got := g.Waiting(); got != want || !slices.Equal(releases, told) {
				t.Errorf("%s %d wait, want %d; OnRelease saw %v, want %v", when, got, want, releases, told)
			}
		}
		check(5, nil, "at first")
		g.LocalFlush(100)
		check(4, []int{4}, "once it is flushed here")
		handles[0].Report(100, 100, 0)
		check(1, []int{4, 1}, "once it is flushed there")
		g.LocalFlush(200)
		check(1, []int{4, 1}, "after more that nobody waits for")
		giveUp()
		check(0, []int{4, 1}, "once the last has given up")
		sessions.Wait()
	})
}
