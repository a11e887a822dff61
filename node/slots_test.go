package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// What is published: where the slots are, not past the horizon, at once if it is a segment or back, and
// only of slots that Raft knows as these.
func TestMovedSlots(t *testing.T) {
	s := &raftlog.State{Slots: []raftlog.Slot{
		{Name: "back", Number: 3, Restart: 500}, {Name: "far", Number: 4, Restart: 300}, {Name: "here", Number: 5, Restart: 300},
		{Name: "lost", Number: 6, Restart: 100}, {Name: "near", Number: 7, Restart: 300}, {Name: "new", Number: 8},
		{Name: "other", Number: 9, Restart: 300}, {Name: "past", Number: 10, Restart: 990},
	}}
	at := func(name string, number uint64, restart wal.LSN) slots.Slot {
		return slots.Slot{Name: name, Number: number, Restart: restart}
	}
	for _, test := range []struct {
		local slots.Slot
		want  wal.LSN // 0: it is not published
		due   bool
	}{
		{at("back", 3, 499), 499, true},
		{at("far", 4, 400), 400, true},
		{at("here", 5, 300), 0, false},
		{slots.Slot{Name: "lost", Number: 6, InvalidatedAt: 100}, 0, false},
		{at("near", 7, 399), 399, false},
		{at("new", 8, 10), 10, true},
		{at("other", 2, 800), 0, false},
		{at("local", 0, 800), 0, false},
		{slots.Slot{Name: "near", Temporary: true, Restart: 800}, 0, false},
		{at("past", 10, 1200), 1000, false},
		{slots.Slot{Name: "near", Number: 7, Restart: 300, InactiveSince: time.Unix(9, 0)}, 300, false},
	} {
		moved, due := movedSlots([]slots.Slot{test.local}, s, 1000, 100)
		var got wal.LSN
		for _, m := range moved {
			got = m.Restart
			if m.Name != test.local.Name || m.Number != test.local.Number {
				t.Errorf("%s is published as %+v", test.local.Name, m)
			}
		}
		if got != test.want || due != test.due {
			t.Errorf("%s at %s: published %s, due %t, want %s, %t", test.local.Name, test.local.Restart, got, due, test.want, test.due)
		}
	}
}

// The primary's own slot is in use, from its redo position on: whatever it was as a standby goes, at once. Held
// against it later, an old idle time would have its slot invalidated as soon as it is a standby again.
func TestMovedOwn(t *testing.T) {
	id := syncrep.ID{Node: 1, Incarnation: 2}
	used := raftlog.Slot{Name: "n1", Number: 3, Member: id, Restart: 500}
	idle, lost, ahead := used, used, used
	idle.InactiveSince = time.Unix(9, 0)
	lost.Restart, lost.InvalidatedAt, lost.Reason = 0, 400, slots.WALRemoved
	ahead.Restart = 600
	for name, test := range map[string]struct {
		own  raftlog.Slot
		redo wal.LSN
		want raftlog.Slot
		due  bool
	}{
		"here":        {used, 500, used, false},
		"moved":       {used, 600, ahead, false},
		"not back":    {ahead, 500, ahead, false},
		"idle":        {idle, 500, used, true},
		"invalidated": {lost, 500, used, true},
	} {
		if got, due := movedOwn(test.own, test.redo); got != test.want || due != test.due {
			t.Errorf("%s: %+v, due %t, want %+v, %t", name, got, due, test.want, test.due)
		}
	}
}

// A client's slot is reserved before its stream if it keeps nothing here, or nothing elsewhere; a member's, and
// one that was made again meanwhile, is not.
func TestUnreserved(t *testing.T) {
	for name, test := range map[string]struct {
		local  slots.Slot
		agreed raftlog.Slot
		want   bool
	}{
		"never used":         {slots.Slot{Number: 3}, raftlog.Slot{Number: 3}, true},
		"not published":      {slots.Slot{Number: 3, Restart: 9}, raftlog.Slot{Number: 3}, true},
		"just invalidated":   {slots.Slot{Number: 3, InvalidatedAt: 9}, raftlog.Slot{Number: 3, Restart: 9}, true},
		"reserved":           {slots.Slot{Number: 3, Restart: 9}, raftlog.Slot{Number: 3, Restart: 5}, false},
		"made again":         {slots.Slot{Number: 3}, raftlog.Slot{Number: 4}, false},
		"a member's":         {slots.Slot{Number: 3}, raftlog.Slot{Number: 3, Member: syncrep.ID{Node: 1}}, false},
		"this node's as yet": {slots.Slot{}, raftlog.Slot{Number: 3}, false},
	} {
		if got := unreserved(test.local, test.agreed); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

// With heartbeats alone in the log Raft hears of a slot only when it comes into use, or out of it.
func TestWorthTelling(t *testing.T) {
	since, later := time.Unix(9, 0), time.Unix(99, 0)
	s := &raftlog.State{Slots: []raftlog.Slot{{Name: "idle", Restart: 300, InactiveSince: since}, {Name: "used", Restart: 300}}}
	r := &reign{redo: &startup.Redo{}}
	for _, test := range []struct {
		moved raftlog.Slot
		want  bool
	}{
		{raftlog.Slot{Name: "idle", Restart: 340, InactiveSince: since}, false},
		{raftlog.Slot{Name: "idle", Restart: 300, InactiveSince: later}, false},
		{raftlog.Slot{Name: "idle", Restart: 300}, true},
		{raftlog.Slot{Name: "used", Restart: 340}, false},
		{raftlog.Slot{Name: "used", Restart: 300, InactiveSince: since}, true},
	} {
		if got := r.worthTelling(s, []raftlog.Slot{test.moved}); got != test.want {
			t.Errorf("%+v: worth telling %t, want %t", test.moved, got, test.want)
		}
	}
}

// Of a slot that this node's limits took Raft hears at once, and why, but once; not of one whose WAL is
// only not here. Raft hears as soon when its consumer is back.
func TestMovedSlotsTellOfLoss(t *testing.T) {
	since := time.Unix(9, 0).UTC()
	s := &raftlog.State{Slots: []raftlog.Slot{
		{Name: "a", Number: 3, Restart: 500}, {Name: "b", Number: 4, Reason: slots.IdleTimeout, InvalidatedAt: 80, InactiveSince: since},
		{Name: "c", Number: 5},
	}}
	lost := slots.Slot{Name: "a", Number: 3, InvalidatedAt: 500, Reason: slots.WALRemoved, InactiveSince: since, Decided: true}
	known := slots.Slot{Name: "b", Number: 4, InvalidatedAt: 80, Reason: slots.IdleTimeout, InactiveSince: since, Decided: true}
	early := slots.Slot{Name: "c", Number: 5, InvalidatedAt: 90, Reason: slots.WALRemoved, InactiveSince: since, Decided: true}
	elsewhere := lost
	elsewhere.Decided = false
	elsewhere.InactiveSince = time.Time{}
	for _, test := range []struct {
		local slots.Slot
		want  []raftlog.Slot
		due   bool
	}{
		{lost, []raftlog.Slot{{Name: "a", Number: 3, InvalidatedAt: 500, Reason: slots.WALRemoved, InactiveSince: since}}, true},
		{known, nil, false},
		{early, []raftlog.Slot{{Name: "c", Number: 5, InvalidatedAt: 90, Reason: slots.WALRemoved, InactiveSince: since}}, true},
		{elsewhere, nil, false},
		{slots.Slot{Name: "b", Number: 4, Restart: 85, InvalidatedAt: 80}, []raftlog.Slot{{Name: "b", Number: 4, Restart: 85}}, true},
	} {
		moved, due := movedSlots([]slots.Slot{test.local}, s, 1000, 100)
		if !slices.Equal(moved, test.want) || due != test.due {
			t.Errorf("%+v: published %+v, due %t", test.local, moved, due)
		}
	}
}

// A slotWorld is three nodes with the slot of one consumer, and what Raft holds of it.
type slotWorld struct {
	t       *testing.T
	random  *rand.Rand
	trace   []string
	agreed  *raftlog.State
	primary int
	nodes   [3]*slotNode

	horizon   wal.LSN // what any next primary has
	flushed   wal.LSN // what this primary has
	confirmed wal.LSN // by the consumer
	handle    *slots.Handle
	unheard   bool    // the consumer went back, and that is not published yet
	released  wal.LSN // the furthest that was published: no node has to have the log before that
}

type slotNode struct {
	disk    *vfs.MemFS
	slots   *slots.Slots
	removed wal.LSN // the log before that is gone
	seen    *raftlog.State
}

const slotSegment = 100

func newSlotWorld(t *testing.T, seed uint64) *slotWorld {
	w := &slotWorld{t: t, random: rand.New(rand.NewPCG(seed, 1)), horizon: 100, flushed: 100, confirmed: 100, released: 100}
	w.agreed = &raftlog.State{Index: 5, Epoch: 1, Slots: []raftlog.Slot{{Name: "s", Number: 5, Restart: 100}}}
	for i := range w.nodes {
		disk := vfs.NewCrashableMem()
		w.nodes[i] = &slotNode{disk: disk, removed: 1, seen: w.agreed}
		w.open(i)
		w.mirror(i, false)
	}
	w.connect()
	return w
}

func (w *slotWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%v", err, w.trace)
	}
}

func (w *slotWorld) open(i int) {
	s, err := slots.Open(w.nodes[i].disk, "pg_replslot", 10)
	w.must(err)
	w.nodes[i].slots = s
}

func (w *slotWorld) mirror(i int, leading bool) {
	n := w.nodes[i]
	a := slots.Agreement{AsOf: n.seen.Index, Leading: leading, Oldest: func() (wal.LSN, error) { return n.removed, nil }}
	for _, s := range n.seen.Slots {
		a.Slots = append(a.Slots, slots.Agreed{Name: s.Name, Number: s.Number, Restart: s.Restart})
	}
	w.must(n.slots.Mirror(a))
}

func (w *slotWorld) connect() {
	h, err := w.nodes[w.primary].slots.Acquire("s", 1)
	w.must(err)
	w.handle = h
}

// publish is what keepSlots does, to which Raft listens, or not.
func (w *slotWorld) publish(force bool) {
	moved, due := movedSlots(w.nodes[w.primary].slots.List(), w.nodes[w.primary].seen, w.horizon, slotSegment)
	if len(moved) == 0 || !due && !force {
		return
	}
	next := *w.agreed
	next.Index++
	next.Slots = moved
	w.agreed, w.nodes[w.primary].seen = &next, &next
	w.unheard = w.unheard && moved[0].Restart > w.confirmed
	w.released = max(w.released, moved[0].Restart)
	w.mirror(w.primary, true)
}

// checkpoint removes what no slot needs, up to the horizon.
func (w *slotWorld) checkpoint(i int) {
	n := w.nodes[i]
	w.must(n.slots.Save())
	n.removed = max(n.removed, min(n.slots.MinRestart(), w.horizon))
}

// crash ends a node's process, and the power of its disk. What it hears of Raft first is old.
func (w *slotWorld) crash(i int) {
	n := w.nodes[i]
	n.disk = n.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.random.IntN(101), RNG: w.random})
	w.open(i)
	w.checkpoint(i)
}

// failover makes another node the primary. It has what was acknowledged, and the state of Raft.
func (w *slotWorld) failover() {
	old := w.primary
	w.primary = (old + 1 + w.random.IntN(2)) % 3
	w.flushed, w.confirmed = w.horizon, min(w.confirmed, w.horizon)
	if w.random.IntN(2) == 0 {
		w.crash(old)
	} else {
		w.open(old)
	}
	w.mirror(old, false)
	n := w.nodes[w.primary]
	n.seen = w.agreed
	w.open(w.primary)
	w.mirror(w.primary, false)
	slot, ok := n.slots.Get("s")
	switch {
	case !ok:
		w.must(errors.New("the next primary does not have the slot"))
	case slot.Restart > w.confirmed && !w.unheard:
		w.must(fmt.Errorf("on the next primary the slot is at %s, ahead of its consumer at %s", slot.Restart, w.confirmed))
	case slot.Restart == 0 && w.agreed.Slots[0].Restart < w.released:
	case slot.Restart < n.removed:
		w.must(fmt.Errorf("on the next primary, node %d, the slot is %+v, Raft has it at %s, and the log begins at %s", w.primary, slot, w.agreed.Slots[0].Restart, n.removed))
	}
	w.connect()
}

func (w *slotWorld) step() {
	what := []string{"write", "write", "confirm", "confirm", "back", "publish", "publish now", "hear", "checkpoint", "checkpoint", "crash", "fail over"}
	do := what[w.random.IntN(len(what))]
	i := w.random.IntN(3)
	w.trace = append(w.trace, fmt.Sprintf("%s/%d", do, i))
	switch do {
	case "write":
		w.flushed += wal.LSN(1 + w.random.IntN(150))
		w.horizon += wal.LSN(w.random.Uint64N(uint64(w.flushed - w.horizon + 1)))
	case "confirm":
		w.confirmed = max(w.confirmed, wal.LSN(w.random.Uint64N(uint64(w.flushed)+1)))
		w.handle.Advance(w.confirmed)
	case "back":
		w.confirmed = max(w.nodes[w.primary].removed, w.confirmed-min(w.confirmed, wal.LSN(w.random.IntN(30))))
		w.handle.Advance(w.confirmed)
		w.unheard = true
	case "publish":
		w.publish(false)
	case "publish now":
		w.publish(true)
	case "hear":
		if i != w.primary {
			w.nodes[i].seen = w.agreed
			w.mirror(i, false)
		}
	case "checkpoint":
		w.checkpoint(i)
	case "crash":
		if i != w.primary {
			w.crash(i)
			w.mirror(i, false)
		}
	case "fail over":
		w.failover()
	}
}

// Whatever happens, the next primary has the slot, where its consumer is or before, and the log from
// there on.
func TestSlotIsNeverAheadOfItsConsumer(t *testing.T) {
	removed := 0
	for seed := range uint64(300) {
		w := newSlotWorld(t, seed)
		for range 150 {
			w.step()
		}
		for _, n := range w.nodes {
			removed += int(n.removed) / slotSegment
		}
	}
	if removed < 300 {
		t.Errorf("only %d segments were removed", removed)
	}
}
