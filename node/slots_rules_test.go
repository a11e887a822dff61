package node

import (
	"testing"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A member may have flushed what the rule does not hold yet: Raft is told of the horizon at most, since what lies
// beyond need not be in the next primary's log.
func TestNewSlot(t *testing.T) {
	member, since := syncrep.ID{Node: 2, Incarnation: 5}, time.Unix(9, 0)
	for restart, want := range map[wal.LSN]wal.LSN{0: 0, 90: 90, 100: 100, 150: 100} {
		got := newSlot(slots.Slot{Name: "n2", Restart: restart, InactiveSince: since, PID: 7}, member, 100)
		if got != (raftlog.Slot{Name: "n2", Restart: want, Member: member, InactiveSince: since}) {
			t.Errorf("at %s, with the horizon at 0/64, it is told as %+v, want at %s", restart, got, want)
		}
	}
}

// Another slot may have the name by the time a drop is agreed on.
func TestDropOf(t *testing.T) {
	if got, want := *dropOf(slots.Slot{Name: "vault", Number: 7}, "vault", 3), (raftlog.SlotDrop{Epoch: 3, Name: "vault", Number: 7, Final: true}); got != want {
		t.Errorf("dropOf() = %+v, want %+v", got, want)
	}
	if got, want := *dropOf(slots.Slot{}, "vault", 3), (raftlog.SlotDrop{Epoch: 3, Name: "vault", Final: true}); got != want {
		t.Errorf("dropOf() = %+v, want %+v", got, want)
	}
}

// What a primary knows of its slots before its epoch is open may be of a horizon that does not hold: it keeps it to
// itself, and so does who is none, or none of this epoch.
func TestSpeaksOfSlotsOnceOpen(t *testing.T) {
	s := &raftlog.State{Epoch: 3}
	r := &reign{epoch: 3, primary: &primary{}, opened: make(chan struct{})}
	if r.speaks(s) {
		t.Error("it speaks before its epoch is open")
	}
	close(r.opened)
	if !r.speaks(s) {
		t.Error("it is silent in its epoch")
	}
	if r.speaks(&raftlog.State{Epoch: 4}) {
		t.Error("it speaks in another epoch")
	}
	if r.primary = nil; r.speaks(s) {
		t.Error("a standby speaks")
	}
}

// A member keeps its slot for as long as its disk is the same and the slot keeps something. One that was invalidated
// would keep nothing for it from now on: it gets another, and so does another disk.
func TestMemberGetsAnotherSlot(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	r, _ := n.node.present.load()
	disk, other := syncrep.ID{Node: 9, Incarnation: 1}, syncrep.ID{Node: 9, Incarnation: 2}
	name, redo := slots.MemberName("n9"), r.checkpointer.Control().Redo
	admit := func(id syncrep.ID) slots.Slot {
		t.Helper()
		if err := r.admit("n9", id); err != nil {
			t.Fatal(err)
		}
		slot, ok := r.slots.Get(name)
		if !ok || slot.Restart == 0 {
			t.Fatalf("the slot of %s keeps nothing: %+v", id, slot)
		}
		return slot
	}
	move := func(to wal.LSN) {
		t.Helper()
		h, err := r.slots.Acquire(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		h.Advance(to)
		h.Release()
	}
	if got := admit(disk); got.Restart != redo {
		t.Errorf("a new member's slot begins at %s, want the redo position %s", got.Restart, redo)
	}
	move(redo + 8)
	if got := admit(disk); got.Restart != redo+8 {
		t.Errorf("a member that comes back finds its slot at %s, want where it was, %s", got.Restart, redo+8)
	}
	if lost, err := r.slots.Invalidate(slots.Cutoff{Before: redo + 9}); err != nil || len(lost) != 1 {
		t.Fatalf("invalidated: %v, %v", lost, err)
	}
	if got := admit(disk); got.Restart != redo {
		t.Errorf("after its slot was lost the member's begins at %s, want %s", got.Restart, redo)
	}
	if lost, err := r.slots.Invalidate(slots.Cutoff{Before: redo + 9}); err != nil || len(lost) != 1 {
		t.Fatalf("invalidated: %v, %v", lost, err)
	}
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	end, _, err := r.endForMember("n9")
	if got, _ := r.slots.Get(name); err != nil || end <= redo || got.Restart != end {
		t.Errorf("a base copy ends at %s, %v, and the member's slot begins at %s", end, err, got.Restart)
	}
	if err := r.slots.Renew(name, redo, admitter); err != nil {
		t.Fatal(err)
	}
	move(redo + 8)
	if got := admit(other); got.Restart != redo {
		t.Errorf("another disk finds the slot at %s, want a new one at %s", got.Restart, redo)
	}
}

// What a node was told to keep as a standby may begin behind its own redo position. A new slot begins where the others
// keep the log, at once, and not where only the primary does.
func TestNewSlotBeginsWhereAllKeep(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	r, _ := n.node.present.load()
	own := n.awaitSlot(r.ownSlot())
	own.Restart = r.horizon.Load()
	if redo := r.checkpointer.Control().Redo; own.Restart <= redo {
		t.Fatalf("the horizon %s is not past the redo position %s", own.Restart, redo)
	}
	if _, err := n.node.raft.Propose(t.Context(), &raftlog.SlotAdvance{Epoch: r.epoch, Slots: []raftlog.Slot{own}}); err != nil {
		t.Fatal(err)
	}
	hold := r.slots.Hold()
	defer hold.Release()
	if got := r.reserveWAL(hold); got != own.Restart {
		t.Errorf("a new slot would begin at %s, and the others keep the log from %s on", got, own.Restart)
	}
	if got := n.value("SELECT lsn::text FROM pg_create_physical_replication_slot('s', true)"); got != own.Restart.String() {
		t.Errorf("a new slot begins at %s, want %s", got, own.Restart)
	}
}

// awaitSlot returns a slot as Raft has it, once it does.
func (n *testNode) awaitSlot(name string) raftlog.Slot {
	n.t.Helper()
	for {
		s, changed := n.node.raft.Watch()
		if slot, ok := s.Slot(name); ok {
			return slot
		}
		select {
		case <-changed:
		case <-n.ended.Done():
			n.t.Fatalf("node %s has ended: %v", n.cfg.Name, n.err)
		}
	}
}
