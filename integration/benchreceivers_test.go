package integration

import (
	"context"
	"strconv"
	"testing"
)

// TestBenchReceivers is a benchmark and asserts nothing: what pg_receivewal, many times over, costs the
// primary while eight clients make 1,000 commits a second, of which it is not the limit.
func TestBenchReceivers(t *testing.T) {
	rounds := benchRounds(t)
	ctx, cancel := benchContext(t)
	defer cancel()
	pair := &besides{t: t, rounds: rounds, theirs: startPostgres(t, "max_wal_senders = 100").system()}
	pair.ours = benchCluster(t, 3, "--max-wal-senders=100").system()
	for _, s := range pair.systems() {
		s.preload(ctx)
	}
	script := writeScript(t, upsertScript)
	latency := newTable("Receivers: commit latency at 1,000 commits a second", "receivers",
		"PostgreSQL mean ms", "Longship mean ms", "ratio", "PostgreSQL p99 ms", "Longship p99 ms", "ratio")
	costs := newTable("Receivers: what each adds to the primary at 1,000 commits a second", "receivers",
		"PostgreSQL CPU µs/commit", "Longship CPU µs/commit", "ratio", "PostgreSQL MB", "Longship MB", "ratio")
	var theirsAlone, oursAlone cost
	for _, n := range []int{0, 1, 5, 20, 50} {
		for _, s := range pair.systems() {
			s.receivers(ctx, n)
		}
		theirs, ours := alternately(pair, func(s system, _ int) cost { return s.cost(script) })
		row := append([]string{strconv.Itoa(n)}, cells(theirs, ours, func(c cost) float64 { return c.mean })...)
		latency.row(append(row, cells(theirs, ours, func(c cost) float64 { return c.p99 })...)...)
		a, b := typical(theirs), typical(ours)
		if n == 0 {
			theirsAlone, oursAlone = a, b
			costs.row(append(append([]string{"none: in all"}, both(a.cpu, b.cpu)...), both(a.memory, b.memory)...)...)
			continue
		}
		each := func(with, without float64) float64 { return (with - without) / float64(n) }
		row = append([]string{strconv.Itoa(n)}, both(each(a.cpu, theirsAlone.cpu), each(b.cpu, oursAlone.cpu))...)
		costs.row(append(row, both(each(a.memory, theirsAlone.memory), each(b.memory, oursAlone.memory))...)...)
	}
	latency.print()
	costs.print()
}

// A cost is what commits take, and of that the primary alone: cpu, for one, and its memory in MB.
type cost struct {
	result
	memory float64
}

// typical is the median processor time and memory.
func typical(list []cost) cost {
	return cost{
		result{cpu: median(list, func(c cost) float64 { return c.cpu })},
		median(list, func(c cost) float64 { return c.memory }),
	}
}

// cost runs the script with eight clients at 1,000 transactions a second.
func (s system) cost(script string) cost {
	s.t.Helper()
	alone := s
	alone.servers = s.servers[:1]
	return cost{alone.pgbench(s.servers[0], script, 8, "--rate=1000"), s.servers[0].memory(s.t)}
}

// receivers starts pg_receivewal until there are n that stream.
func (s system) receivers(ctx context.Context, n int) {
	s.t.Helper()
	c := s.connect(ctx)
	defer c.Close(ctx)
	const streaming = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND state = 'streaming'"
	count := func() int {
		v, err := strconv.Atoi(s.value(ctx, c, streaming))
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	for i := count(); i < n; i++ {
		startProcess(s.t, nil, tool(s.t, "pg_receivewal"), "-d", s.servers[0].dsn(), "-D", s.t.TempDir(), "--no-password")
	}
	for count() < n {
		moment(ctx)
	}
}
