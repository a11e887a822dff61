package integration

import "testing"

// Where a receiver's slot is is known after a restart, however soon that comes.
func TestSlotPositionSurvivesRestart(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	n := newCluster(t, 1).primary()
	r := newReceiver(t, n, "--slot=arch")
	mustRun(t, receivewal, r.args("--create-slot")...)
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	first := n.flushed()
	n.exec("INSERT INTO kv VALUES ('b', '1')")
	r.receiveTo(first)
	const position = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'arch'"
	before := n.value(position)
	n.restart()
	if after := n.value(position); before == "" || after == "" {
		t.Errorf("after a restart restart_lsn = %q, want about %q", after, before)
	}
}
