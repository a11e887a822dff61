package node

import (
	"testing"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
)

// A standby shows how far another member is by what that one answers, which tells all of it.
func TestStandbyShowsWhatMembersAnswer(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	h, err := n1.node.Probe(t.Context(), election.ProbeRequest{})
	if err != nil || h.Replay == 0 || h.Replay > h.Position.LSN || h.Position.LSN > h.Write {
		t.Errorf("n1 answers %+v, %v", h, err)
	}
	h.Write, h.Position, h.Replay = 0x7000300, raftlog.Position{Epoch: 1, LSN: 0x7000200}, 0x7000100
	nb := &n2.node.neighbours
	nb.mu.Lock()
	nb.known, nb.asked = map[string]election.Health{"n1": h}, time.Now().Add(time.Hour)
	nb.mu.Unlock()
	const asked = "SELECT write_lsn || ' ' || flush_lsn || ' ' || replay_lsn || ' ' || state FROM longship_members WHERE name = 'n1'"
	if got := n2.value(asked); got != "0/7000300 0/7000200 0/7000100 running" {
		t.Errorf("n2 shows n1 at %s", got)
	}
}
