package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/raftlog"
)

func (n *testNode) shows(name, want string) {
	n.t.Helper()
	if got := n.value("SHOW " + name); got != want {
		n.t.Errorf("%s: %s is %s, want %s", n.cfg.Name, name, got, want)
	}
}

// awaitSetting waits until a node goes by a value, as SHOW prints it.
func (n *testNode) awaitSetting(name, want string) {
	n.t.Helper()
	for {
		changed := n.node.settings.Changed()
		got, err := n.node.settings.Show(name)
		if err != nil {
			n.t.Fatal(err)
		}
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-n.t.Context().Done():
			n.t.Fatalf("%s: %s is still %s, want %s", n.cfg.Name, name, got, want)
		}
	}
}

// What ALTER SYSTEM writes applies from the reload on, on every node, and still does after a restart; then
// also what needs one.
func TestClusterSettings(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	n2.exec("ALTER SYSTEM SET wal_keep_size = '3MB'") // on the standby
	n2.exec("ALTER SYSTEM SET max_connections = 40")
	for _, n := range []*testNode{n1, n2} {
		n.shows("wal_keep_size", "0")
	}
	if got := n2.value("SELECT pg_reload_conf()::text"); got != "true" {
		t.Errorf("pg_reload_conf() is %s", got)
	}
	n2.shows("wal_keep_size", "3MB") // where it was asked for, at once
	n1.awaitSetting("wal_keep_size", "3MB")
	const pending = "SELECT setting || ', ' || source || ', ' || pending_restart FROM pg_settings WHERE name = 'max_connections'"
	for _, n := range []*testNode{n1, n2} {
		if got := n.value(pending); got != "100, default, true" {
			t.Errorf("%s: max_connections is %s", n.cfg.Name, got)
		}
		if got := n.node.retention().KeepSize; got != 3<<20 {
			t.Errorf("%s keeps %d bytes", n.cfg.Name, got)
		}
	}
	n2.stop()
	n2.start()
	n2.shows("wal_keep_size", "3MB")
	if got := n2.value(pending); got != "40, configuration file, false" {
		t.Errorf("after a restart max_connections is %s", got)
	}
}

// A node that finds nobody starts with the settings it had last; a file that nobody can read is none.
func TestStartWithRememberedSettings(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	n.exec("ALTER SYSTEM SET statement_timeout = '70s'")
	if err := n.node.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.stop()
	file := filepath.Join(n.cfg.DataDir, "global", settingsFile)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text, want string
		generation uint64
	}{
		{string(whole), "70000", 1},
		{`{"generation": 7, "settings": {"statement_timeout": "1s", "from_tomorrow": "on", "port": "1"}}`, "1000", 7},
		{`{"generation": 7, "settings"`, "0", 0},
		{`{"generation": 7, "settings": []}`, "0", 0},
		{"", "0", 0},
	} {
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := New(n.cfg)
		if err != nil {
			t.Fatal(err)
		}
		again.dir.FS, again.dir.Path = n.node.dir.FS, n.cfg.DataDir
		again.recallSettings()
		if got := again.settings.String("statement_timeout"); got != test.want || again.configured.Generation != test.generation {
			t.Errorf("%s: statement_timeout is %s, generation %d", test.text, got, again.configured.Generation)
		}
	}
}

// Raft comes up with a snapshot, which may be older than what the node has seen.
func TestOldSettingsAreNotTaken(t *testing.T) {
	n, err := New(newTestNode(t, "n1").cfg)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(generation uint64, timeout string) {
		n.applySettings(&raftlog.State{Generation: generation, Applied: map[string]string{"statement_timeout": timeout}})
	}
	apply(3, "3s")
	apply(2, "2s")
	apply(3, "4s")
	if got := n.settings.String("statement_timeout"); got != "3000" {
		t.Errorf("statement_timeout is %s", got)
	}
	apply(4, "4s")
	if got := n.settings.String("statement_timeout"); got != "4000" {
		t.Errorf("statement_timeout is %s", got)
	}
}

// A value that cannot be used, written by a node of another version, leaves the one before as it is, on a running
// node; and it is said which one, and why.
func TestSettingTurnsInvalid(t *testing.T) {
	n := newTestNode(t, "n1")
	logged := new(lines)
	n.cfg.Logger = slog.New(slog.NewTextHandler(logged, nil))
	n.start()
	write := func(values map[string]string) {
		t.Helper()
		for name, value := range values {
			if _, err := n.node.raft.Propose(t.Context(), &raftlog.SettingSet{Name: name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.node.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]string{"wal_sender_timeout": "7s", "statement_timeout": "8s"})
	write(map[string]string{"wal_sender_timeout": "soon", "statement_timeout": "9s"})
	n.shows("wal_sender_timeout", "7s")
	n.shows("statement_timeout", "9s")
	if got := logged.String(); !strings.Contains(got, "setting of the cluster ignored") || !strings.Contains(got, "wal_sender_timeout: ") || !strings.Contains(got, "soon") {
		t.Errorf("logged: %s", got)
	}
	if timeout, _ := n.node.senderTimeout(); timeout != 7*time.Second {
		t.Errorf("streams are given %v", timeout)
	}
}

// A rule of the command line is judged as one of ALTER SYSTEM is, in the log, when a primary begins to go by it;
// one that makes sense is not mentioned.
func TestRuleOfCommandLineIsJudged(t *testing.T) {
	for rule, want := range map[string]string{
		"ANY 3 (n1, n2)":   "3 standbys are to acknowledge, and 2 are listed",
		"FIRST 1 (n2)":     "matches no member",
		"ANY MAJORITY (*)": "",
	} {
		t.Run(rule, func(t *testing.T) {
			n := newTestNode(t, "n1")
			logged := new(lines)
			n.cfg.Logger = slog.New(slog.NewTextHandler(logged, nil))
			n.start()
			if n.node.judgeOwnRule(); strings.Contains(logged.String(), "rule of the command line") {
				t.Error("there is none, and it is judged")
			}
			n.stop()
			n.cfg.Settings = map[string]string{"synchronous_standby_names": rule}
			n.start()
			said := strings.Contains(logged.String(), "rule of the command line: ")
			if said != (want != "") || !strings.Contains(logged.String(), want) {
				t.Errorf("logged: %s", logged)
			}
			notInForce := "0" // it is what binds
			if want != "" {
				notInForce = "1"
			}
			if got := n.value("SELECT count(*)::text FROM longship_cluster WHERE rule_wanted = $1", rule); got != notInForce {
				t.Errorf("wanted, and not in force: %s, want %s", got, notInForce)
			}
		})
	}
}

// A name that this version does not know is kept, ignored, and can be taken away.
func TestSettingOfANewerVersion(t *testing.T) {
	n := newTestNode(t, "n1")
	n.start()
	for name, value := range map[string]string{"from_tomorrow": "on", "wal_keep_size": "2MB", "statement_timeout": "soon"} {
		if _, err := n.node.raft.Propose(t.Context(), &raftlog.SettingSet{Name: name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.node.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.shows("wal_keep_size", "2MB")
	n.shows("statement_timeout", "0")
	if s := n.node.raft.State(); s.Applied["from_tomorrow"] != "on" || s.Applied["statement_timeout"] != "soon" {
		t.Errorf("applied are %v", s.Applied)
	}
	n.exec("ALTER SYSTEM RESET from_tomorrow")
	if _, there := n.node.raft.State().Settings["from_tomorrow"]; there {
		t.Error("it cannot be taken away")
	}
	n.exec("ALTER SYSTEM RESET ALL")
	if left := n.node.raft.State().Settings; len(left) > 0 {
		t.Errorf("left after RESET ALL: %v", left)
	}
}

// A node's command line comes before the cluster, and whoever writes there is told.
func TestCommandLineComesFirst(t *testing.T) {
	n := newTestNode(t, "n1")
	n.cfg.Settings = map[string]string{"synchronous_standby_names": "", "wal_keep_size": "1MB"}
	n.start()
	config, err := pgx.ParseConfig("postgres://test@" + n.cfg.Listen + "/test?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, e *pgconn.Notice) {
		if e.Severity == "NOTICE" { // a WARNING says what is wrong with the rule
			notices = append(notices, e.Message)
		}
	}
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for _, statement := range []string{"ALTER SYSTEM SET wal_keep_size = '2MB'", "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (n2)'", "ALTER SYSTEM SET max_wal_size = '2GB'", "SELECT pg_reload_conf()"} {
		if _, err := c.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if len(notices) != 2 || !strings.Contains(notices[0], "wal_keep_size") || !strings.Contains(notices[1], "synchronous_standby_names") {
		t.Errorf("notices are %q", notices)
	}
	n.shows("wal_keep_size", "1MB")
	n.shows("max_wal_size", "2GB")
	if got := n.node.standbyNames(); got != "" {
		t.Errorf("the rule that is wanted is %q", got)
	}
	n.stop()
	n.cfg.Settings = nil // started without the flags
	n.start()
	n.shows("wal_keep_size", "2MB")
	if got := n.node.standbyNames(); got != "ANY 1 (n2)" {
		t.Errorf("the rule that is wanted is %q", got)
	}
}
