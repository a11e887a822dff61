package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
)

// A slotModel is three nodes with slots that come and go, and what is known of their consumers. Slot
// "own0" is what the others keep for node 0, and so on.
type slotModel struct {
	*rapid.T
	random  *rand.Rand
	agreed  *raftlog.State
	past    []*raftlog.State // what was agreed on before
	primary int
	nodes   [3]*modelNode

	spared bool // the limits never take a member's slot: then every node keeps what new slots rely on

	horizon, flushed wal.LSN // what any next primary has; what this one has
	consumers        map[string]*modelConsumer
}

type modelNode struct {
	slotNode
	redo  wal.LSN
	known uint64  // of the states it has seen, the newest
	cut   wal.LSN // the limits of this node took what needed the log before that
}

// A modelConsumer is all that the model knows of one slot.
type modelConsumer struct {
	number    uint64
	confirmed wal.LSN // 0: it has never come
	handle    *slots.Handle
	revoked   bool // its slot was invalidated under its hands
	taken     bool // its slot was invalidated, somewhere: it may be lost
}

var modelNames = []string{"a", "b", "c"}

func newSlotModel(t *rapid.T) *slotModel {
	seed := rapid.Uint64().Draw(t, "seed")
	w := &slotModel{T: t, random: rand.New(rand.NewPCG(seed, 2)), horizon: 100, flushed: 100, consumers: map[string]*modelConsumer{}}
	w.spared = rapid.Bool().Draw(t, "spared")
	w.agreed = &raftlog.State{Index: 5, Epoch: 1}
	for i := range w.nodes {
		w.agreed.Slots = append(w.agreed.Slots, raftlog.Slot{Name: ownName(i), Number: uint64(i + 1), Restart: 100})
	}
	for i := range w.nodes {
		w.nodes[i] = &modelNode{slotNode: slotNode{disk: vfs.NewCrashableMem(), removed: 1, seen: w.agreed}, redo: 100}
		w.open(i)
		w.mirror(i, false)
	}
	w.attachAll()
	return w
}

func ownName(i int) string { return fmt.Sprintf("own%d", i) }

func (w *slotModel) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *slotModel) node(label string) int { return rapid.IntRange(0, len(w.nodes)-1).Draw(w.T, label) }

func (w *slotModel) slotName() string { return rapid.SampledFrom(modelNames).Draw(w.T, "slot") }

// lsn draws a position.
func (w *slotModel) lsn(label string, low, high wal.LSN) wal.LSN {
	return wal.LSN(rapid.Uint64Range(uint64(low), uint64(max(low, high))).Draw(w.T, label))
}

func (w *slotModel) open(i int) {
	s, err := slots.Open(w.nodes[i].disk, "pg_replslot", 10)
	w.must(err)
	w.nodes[i].slots = s
}

// mirror is what keepSlots does.
func (w *slotModel) mirror(i int, leading bool) {
	n := w.nodes[i]
	if n.seen.Index < n.known {
		return // raftlog.Node.CaughtUp
	}
	n.known = n.seen.Index
	a := slots.Agreement{AsOf: n.seen.Index, Leading: leading, Oldest: func() (wal.LSN, error) { return n.removed, nil }}
	for _, s := range n.seen.Slots {
		if s.Name != ownName(i) {
			a.Slots = append(a.Slots, slots.Agreed{
				Name: s.Name, Number: s.Number, Restart: s.Restart,
				InactiveSince: s.InactiveSince, InvalidatedAt: s.InvalidatedAt, Reason: s.Reason,
			})
		}
	}
	w.must(n.slots.Mirror(a))
}

// agree has Raft take a list of slots; the primary hears of it.
func (w *slotModel) agree(list []raftlog.Slot) {
	next := *w.agreed
	next.Index++
	next.Slots = list
	w.past = append(w.past, w.agreed)
	w.agreed, w.nodes[w.primary].seen = &next, &next
	w.mirror(w.primary, true)
}

// begin is where new slots begin: where every node still has the log.
func (w *slotModel) begin() wal.LSN {
	own, _ := w.agreed.Slot(ownName(w.primary))
	return max(own.Restart, w.nodes[w.primary].redo)
}

// with is a list of Raft's slots with one more, by name, or with one in another's place.
func with(list []raftlog.Slot, s raftlog.Slot) []raftlog.Slot {
	var out []raftlog.Slot
	placed := false
	for _, other := range list {
		if !placed && other.Name >= s.Name {
			out, placed = append(out, s), true
		}
		if other.Name != s.Name {
			out = append(out, other)
		}
	}
	if !placed {
		out = append(out, s)
	}
	return out
}

func (w *slotModel) create(*rapid.T) {
	name, reserve := w.slotName(), rapid.Bool().Draw(w.T, "reserve")
	err := w.nodes[w.primary].slots.CanCreate(name)
	if (w.consumers[name] != nil) != errors.Is(err, slots.ErrExists) {
		w.Fatalf("CanCreate(%s): %v", name, err)
	}
	if err != nil {
		return
	}
	s := raftlog.Slot{Name: name, Number: w.agreed.Index + 1}
	if reserve {
		s.Restart = w.begin()
	}
	w.consumers[name] = &modelConsumer{number: s.Number, confirmed: s.Restart}
	w.agree(with(w.agreed.Slots, s))
}

func (w *slotModel) drop(*rapid.T) {
	name := w.slotName()
	c := w.consumers[name]
	err := w.nodes[w.primary].slots.Claim(w.Context(), name, 50, false)
	switch {
	case c == nil && errors.Is(err, slots.ErrNotFound):
	case c != nil && c.handle != nil && errors.Is(err, slots.ErrActive):
	case c != nil && c.handle == nil && err == nil:
		delete(w.consumers, name)
		var rest []raftlog.Slot
		for _, s := range w.agreed.Slots {
			if s.Name != name {
				rest = append(rest, s)
			}
		}
		w.agree(rest)
	default:
		w.Fatalf("drop %s: %v", name, err)
	}
}

// connect has a consumer come back to its slot. If the log is gone that it needs, the slot must have said
// so; it takes a new copy then.
func (w *slotModel) connect(*rapid.T) {
	name, n := w.slotName(), w.nodes[w.primary]
	c := w.consumers[name]
	if c != nil && c.handle != nil {
		return
	}
	slot, _ := n.slots.Get(name)
	h, err := n.slots.Acquire(name, 1)
	if c == nil {
		if !errors.Is(err, slots.ErrNotFound) {
			w.Fatalf("a slot that is dropped is acquired: %v", err)
		}
		return
	}
	w.must(err)
	if c.confirmed != 0 && c.confirmed < n.removed {
		if slot.Restart != 0 || slot.Reason == "" {
			w.Fatalf("the log is removed up to %s, which the consumer of %+v needs from %s on", n.removed, slot, c.confirmed)
		}
		c.confirmed = 0
	}
	if c.confirmed == 0 {
		c.confirmed = w.begin()
	}
	agreed, _ := w.agreed.Slot(name)
	if !unreserved(slot, agreed) {
		h.Advance(c.confirmed)
	} else { // as reserveSlot does
		c.taken = c.taken || c.confirmed < w.begin() // not every node has the log from there on
		h.Advance(c.confirmed)
		w.tell(true)
	}
	c.handle = h
}

func (w *slotModel) advance(*rapid.T) {
	name := w.slotName()
	c := w.consumers[name]
	if c == nil || c.handle == nil {
		return
	}
	before, _ := w.nodes[w.primary].slots.Get(name)
	c.confirmed = w.lsn("to", c.confirmed, w.flushed)
	c.handle.Advance(c.confirmed)
	after, _ := w.nodes[w.primary].slots.Get(name)
	switch {
	case c.revoked && after.Restart != before.Restart:
		w.Fatalf("an invalidated slot moves: %+v", after)
	case !c.revoked && after.Restart != c.confirmed:
		w.Fatalf("the consumer is at %s, its slot %+v", c.confirmed, after)
	}
}

func (w *slotModel) disconnect(*rapid.T) {
	if c := w.consumers[w.slotName()]; c != nil && c.handle != nil {
		c.handle.Release()
		c.handle, c.revoked = nil, false
	}
}

// attach has a standby use its slot, and so it is never idle.
func (w *slotModel) attach(i int) *slots.Handle {
	h, err := w.nodes[w.primary].slots.Acquire(ownName(i), int32(10+i))
	w.must(err)
	return h
}

func (w *slotModel) attachAll() {
	for i := range w.nodes {
		if i != w.primary {
			w.attach(i)
		}
	}
}

// write writes, and the standbys say what they have.
func (w *slotModel) write(*rapid.T) {
	w.flushed += w.lsn("bytes", 1, 150)
	w.horizon = w.lsn("horizon", w.horizon, w.flushed)
	for i := range w.nodes {
		if i != w.primary && rapid.Bool().Draw(w.T, "confirms") {
			w.attach(i).Advance(w.horizon)
		}
	}
}

func (w *slotModel) publish(*rapid.T) { w.tell(rapid.Bool().Draw(w.T, "now")) }

// tell is publishMoved.
func (w *slotModel) tell(force bool) {
	n := w.nodes[w.primary]
	moved, due := movedSlots(n.slots.List(), n.seen, w.horizon, slotSegment)
	own, _ := n.seen.Slot(ownName(w.primary))
	if now, dueNow := movedOwn(own, n.redo); now != own {
		moved, due = append(moved, now), due || dueNow
	}
	if len(moved) == 0 || !due && !force {
		return
	}
	list := w.agreed.Slots
	for _, m := range moved {
		list = with(list, m)
	}
	w.agree(list)
}

func (w *slotModel) hear(*rapid.T) {
	i := w.node("node")
	w.nodes[i].seen = w.agreed
	w.mirror(i, i == w.primary)
}

// checkpoint removes what no slot needs.
func (w *slotModel) checkpoint(*rapid.T) {
	n := w.nodes[w.node("node")]
	n.redo = w.lsn("redo", n.redo, w.horizon)
	w.must(n.slots.Save())
	keep := n.redo
	if pinned := n.slots.MinRestart(); pinned != 0 {
		keep = min(keep, pinned)
	}
	n.removed = max(n.removed, keep)
}

// invalidate is what the limits do, of size on any node, of time on the primary.
func (w *slotModel) invalidate(*rapid.T) {
	i := w.node("node")
	n := w.nodes[i]
	before := n.redo
	for j := range w.nodes {
		if s, ok := n.slots.Get(ownName(j)); ok && w.spared {
			agreed, _ := n.seen.Slot(s.Name)
			before = min(before, s.Restart, agreed.Restart)
		}
	}
	cutoff := slots.Cutoff{Before: w.lsn("before", min(n.removed, before), before)}
	if i == w.primary && rapid.Bool().Draw(w.T, "idle") {
		cutoff = slots.Cutoff{IdleSince: time.Now().Add(time.Hour)}
	}
	w.must(n.slots.Save()) // as a checkpoint does
	lost, err := n.slots.Invalidate(cutoff)
	w.must(err)
	n.cut = max(n.cut, cutoff.Before)
	for _, l := range lost {
		if l.Reason == slots.IdleTimeout && l.PID != 0 || l.Reason == slots.WALRemoved && l.Restart >= cutoff.Before {
			w.Fatalf("%+v by %+v", l, cutoff)
		}
		if c := w.consumers[l.Name]; c != nil {
			c.taken, c.revoked = true, c.revoked || l.PID != 0
		}
	}
	if pinned := n.slots.MinRestart(); pinned != 0 && pinned < cutoff.Before {
		w.Fatalf("after an invalidation before %s slots need the log from %s on", cutoff.Before, pinned)
	}
}

// reopen ends a node's process, perhaps with the power of its disk.
func (w *slotModel) reopen(i int) {
	n := w.nodes[i]
	if rapid.Bool().Draw(w.T, "power") {
		n.disk = n.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.random.IntN(101), RNG: w.random})
	}
	w.open(i)
	w.mirror(i, false)
}

func (w *slotModel) crash(*rapid.T) {
	i := w.node("node")
	if i == w.primary {
		return
	}
	if n := w.nodes[i]; len(w.past) > 0 && rapid.Bool().Draw(w.T, "old state") {
		n.seen = rapid.SampledFrom(w.past).Draw(w.T, "state") // Raft's snapshot is all it knows so far
	}
	w.reopen(i)
}

func (w *slotModel) failOver(*rapid.T) {
	old := w.primary
	w.primary = (old + rapid.IntRange(1, 2).Draw(w.T, "next")) % len(w.nodes)
	w.flushed = w.horizon
	for _, c := range w.consumers {
		c.confirmed = min(c.confirmed, w.horizon)
		c.handle, c.revoked = nil, false
	}
	w.nodes[old].redo = min(w.nodes[old].redo, w.horizon)
	w.reopen(old)
	n := w.nodes[w.primary]
	n.seen = w.agreed
	w.open(w.primary)
	w.mirror(w.primary, false) // as every reign begins
	w.mirror(w.primary, true)
	w.attachAll()
}

// check holds after every step, on every node.
func (w *slotModel) check(*rapid.T) {
	for i, n := range w.nodes {
		lowest := n.slots.MinRestart()
		for _, s := range n.slots.List() {
			if s.Restart != 0 && (s.Restart < n.removed || lowest > s.Restart) {
				w.Fatalf("node %d: %+v, and the log is removed up to %s; needed is %s", i, s, n.removed, lowest)
			}
			c := w.consumers[s.Name]
			if c == nil || c.number != s.Number {
				continue
			}
			if s.Restart > c.confirmed {
				w.Fatalf("node %d: %+v is ahead of its consumer at %s", i, s, c.confirmed)
			}
			lost := s.Restart == 0 && s.InvalidatedAt != 0
			if lost != (s.Reason != "") || lost && w.spared && !c.taken && n.cut <= s.InvalidatedAt {
				w.Fatalf("node %d: %+v: lost for no reason, or nobody knows it", i, s)
			}
		}
	}
	for _, s := range w.agreed.Slots {
		if s.Restart != 0 && (s.Reason != "" || s.InvalidatedAt != 0) {
			w.Fatalf("Raft has %+v: invalidated, and in use again", s)
		}
	}
	for _, name := range modelNames {
		s, ok := w.nodes[w.primary].slots.Get(name)
		if c := w.consumers[name]; ok != (c != nil) || ok && s.Number != c.number {
			w.Fatalf("on the primary slot %s is %+v, there: %t", name, s, ok)
		}
	}
}

// Slots come, go, move, are lost and found, on nodes that crash and take over: none is ever ahead of its
// consumer, none is lost but by a limit and with its reason, and the log is there from where each stands.
func TestSlotModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newSlotModel(t)
		actions := map[string]func(*rapid.T){
			"": w.check, "create": w.create, "drop": w.drop, "connect": w.connect, "advance": w.advance,
			"disconnect": w.disconnect, "write": w.write, "publish": w.publish, "hear": w.hear,
			"checkpoint": w.checkpoint, "invalidate": w.invalidate, "crash": w.crash, "fail over": w.failOver,
		}
		for range 3 { // of 30 steps each
			t.Repeat(actions)
		}
	})
}
