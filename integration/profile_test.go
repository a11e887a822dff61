package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"testing"

	"github.com/google/pprof/profile"
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
	var profiles []*profile.Profile
	for _, work := range []struct {
		script      string
		at, clients int
	}{{upsert, 0, 1}, {upsert, 0, 8}, {upsert, 0, 64}, {read, 0, 32}, {read, 1, 32}} {
		profiles = append(profiles, c.profile(ctx, func() { s.pgbench(s.servers[work.at], work.script, work.clients) })...)
	}
	merged, err := profile.Merge(profiles)
	if err != nil {
		t.Fatal(err)
	}
	forgetPaths(merged)
	file, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(merged.Write(file), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// forgetPaths takes out where the source and the binary were. The compiler goes by the names of functions.
func forgetPaths(p *profile.Profile) {
	for _, f := range p.Function {
		f.Filename = path.Base(f.Filename)
	}
	for _, m := range p.Mapping {
		m.File = path.Base(m.File)
	}
}

// profile samples where all nodes spend their time while work is done.
func (c *cluster) profile(ctx context.Context, work func()) []*profile.Profile {
	c.t.Helper()
	profiles := make([]*profile.Profile, len(c.nodes))
	path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(benchTime().Seconds())))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() {
			status, text := n.get(ctx, path)
			if status != 200 {
				c.t.Errorf("%s: %s: %d %s", n.name, path, status, text)
				return
			}
			var err error
			if profiles[i], err = profile.ParseData([]byte(text)); err != nil {
				c.t.Errorf("%s: %s: %v", n.name, path, err)
			}
		})
	}
	work()
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
	return profiles
}
