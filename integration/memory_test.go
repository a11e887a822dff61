package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Many clients send a message of 60 MB but for its last byte. max_total_backend_memory says how many of them have room:
// the others are refused, nobody else notices, and the node takes no more than it may.
func TestLargeMessagesTogether(t *testing.T) {
	t.Parallel()
	const clients, size = 8, 60 << 20 // 54000 begins at 64 MB
	n := newObservedCluster(t, 1, "--max-connections=50").primary()
	n.set("max_total_backend_memory", "160MB")
	large, err := simple("SELECT 1" + strings.Repeat(" ", size)).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := n.connect()
	before := n.memory("VmRSS")
	var wires []*wire
	for range clients {
		w := newWire(t, n.dsn())
		if _, err := w.conn.Conn().Write(large[:len(large)-1]); err != nil {
			t.Fatal(err)
		}
		mustExec(t, other, "INSERT INTO kv VALUES ('a', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value")
		wires = append(wires, w)
	}
	taken := 0
	for _, w := range wires {
		if _, err := w.conn.Conn().Write(large[len(large)-1:]); err != nil {
			t.Fatal(err)
		}
		got := w.receive(1)
		switch {
		case slices.Contains(got, "CommandComplete SELECT 1"):
			taken++
		case !strings.Contains(got[0], "53200: out of memory") || !strings.Contains(got[0], "max_total_backend_memory"):
			t.Errorf("a large message is answered by %q", got)
		}
		if got := w.talk(&pgproto3.Query{String: "SELECT 1"}); !slices.Contains(got, "CommandComplete SELECT 1") {
			t.Errorf("the session afterwards answers %q", got)
		}
	}
	if taken == 0 || taken > 160/60 {
		t.Errorf("%d of %d messages of %d bytes were taken", taken, clients, size)
	}
	if peak := n.memory("VmHWM"); peak-before > 500<<20 {
		t.Errorf("the node has taken %d MB for messages that may take 160 MB", (peak-before)>>20)
	}
	n.awaitMetric("longship_session_memory_bytes", 0)
	n.awaitMetric("longship_session_memory_refused_total", clients-float64(taken))
}

// memory is a size of the node's process, in bytes, that /proc tells in kB.
func (n *node) memory(name string) int {
	n.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.proc.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name+":" {
			kb, _ := strconv.Atoi(fields[1])
			return kb << 10
		}
	}
	n.t.Fatalf("no %s in %s", name, status)
	return 0
}
