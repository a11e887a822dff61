package node

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// sealedAt is a log of the first epoch that ends at end.
func sealedAt(end wal.LSN) *startup.Recovered {
	return &startup.Recovered{History: wal.History{Timeline: 1}, End: wal.End{LSN: end, Timeline: 1}}
}

// A node that was named for another log than the one it has leaves the office, and its disk, alone (I5).
func TestOfficeForAnotherLog(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler)}
	for _, named := range []raftlog.Position{{Epoch: 1, LSN: 0x300000}, {Epoch: 1, LSN: 0x100000}, {Epoch: 2, LSN: 0x200000}} {
		role := Role{Duty: election.Duty{Epoch: 3, Primary: true, Office: raftlog.Office{Position: named}}}
		if taken, err := n.takeOffice(role, sealedAt(0x200000)); taken || err != nil {
			t.Errorf("named for %v: taken %v, %v", named, taken, err)
		}
	}
}

// A node that has more than it is to fetch is not brought to that: what it has was part of its answer (I5).
func TestFetchOfLessThanThereIs(t *testing.T) {
	founded := newTestNode(t, "n1")
	founded.start()
	n := &Node{raft: founded.node.raft, log: slog.New(slog.DiscardHandler)}
	n.promised.Store(9)
	for _, wanted := range []raftlog.Position{{Epoch: 1, LSN: 0x100000}, {Epoch: 0, LSN: 0x300000}} {
		done := make(chan sealReply, 1)
		req := fetchRequest{epoch: 9, position: wanted, ctx: t.Context(), done: done}
		if err := n.fetch(t.Context(), req, sealedAt(0x200000)); err != nil {
			t.Fatal(err)
		}
		if r := <-done; r.err == nil || !strings.Contains(r.err.Error(), "past") {
			t.Errorf("to %v: %v", wanted, r.err)
		}
	}
}
