package integration

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/wal"
)

// benchRounds is LONGSHIP_BENCH, how often a benchmark repeats each of its measurements. Without it
// the test, which asserts nothing about speed, is skipped.
func benchRounds(t *testing.T) int {
	t.Helper()
	rounds, _ := strconv.Atoi(os.Getenv("LONGSHIP_BENCH"))
	if rounds <= 0 {
		t.Skip("a benchmark: set LONGSHIP_BENCH to the number of rounds")
	}
	return rounds
}

// scaled is n times LONGSHIP_BENCH_SCALE, by default n, and at least least: how long, how many or how
// much a benchmark takes.
func scaled(n, least int) int {
	scale, err := strconv.ParseFloat(os.Getenv("LONGSHIP_BENCH_SCALE"), 64)
	if err != nil || scale <= 0 {
		scale = 1
	}
	return max(least, int(float64(n)*scale))
}

// benchTime is how long one measurement takes.
func benchTime() time.Duration { return time.Duration(scaled(5000, 2000)) * time.Millisecond }

// benchContext bounds a whole benchmark.
func benchContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), time.Hour)
}

// benchCluster is a cluster with the settings of its users, but for what PostgreSQL is given too.
func benchCluster(t *testing.T, n int, flags ...string) *cluster {
	t.Helper()
	c := unstarted(t)
	c.flags = append([]string{"--wal-segsize=16", "--max-connections=300"}, flags...)
	c.node(n)
	c.start()
	return c
}

// A system is a primary and its standbys, of either make.
type system struct {
	t       *testing.T
	name    string
	servers []server // the primary first
}

func (p *postgres) system() system { return system{p.t, "PostgreSQL", p.servers} }

// system is the cluster as it is now.
func (c *cluster) system() system {
	c.t.Helper()
	s := system{t: c.t, name: "Longship"}
	for _, n := range append([]*node{c.primary()}, c.standbys()...) {
		s.servers = append(s.servers, server{n.proc.cmd.Process.Pid, n.port})
	}
	return s
}

func (s server) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.port)
}

// connect opens a session at the primary.
func (s system) connect(ctx context.Context) *pgx.Conn {
	s.t.Helper()
	c, err := pgx.Connect(ctx, s.servers[0].dsn())
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// value is the one value of a query's one row.
func (s system) value(ctx context.Context, c *pgx.Conn, sql string) string {
	s.t.Helper()
	v, err := queryValue(ctx, c, sql)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.name, sql, err)
	}
	return v
}

// letters are what values are cut from, which do not compress: random letters.
var letters = sync.OnceValue(func() string {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = 'a' + byte(random.IntN(26))
	}
	return string(b)
})

// copyRows copies rows with keys of a prefix in one transaction, and returns how long that took.
func (s system) copyRows(ctx context.Context, c *pgconn.PgConn, prefix string, rows, size int) time.Duration {
	s.t.Helper()
	var b strings.Builder
	text := letters()
	for i := range rows {
		at := i * 7919 % (len(text) - size)
		fmt.Fprintf(&b, "%s%d\t%s\n", prefix, i+1, text[at:at+size])
	}
	start := time.Now()
	if _, err := c.CopyFrom(ctx, strings.NewReader(b.String()), "COPY kv (key, value) FROM STDIN"); err != nil {
		s.t.Fatalf("%s: copy %d rows: %v", s.name, rows, err)
	}
	return time.Since(start)
}

// grow writes rows of a size, in transactions of 1 MB, until the log has grown by so many bytes. It
// returns where the log ends then.
func (s system) grow(ctx context.Context, prefix string, size, bytes int) wal.LSN {
	s.t.Helper()
	c := s.connect(ctx)
	defer c.Close(ctx)
	end := func() wal.LSN { return parseLSN(s.t, s.value(ctx, c, "SELECT pg_current_wal_flush_lsn()")) }
	goal := end() + wal.LSN(bytes)
	for i := 0; end() < goal; i++ {
		s.copyRows(ctx, c.PgConn(), fmt.Sprintf("%s%d/", prefix, i), 1<<20/size, size)
	}
	return end()
}

// preload puts in the rows that the scripts update and read.
func (s system) preload(ctx context.Context) {
	s.t.Helper()
	c := s.connect(ctx)
	defer c.Close(ctx)
	s.copyRows(ctx, c.PgConn(), "key", 100_000, 100)
	if s.name == "PostgreSQL" {
		if _, err := c.Exec(ctx, "VACUUM ANALYZE kv"); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, err := c.Exec(ctx, "CHECKPOINT"); err != nil {
		s.t.Fatalf("%s: checkpoint: %v", s.name, err)
	}
}

// A result is what one run of pgbench measured: transactions a second, the mean and the 99th
// percentile of their latency in milliseconds, and the processor time of the servers' processes for
// each in microseconds.
type result struct{ tps, mean, p99, cpu float64 }

var (
	tpsLine       = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	latencyLine   = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
	processedLine = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
	failedLine    = regexp.MustCompile(`(?m)^number of failed transactions: ([0-9]+)`)
)

// pgbenchArgs are those of a run of a script with prepared statements that logs to files that begin
// with log. A transaction in ten is logged, of one client each.
func pgbenchArgs(port int, script, log string, clients int, d time.Duration) []string {
	rate := "0.1"
	if clients == 1 {
		rate = "1"
	}
	return []string{
		"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "postgres", "-n", "-M", "prepared", "-f", script,
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(max(1, int(d.Seconds()))),
		"--max-tries=100", "--log", "--log-prefix=" + log, "--sampling-rate=" + rate, "postgres",
	}
}

// pgbench runs a script on one of the servers, with more arguments.
func (s system) pgbench(at server, script string, clients int, more ...string) result {
	s.t.Helper()
	log := filepath.Join(s.t.TempDir(), "log")
	before := s.cpu()
	out := mustRun(s.t, tool(s.t, "pgbench"), append(more, pgbenchArgs(at.port, script, log, clients, benchTime())...)...)
	used := s.cpu() - before
	number := func(line *regexp.Regexp) float64 {
		m := line.FindStringSubmatch(out)
		if m == nil {
			return math.NaN() // of no transaction it says nothing
		}
		v, _ := strconv.ParseFloat(m[1], 64)
		return v
	}
	if number(failedLine) > 0 {
		s.t.Fatalf("%s: transactions failed:\n%s", s.name, out)
	}
	var times []float64
	for _, x := range readLog(s.t, log) {
		times = append(times, x.ms)
	}
	r := result{tps: number(tpsLine), mean: number(latencyLine), p99: percentile(times, 0.99), cpu: math.NaN()}
	if n := number(processedLine); n > 0 {
		r.cpu = float64(used.Microseconds()) / n
	}
	return r
}

// A logged is one transaction in pgbench's log.
type logged struct {
	end time.Time
	ms  float64 // latency
}

// readLog reads pgbench's logs, one for each of its threads: a line has the client, the number of its
// transaction, the latency in microseconds, the number of the script, and the time of the end in
// seconds and microseconds (PostgreSQL 15 manual, pgbench, "Per-Transaction Logging").
func readLog(t *testing.T, prefix string) (list []logged) {
	t.Helper()
	names, _ := filepath.Glob(prefix + "*")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		os.Remove(name)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 6 || !strings.HasSuffix(line, "\n") {
				continue // what an interrupted pgbench had no time to write
			}
			us, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				continue // "failed" or "skipped"
			}
			sec, _ := strconv.ParseInt(f[4], 10, 64)
			usec, _ := strconv.ParseInt(f[5], 10, 64)
			list = append(list, logged{time.Unix(sec, usec*1000), us / 1000})
		}
	}
	return list
}

// writeScript writes a script for pgbench to a file.
func writeScript(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// percentile is the smallest of values that a share of them do not exceed; NaN if there are none.
func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	return values[min(len(values)-1, int(float64(len(values))*share))]
}

// median is the median of one column of several results.
func median[T any](list []T, column func(T) float64) float64 {
	var values []float64
	for _, x := range list {
		values = append(values, column(x))
	}
	return percentile(values, 0.5)
}

// A table is printed as Markdown.
type table struct{ b strings.Builder }

// newTable begins a table.
func newTable(title string, columns ...string) *table {
	tab := new(table)
	fmt.Fprintf(&tab.b, "\n### %s\n\n", title)
	tab.row(columns...)
	fmt.Fprintf(&tab.b, "|%s\n", strings.Repeat("---:|", len(columns)))
	return tab
}

func (tab *table) row(cells ...string) { fmt.Fprintf(&tab.b, "| %s |\n", strings.Join(cells, " | ")) }

func (tab *table) print() { fmt.Println(tab.b.String()) }

// number is a cell: three digits, or as many as there are before the point.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
