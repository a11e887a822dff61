package integration

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// One of three is lost and all must acknowledge: commits go on with a warning, and a debt that only the
// primary has. Nobody takes its place while it lasts: it does so itself. When the third is back the debt is
// over.
func TestDegrade(t *testing.T) {
	c := newCluster(t, 3, "--synchronous-standby-names=ANY 2 (*)", "--synchronous-mode=degrade", "--degrade-after=500")
	c.awaitCounted(3)
	c.awaitStreaming()
	c.primary().await("SELECT debt_since FROM longship_cluster", "") // of when it was alone
	primary, lost := c.primary(), c.standbys()[0]
	primary.exec("INSERT INTO kv VALUES ('before', '1')")
	lost.kill9()

	if notice := noticeOf(t, primary, "INSERT INTO kv VALUES ('during', '1')"); notice != "01000" {
		t.Errorf("commit while degraded: notice %q, want 01000", notice)
	}
	primary.await("SELECT debt_commits FROM longship_cluster", "1")
	if _, err := primary.tryValue("SELECT value FROM kv WHERE key = 'during'"); err != nil {
		t.Errorf("read while degraded: %v", err)
	}

	epoch := primary.epoch()
	primary.kill9()
	primary.start()
	primary.await("SELECT role FROM longship_cluster", "primary")
	if now := primary.epoch(); now <= epoch {
		t.Errorf("epoch %d after the restart, %d before", now, epoch)
	}
	if notice := noticeOf(t, primary, "INSERT INTO kv VALUES ('again', '1')"); notice != "01000" {
		t.Errorf("commit after the restart: notice %q, want 01000", notice)
	}

	lost.start()
	primary.await("SELECT debt_since FROM longship_cluster", "")
	if notice := noticeOf(t, primary, "INSERT INTO kv VALUES ('after', '1')"); notice != "" {
		t.Errorf("commit after the debt: notice %q", notice)
	}
	c.awaitCaughtUp()
	c.checkSame()
}

// noticeOf runs a statement and returns the SQLSTATE of the notice that came with it.
func noticeOf(t *testing.T, n *node, statement string) (code string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg, err := pgx.ParseConfig(n.dsn())
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { code = notice.Code }
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return code
}
