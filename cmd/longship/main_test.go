package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// A command line that makes no sense ends with exit code 2 and one line that says what to do; other
// failures with exit code 1.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		args string
		code int
		want string
	}{
		{"", 0, ""},
		{"--version", 0, ""},
		{"start --help", 0, ""},
		{"sail", 2, `unknown command "sail": see longship --help`},
		{"start", 2, "--data-dir is missing: see longship start --help"},
		{"start --data-dir DIR", 2, "--name is missing: see longship start --help"},
		{"start --data-dir DIR --name n1 extra", 2, `unexpected argument "extra": see longship start --help`},
		{"start --sail", 2, "flag provided but not defined: -sail: see longship start --help"},
		{"start --data-dir DIR --name N1", 2, `node name "N1"`},
		{"start --data-dir DIR --name n1 --listen 0.0.0.0:5433", 2, "use 127.0.0.1"},
		{"start --data-dir DIR --name n1 --wal-segsize 3", 2, `--wal-segsize "3": want a power of two from 1 to 1024, in MB`},
		{"start --data-dir DIR --name n1 --log-level loud", 2, `--log-level "loud": want debug, info, warn or error`},
		{"start --data-dir DIR --name n1 --log-format xml", 2, `--log-format "xml": want text or json`},
		{"start --data-dir DIR --name n1 --wal-buffers lots", 2, `invalid value for parameter "wal_buffers": "lots"`},
		{"start --data-dir DIR --name n1 --synchronous-standby-names ANY", 2, "syntax error"},
		{"start --data-dir DIR --name n1 --listen 127.0.0.1:65400", 2, "there is no port 65600 for --gossip-listen, which is --listen's + 200: give it"},
		{"start --data-dir DIR --name n1 --listen 127.0.0.1", 2, `--listen "127.0.0.1": want HOST:PORT`},
		{"start --data-dir DIR --name n1 --gossip-key secret", 2, "--gossip-key: want 16, 24 or 32 random bytes in base64 or hexadecimal"},
		{"start --data-dir DIR --name n1 --failover-priority high", 2, `invalid value "high" for flag -failover-priority`},
		{"start --data-dir DIR --name n1 --failover-timeout -1s", 2, "outside the valid range"},
		{"demo --nodes 0", 2, "--nodes 0: want 1 to 16"},
		{"demo --port 65535", 2, "--port 65535: want room for 3 ports up to 65535"},
		{"demo --load 0", 2, "--load 0: want 1 to 100000 commits per second"},
		{"demo --for -1s", 2, "cannot be negative"},
		{"demo now", 2, `unexpected argument "now"`},
		{"status now", 2, `unexpected argument "now"`},
		{"status --host 127.0.0.1 --port 1", 1, "cannot reach a node at 127.0.0.1:1: connect: connection refused: is it running? choose one with --host and --port"},
		{"switchover n2", 2, `unexpected argument "n2": see longship switchover --help`},
		{"switchover --port 1 --to n2", 1, "connection refused: is it running?"},
		{"failover now", 2, `unexpected argument "now"`},
		{"members", 2, "longship members what? it has list, remove"},
		{"members sink n1", 2, `unknown command "sink": longship members has list, remove`},
		{"members list n1", 2, `unexpected argument "n1": see longship members list --help`},
		{"members list --sail", 2, "flag provided but not defined: -sail: see longship members list --help"},
		{"members remove", 2, "the node's name is missing: see longship members remove --help"},
		{"members remove n3 --port 1", 1, "cannot reach a node at 127.0.0.1:1"},
		{"members remove --port 1 n3", 1, "connection refused"},
		{"slots", 2, "longship slots what? it has list, create, drop"},
		{"slots create a b", 2, `unexpected argument "b"`},
		{"slots drop", 2, "the slot's name is missing"},
		{"slots --help", 0, ""},
		{"slots create --help", 0, ""},
		{"waldump", 2, "nothing to read: give segment files or --data-dir; see longship waldump --help"},
		{"waldump DIR/none --json", 1, "no such file"},
		{"waldump DIR/none", 1, "no such file or directory: give the path of a segment file or a folder of them"},
		{"waldump --data-dir DIR", 1, "--data-dir wants a node's data directory"},
		{"waldump --from 12 x", 2, `--from: invalid LSN "12"`},
		{"waldump --timeline 0 x", 2, `--timeline: timeline "0": want a number from 1 on`},
		{"waldump --from 0/20 --to 0/10 x", 2, "--to 0/10 is not after --from 0/20"},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			args := append([]string{"longship"}, strings.Fields(strings.ReplaceAll(test.args, "DIR", dir))...)
			var stderr strings.Builder
			code := run(args, io.Discard, &stderr)
			line, rest, _ := strings.Cut(stderr.String(), "\n")
			if code != test.code || !strings.Contains(line, test.want) || rest != "" {
				t.Errorf("exit %d, %q, want %d, %q on one line", code, stderr.String(), test.code, test.want)
			}
		})
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a refused command line left %v, %v", entries, err)
	}
}

func TestOneLine(t *testing.T) {
	server := pgwire.Errorf("22023", "invalid value").WithDetail("It is too big.").WithHint("Choose a smaller one.")
	tests := []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{errors.Join(errors.New("one"), errors.New("two")), "one; two"},
		{fmt.Errorf("--x: %w", server), "--x: invalid value: It is too big.: Choose a smaller one."},
	}
	for _, test := range tests {
		if got := oneLine(test.err); got != test.want {
			t.Errorf("oneLine() = %q, want %q", got, test.want)
		}
	}
}

// Flags win over the environment, which wins over nothing; only what is given becomes a setting.
func TestStartConfig(t *testing.T) {
	t.Setenv("LONGSHIP_DATA_DIR", "/data")
	t.Setenv("LONGSHIP_NAME", "n7")
	t.Setenv("LONGSHIP_COMMIT_DELAY", "10")
	t.Setenv("LONGSHIP_WAL_WRITER_DELAY", "1s")
	t.Setenv("LONGSHIP_GOSSIP_KEY", "000102030405060708090a0b0c0d0e0f")
	t.Setenv("LONGSHIP_CLUSTER_SECRET", "hush")
	t.Setenv("LONGSHIP_FAILOVER_PRIORITY", "0")
	command := startCommand()
	checked := false
	command.Action = func(c *cli.Context) error {
		checked = true
		cfg, err := startConfig(c)
		if err != nil {
			return err
		}
		if cfg.DataDir != "/data" || cfg.Name != "n2" || cfg.Listen != "127.0.0.1:5433" || cfg.SegmentSize != 64<<20 {
			t.Errorf("config %+v", cfg)
		}
		if cfg.RaftListen != "127.0.0.1:5533" || cfg.GossipListen != "127.0.0.1:9" || cfg.HTTPListen != "127.0.0.1:10" || !cfg.EnablePprof || cfg.Zone != "b" || cfg.FailoverPriority != 0 {
			t.Errorf("config %+v", cfg)
		}
		if len(cfg.GossipKey) != 16 || cfg.GossipKey[15] != 15 || cfg.ClusterSecret != "hush" {
			t.Errorf("gossip key %x, cluster secret %q", cfg.GossipKey, cfg.ClusterSecret)
		}
		if got := strings.Join(cfg.Join, " "); got != "a:1 b:2" {
			t.Errorf("join %q", got)
		}
		if got := fmt.Sprint(cfg.Settings); got != "map[commit_delay:20 wal_writer_delay:1s]" {
			t.Errorf("settings %s", got)
		}
		if cfg.Logger.Enabled(t.Context(), slog.LevelInfo) {
			t.Error("info is logged")
		}
		return nil
	}
	app := &cli.App{Commands: []*cli.Command{command}, Writer: io.Discard, ErrWriter: t.Output()}
	err := app.Run(strings.Fields("longship start --name n2 --gossip-listen 127.0.0.1:9 --http-listen 127.0.0.1:10 --enable-pprof --zone b --join a:1,b:2 --commit-delay 20 --wal-segsize 64 --log-level warn"))
	if err != nil || !checked {
		t.Errorf("Run() = %v, checked %v", err, checked)
	}
}

func TestParseSegmentSize(t *testing.T) {
	for text, want := range map[string]wal.SegmentSize{"": 0, "1": 1 << 20, "16MB": 16 << 20, "1024": 1 << 30} {
		if got, err := parseSegmentSize(text); err != nil || got != want {
			t.Errorf("parseSegmentSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-16", "2048", "16kB", "1e1", "4294967297"} {
		if _, err := parseSegmentSize(text); err == nil {
			t.Errorf("parseSegmentSize(%q) was accepted", text)
		}
	}
}

// Without more, Raft and gossip listen near the clients' port.
func TestListenNearby(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:5433": "127.0.0.1:5533 127.0.0.1:5633",
		"[::1]:5433":     "[::1]:5533 [::1]:5633",
		"localhost:0":    "localhost:0 localhost:0",
	} {
		cfg := node.Config{Listen: listen}
		if err := listenNearby(&cfg); err != nil || cfg.RaftListen+" "+cfg.GossipListen != want {
			t.Errorf("%s: %s %s, %v", listen, cfg.RaftListen, cfg.GossipListen, err)
		}
	}
}

// The first signal asks, the second insists, and none counts after stop.
func TestOnSignals(t *testing.T) {
	heard := make(chan string)
	stop := onSignals(func() { heard <- "first" }, func() { heard <- "second" }, syscall.SIGUSR1)
	for _, want := range []string{"first", "second"} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("%s call, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s call", want)
		}
	}
	stop()
}

// A node that has never written says so.
func TestWaldumpEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pg_wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	if code := run([]string{"longship", "waldump", "--data-dir", dir}, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "holds no WAL yet") {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}
