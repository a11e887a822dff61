package node

import (
	"log/slog"
	"strings"
	"testing"
)

// The host that a node advertises is that of all its ports; a port with it stands before the clients'
// alone.
func TestAdvertised(t *testing.T) {
	for _, test := range []struct{ advertise, client, raft, gossip string }{
		{"", "127.0.0.1:", "127.0.0.1:", ""},
		{"db1", "db1:", "db1:", "db1:0"},
		{"::1", "[::1]:", "[::1]:", "[::1]:0"},
		{"db1:6000", "db1:6000", "db1:", "db1:0"},
		{"[::1]:6000", "[::1]:6000", "[::1]:", "[::1]:0"},
		{":6000", "127.0.0.1:6000", "127.0.0.1:", ""},
	} {
		cfg := testConfig(t, test.advertise)
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.listen(); err != nil {
			t.Fatal(err)
		}
		n.listener.Close()
		n.raftListener.Close()
		if !strings.HasPrefix(n.address, test.client) || !strings.HasPrefix(n.raftAddress, test.raft) || strings.HasSuffix(n.raftAddress, ":6000") {
			t.Errorf("%q advertises %s and %s, want %s and %s", test.advertise, n.address, n.raftAddress, test.client, test.raft)
		}
		if got := cfg.advertise(); got != test.gossip {
			t.Errorf("%q advertises gossip at %q, want %q", test.advertise, got, test.gossip)
		}
	}
	for _, wrong := range []string{"db1:0", "db1:pg", "db1:65536"} {
		if _, err := New(testConfig(t, wrong)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("advertising %q: %v, want an error that names it", wrong, err)
		}
	}
}

// A zone is a word or some, on one line: it stands in tables and labels.
func TestZoneName(t *testing.T) {
	for zone, ok := range map[string]bool{
		"": true, "eu-west-1a": true, "Rack 7, row ä": true,
		"two\nlines": false, "bell\a": false, strings.Repeat("z", maxZone): true, strings.Repeat("z", maxZone+1): false,
	} {
		cfg := testConfig(t, "")
		cfg.Zone = zone
		if _, err := New(cfg); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "zone") {
			t.Errorf("zone %q: %v, allowed %v", zone, err, ok)
		}
	}
}

// Profiles are served where metrics are, so there has to be such an address.
func TestPprofNeedsAnAddress(t *testing.T) {
	cfg := testConfig(t, "")
	cfg.EnablePprof = true
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "--http-listen") {
		t.Errorf("--enable-pprof alone: %v, want an error that names --http-listen", err)
	}
	cfg.HTTPListen = "127.0.0.1:0"
	if _, err := New(cfg); err != nil {
		t.Error(err)
	}
}

// testConfig is that of a node that advertises something.
func testConfig(t *testing.T, advertise string) Config {
	t.Helper()
	return Config{
		DataDir: t.TempDir(), Name: "n1", AdvertiseHost: advertise, Logger: slog.New(slog.DiscardHandler),
		Listen: freeAddress(t), RaftListen: "127.0.0.1:0", GossipListen: "127.0.0.1:0",
	}
}
