package syncrep

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

// A commitWait is a commit that waits, or has.
type commitWait struct {
	lsn   wal.LSN
	level Level
	ended chan error // its one error, or nil
}

// Waiters, at the moment of a change of the rules as at any other, are let go exactly as the rules in force
// then say: all of those whom they satisfy, and none besides. A cancelled one is told that it is unknown.
func TestWaitersFollowTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type plain struct{ testing.TB } // without Deadline, which a bubble must not call
		rapid.Check(plain{t}, checkWaiters)
	})
}

func checkWaiters(t *rapid.T) {
	p := &pair{group: NewGroup(), model: &model{}, handles: map[*Standby]*Handle{}}
	_, own := disk("own")
	p.group.SetMembers([]ID{own}, own)
	for _, name := range []string{"a", "a~2", "b", "c"} { // the lease holds, whatever the rules
		h := p.group.Join(disk(name))
		h.Promise(time.Now().Add(time.Hour))
		h.Leave()
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var waits []*commitWait
	wait := func(t *rapid.T) {
		w := &commitWait{lsn(t, "commit") + 1, Level(rapid.IntRange(int(Local), int(RemoteApply)).Draw(t, "level")), make(chan error, 1)}
		waits = append(waits, w)
		go func() { w.ended <- p.group.Wait(ctx, w.lsn, w.level) }()
	}
	steps := map[string]func(*rapid.T){
		"rules": p.setRules, "rules again": p.setRules, "join": p.join, "leave": p.leave, "report": p.report,
		"wait": wait, "wait again": wait,
		"flush": func(t *rapid.T) {
			l := lsn(t, "flush")
			p.group.LocalFlush(l)
			p.model.flushed = max(p.model.flushed, l)
		},
	}
	for name, step := range steps {
		steps[name] = func(t *rapid.T) {
			step(t)
			p.model.judge()
		}
	}
	steps[""] = func(t *rapid.T) {
		synctest.Wait()
		for _, w := range waits {
			if ended := len(w.ended) == 1; ended != (w.lsn <= p.model.released[w.level]) {
				t.Fatalf("commit at %s, %s: ended %v, but %s is released at that level", w.lsn, w.level, ended, p.model.released[w.level])
			}
		}
	}
	p.setRules(t)
	p.model.judge()
	t.Repeat(steps)
	cancel(errors.New("canceled by user"))
	synctest.Wait()
	for _, w := range waits {
		_, unknown := errors.AsType[*UnknownError](<-w.ended)
		if released := w.lsn <= p.model.released[w.level]; unknown == released {
			t.Fatalf("commit at %s, %s: unknown %v, released %v", w.lsn, w.level, unknown, released)
		}
	}
}
