package integration

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const value100 = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// The scripts that both systems run, over 100,000 keys: an upsert of a 100-byte value, the read of one, and ten
// upserts in one transaction. Their keys are neighbours and in order, or PostgreSQL would deadlock.
const (
	upsertScript = `\set k random(1, 100000)
INSERT INTO kv VALUES ('key' || :k, '` + value100 + `') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
`
	readScript = `\set k random(1, 100000)
SELECT value FROM kv WHERE key = 'key' || :k;
`
)

func tenScript() string {
	var b strings.Builder
	b.WriteString("\\set k random(1, 99990)\nBEGIN;\n")
	for i := range 10 {
		fmt.Fprintf(&b, "\\set k%d :k + %d\n", i, i)
		b.WriteString(strings.ReplaceAll(strings.SplitN(upsertScript, "\n", 2)[1], ":k", ":k"+strconv.Itoa(i)))
	}
	b.WriteString("COMMIT;\n")
	return b.String()
}

// benchClients are how many clients there are at a time.
var benchClients = []int{1, 8, 32, 64, 128}

// TestBesidePostgreSQL is a benchmark and not a test: it asserts nothing. PostgreSQL 15 and Longship,
// each a primary with one standby that a commit waits for and one that it does not, run the same
// pgbench scripts alternately. The machine may be noisy: what counts are the ratios of one run.
// LONGSHIP_BENCH is the number of rounds, of which the medians are printed.
func TestBesidePostgreSQL(t *testing.T) {
	rounds := benchRounds(t)
	ctx, cancel := benchContext(t)
	defer cancel()
	pair := besides{t: t, rounds: rounds, theirs: startPostgres(t).system()}
	pair.ours = benchCluster(t, 3).system()
	for _, s := range pair.systems() {
		s.preload(ctx)
	}
	pair.copies(ctx)
	pair.scripts("Upserts", upsertScript, 0)
	pair.scripts("Transactions of ten upserts", tenScript(), 0)
	pair.scripts("Reads by key on the primary", readScript, 0)
	pair.scripts("Reads by key on a standby", readScript, 1)
	pair.lag(ctx)
	pair.memory()
}

// A besides is the two systems, side by side.
type besides struct {
	t            *testing.T
	rounds       int
	theirs, ours system
}

func (p *besides) systems() []system { return []system{p.theirs, p.ours} }

// alternately takes a measurement of each system in each round.
func alternately[T any](p *besides, measure func(s system, round int) T) (theirs, ours []T) {
	for round := range p.rounds {
		theirs = append(theirs, measure(p.theirs, round))
		ours = append(ours, measure(p.ours, round))
	}
	return theirs, ours
}

// cells are three cells: one column of both systems' results, by its median, and the ratio.
func cells[T any](theirs, ours []T, column func(T) float64) []string {
	return both(median(theirs, column), median(ours, column))
}

// both are two figures and their ratio.
func both(theirs, ours float64) []string {
	return []string{number(theirs), number(ours), number(ours / theirs)}
}

// scripts runs a script with growing numbers of clients, on the servers with the number at.
func (p *besides) scripts(title, text string, at int) {
	p.t.Helper()
	script := writeScript(p.t, text)
	tab := newTable(title, "clients",
		"PostgreSQL tps", "Longship tps", "ratio", "PostgreSQL mean ms", "Longship mean ms", "ratio",
		"PostgreSQL p99 ms", "Longship p99 ms", "ratio", "PostgreSQL CPU µs", "Longship CPU µs", "ratio")
	for _, clients := range benchClients {
		theirs, ours := alternately(p, func(s system, _ int) result { return s.pgbench(s.servers[at], script, clients) })
		row := []string{strconv.Itoa(clients)}
		for _, column := range []func(result) float64{
			func(r result) float64 { return r.tps }, func(r result) float64 { return r.mean },
			func(r result) float64 { return r.p99 }, func(r result) float64 { return r.cpu },
		} {
			row = append(row, cells(theirs, ours, column)...)
		}
		tab.row(row...)
	}
	tab.print()
}

// copies copies 100,000 rows in one transaction, new ones in each round.
func (p *besides) copies(ctx context.Context) {
	p.t.Helper()
	rows := scaled(100_000, 1000)
	type copied struct{ rate, cpu float64 }
	theirs, ours := alternately(p, func(s system, round int) copied {
		c := s.connect(ctx)
		defer c.Close(ctx)
		before := s.cpu()
		took := s.copyRows(ctx, c.PgConn(), fmt.Sprintf("copy%d/", round), rows, 100)
		used := s.cpu() - before
		return copied{float64(rows) / took.Seconds(), float64(used.Microseconds()) / float64(rows)}
	})
	tab := newTable("COPY", "rows", "PostgreSQL rows/s", "Longship rows/s", "ratio",
		"PostgreSQL CPU µs/row", "Longship CPU µs/row", "ratio")
	row := append([]string{strconv.Itoa(rows)}, cells(theirs, ours, func(c copied) float64 { return c.rate })...)
	tab.row(append(row, cells(theirs, ours, func(c copied) float64 { return c.cpu })...)...)
	tab.print()
}

// lag asks every 20 ms how far behind the standbys are while 64 clients write.
func (p *besides) lag(ctx context.Context) {
	p.t.Helper()
	script := writeScript(p.t, upsertScript)
	type behind struct{ p50, p99, most float64 }
	theirs, ours := alternately(p, func(s system, _ int) behind {
		stop := sampleLag(ctx, s)
		s.pgbench(s.servers[0], script, 64)
		lags := stop()
		return behind{percentile(lags, 0.5), percentile(lags, 0.99), percentile(lags, 1)}
	})
	tab := newTable("Standbys' replay_lag in ms, 64 clients", "", "PostgreSQL", "Longship", "ratio")
	tab.row(append([]string{"median"}, cells(theirs, ours, func(b behind) float64 { return b.p50 })...)...)
	tab.row(append([]string{"p99"}, cells(theirs, ours, func(b behind) float64 { return b.p99 })...)...)
	tab.row(append([]string{"most"}, cells(theirs, ours, func(b behind) float64 { return b.most })...)...)
	tab.print()
}

// sampleLag collects the replay_lag of all standbys until it is stopped, in milliseconds.
func sampleLag(ctx context.Context, s system) (stop func() []float64) {
	s.t.Helper()
	c := s.connect(ctx)
	done, quit := make(chan []float64), make(chan struct{})
	go func() {
		var lags []float64
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-quit:
				done <- lags
				return
			case <-every.C:
				lags = append(lags, replayLags(ctx, s, c)...)
			}
		}
	}()
	return func() []float64 { close(quit); return <-done }
}

var intervalText = regexp.MustCompile(`^(\d+):(\d+):(\d+(?:\.\d+)?)$`)

// replayLags is one sample: a standby of which no lag is known, because nothing was written, has none.
func replayLags(ctx context.Context, s system, c *pgx.Conn) (lags []float64) {
	rows, err := c.Query(ctx, "SELECT replay_lag FROM pg_stat_replication", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		s.t.Errorf("%s: %v", s.name, err)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		if m := intervalText.FindStringSubmatch(string(rows.RawValues()[0])); m != nil {
			h, _ := strconv.ParseFloat(m[1], 64)
			min, _ := strconv.ParseFloat(m[2], 64)
			sec, _ := strconv.ParseFloat(m[3], 64)
			lags = append(lags, ((h*60+min)*60+sec)*1000)
		}
	}
	return lags
}

// memory is what the servers hold after all this.
func (p *besides) memory() {
	p.t.Helper()
	tab := newTable("Memory in MB after all of the above", "", "PostgreSQL", "Longship", "ratio")
	for i, name := range []string{"primary", "standby", "standby"} {
		a, b := p.theirs.servers[i].memory(p.t), p.ours.servers[i].memory(p.t)
		tab.row(append([]string{name}, both(a, b)...)...)
	}
	tab.print()
}
