package integration

import "testing"

// pg_stat_activity shows who is connected and what they do, which is how somebody finds whom to cancel or to end.
func TestStatActivity(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	n := c.primary()
	ctx, cancel := testContext(t)
	defer cancel()
	idle, busy := n.connect(), n.connect()
	mustExec(t, idle, "SET application_name = 'forgetful'")
	mustExec(t, idle, "BEGIN")
	n.await("SELECT state FROM pg_stat_activity WHERE application_name = 'forgetful'", "idle in transaction")
	failed := make(chan error, 1)
	go func() {
		_, err := busy.Exec(ctx, "SELECT pg_sleep(600)")
		failed <- err
	}()
	const slow = " FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'"
	n.await("SELECT count(*)"+slow+" AND now() - query_start < interval '1 minute'", "1")
	n.await("SELECT wait_event_type || '/' || wait_event"+slow, "Timeout/PgSleep")
	n.await("SELECT wait_event_type || '/' || wait_event FROM pg_stat_activity WHERE application_name = 'forgetful'", "Client/ClientRead")
	n.await("SELECT pg_cancel_backend(pid)"+slow, "t")
	if err := <-failed; sqlState(err) != "57014" {
		t.Errorf("the statement that was cancelled: %v", err)
	}
	n.await("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'forgetful'", "t")
	n.await("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'forgetful'", "0")
	n.await("SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid() AND state = 'active' AND query LIKE '%backend_pid%'", "1")
	n.await("SELECT a.state FROM pg_stat_replication r JOIN pg_stat_activity a ON a.pid = r.pid AND a.backend_type = 'walsender'", "active")
	n.await("SELECT count(*) FROM pg_locks", "0")
}
