package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestProfile writes the profile that the compiler optimizes the binary with (make profile): what all three
// nodes do under upserts of few and of many clients, and under reads on primary and standby.
func TestProfile(t *testing.T) {
	to := os.Getenv("LONGSHIP_PROFILE")
	if to == "" {
		t.Skip("LONGSHIP_PROFILE does not say where the profile is to go")
	}
	ctx, cancel := benchContext(t)
	defer cancel()
	c := unstarted(t)
	c.flags = []string{"--wal-segsize=16", "--max-connections=300", "--enable-pprof"}
	c.serveHTTP(3)
	c.start()
	s := c.system()
	s.preload(ctx)
	upsert, read := writeScript(t, upsertScript), writeScript(t, readScript)
	var profiles []string
	for i, work := range []struct {
		script      string
		at, clients int
	}{{upsert, 0, 1}, {upsert, 0, 8}, {upsert, 0, 64}, {read, 0, 32}, {read, 1, 32}} {
		profiles = append(profiles, c.profile(ctx, i, func() { s.pgbench(s.servers[work.at], work.script, work.clients) })...)
	}
	merged, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto"}, profiles...)...).Output()
	if err != nil || len(merged) == 0 {
		t.Fatalf("merge profiles: %d bytes, %v", len(merged), err)
	}
	if err := os.WriteFile(to, merged, 0o644); err != nil {
		t.Fatal(err)
	}
}

// profile samples where all nodes spend their time while work is done, into files whose names it returns.
func (c *cluster) profile(ctx context.Context, i int, work func()) (files []string) {
	c.t.Helper()
	path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(benchTime().Seconds())))
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		file := filepath.Join(c.dir, fmt.Sprintf("%s.%d.pprof", n.name, i))
		files = append(files, file)
		wg.Go(func() {
			status, text := n.get(ctx, path)
			if status != 200 {
				c.t.Errorf("%s: %s: %d %s", n.name, path, status, text)
				return
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				c.t.Error(err)
			}
		})
	}
	work()
	wg.Wait()
	return files
}
