package integration

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// replicationPsql runs one replication command in psql.
func replicationPsql(t *testing.T, n *node, command string) string {
	t.Helper()
	out, _ := runTool(t, command+"\n", tool(t, "psql"), "-X", "-A", "-v", "VERBOSITY=verbose", "-d", n.dsn("replication=true"))
	return strings.TrimSpace(out)
}

func TestReplicationCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	id := c.primary().value("SELECT system_identifier FROM longship_cluster")
	for command, want := range map[string]string{
		"IDENTIFY_SYSTEM":                              `systemid\|timeline\|xlogpos\|dbname\n` + id + `\|1\|0/[0-9A-F]+\|\n\(1 row\)`,
		"SHOW wal_segment_size":                        `wal_segment_size\n1MB\n\(1 row\)`,
		"SHOW nonsense":                                `ERROR:  42704: unrecognized configuration parameter "nonsense"`,
		"TIMELINE_HISTORY 9":                           `ERROR:  58P01: could not open file "pg_wal/00000009.history": No such file or directory`,
		"READ_REPLICATION_SLOT n2":                     `slot_type\|restart_lsn\|restart_tli\nphysical\|0/[0-9A-F]+\|1\n\(1 row\)`,
		"CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL": `slot_name\|consistent_point\|snapshot_name\|output_plugin\ns\|0/0\|\|\n\(1 row\)`,
		"DROP_REPLICATION_SLOT nope":                   `ERROR:  42704: replication slot "nope" does not exist`,
		"DROP_REPLICATION_SLOT n2":                     `ERROR:  55006: replication slot "n2" is active for PID \d+`,
		"START_REPLICATION 0/100000 TIMELINE 7":        `ERROR:  \w+: requested timeline 7 is not in this server's history`,
		"START_REPLICATION SLOT nope 0/100000":         `ERROR:  42704: replication slot "nope" does not exist`,
		"START_REPLICATION SLOT n2 0/100000":           `ERROR:  55006: replication slot "n2" is active for PID \d+`,
		"START_REPLICATION nonsense":                   `ERROR:  42601: .*`,
		"SELECT 1":                                     `ERROR:  0A000: cannot execute SQL commands in WAL sender for physical replication`,
	} {
		for _, n := range c.nodes {
			if n.name == "n2" && strings.Contains(command, "n2") {
				continue // the slot is the primary's
			}
			got := replicationPsql(t, n, command)
			if !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("%s: %s prints\n%s\nwant\n%s", n.name, command, got, want)
			}
		}
	}
}

// A position that does not exist yet is refused in the copy stream, as by PostgreSQL.
func TestStartReplicationAhead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, n := range c.nodes {
		_, message := startReplication(t, n, "START_REPLICATION 7F/0")
		if want := regexp.MustCompile(`^requested starting point 7F/0 is ahead of the WAL flush position of this server 0/[0-9A-F]+$`); !want.MatchString(message) {
			t.Errorf("%s answers %q, want %s", n.name, message, want)
		}
	}
}

// WAL that nobody needs is removed, and who asks for it is told the segment's name.
func TestRemovedWAL(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "--max-wal-size=4MB", "--min-wal-size=2MB", "--wal-buffers=256kB")
	n := c.primary()
	r := newReceiver(t, n)
	end, _ := fill(t, n, rand.New(rand.NewPCG(9, 10)), 3)
	r.receiveTo(end - 1000)
	fill(t, n, rand.New(rand.NewPCG(11, 12)), 12)
	n.exec("CHECKPOINT")
	segment := segmentSize.FileName(1, 1)
	if n.segment(segment) != nil {
		t.Fatalf("%s is still there", segment)
	}
	out, err := runTool(t, "", tool(t, "pg_receivewal"), r.args("--no-loop")...)
	want := regexp.MustCompile(`ERROR:  requested WAL segment [0-9A-F]{24} has already been removed`)
	if err == nil || !want.MatchString(out) {
		t.Errorf("pg_receivewal: %v\n%s\nwant %s", err, out, want)
	}

	// The error comes inside the copy stream, as from PostgreSQL, with its SQLSTATE.
	code, message := startReplication(t, n, "START_REPLICATION 0/100000")
	if code != "58P01" || message != fmt.Sprintf("requested WAL segment %s has already been removed", segment) {
		t.Errorf("START_REPLICATION of removed WAL answers %s %q", code, message)
	}
}

// A slot holds what its receiver needs.
func TestSlotKeepsWAL(t *testing.T) {
	t.Parallel()
	receivewal := tool(t, "pg_receivewal")
	c := newCluster(t, 1, "--max-wal-size=4MB", "--min-wal-size=2MB")
	n := c.primary()
	r := newReceiver(t, n, "--slot=arch")
	mustRun(t, receivewal, r.args("--create-slot")...)
	r.stop(r.start())
	n.exec("INSERT INTO kv VALUES ('a', '1')")
	first := n.flushed()
	n.exec("INSERT INTO kv VALUES ('b', '1')")
	r.receiveTo(first)
	fill(t, n, rand.New(rand.NewPCG(13, 14)), 12)
	n.exec("CHECKPOINT")
	end := n.flushed()
	n.restart()
	n.exec("INSERT INTO kv VALUES ('c', '1')")
	if got := n.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'arch'"); got != "extended" {
		t.Errorf("wal_status = %s, want extended", got)
	}
	r.receiveTo(end)
	r.check(c, 12, end)
	mustRun(t, receivewal, r.args("--drop-slot")...)
	n.exec("CHECKPOINT")
	if n.segment(segmentSize.FileName(1, 1)) != nil {
		t.Error("without the slot the first segment is still there")
	}
}
