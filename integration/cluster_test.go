package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/wal"
)

// patience bounds every wait. Nothing that is waited for should take nearly as long.
const patience = 45 * time.Second

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), patience)
}

// segmentSize is that of the clusters here: small, so that there are many segments.
const segmentSize = wal.MinSegmentSize

// heartbeats is the flag of a cluster that writes heartbeats as often as it does in life.
const heartbeats = "--heartbeat-interval=1s"

// A cluster is nodes n1, which founds it, and n2 and so on, which join it. At first n1 is the primary.
type cluster struct {
	t     *testing.T
	dir   string
	flags []string // of every node
	names []string // of the nodes, where they are others
	nodes []*node
}

// newCluster starts a cluster of n nodes with flags, such as --checkpoint-timeout=30s. It returns when
// all of them stream and count for the rule. The log grows by what the test writes alone, unless a
// flag asks for heartbeats.
func newCluster(t *testing.T, n int, flags ...string) *cluster {
	t.Helper()
	c := unstarted(t)
	c.flags = append(c.flags, flags...)
	c.node(n)
	c.start()
	return c
}

// start starts the nodes that there are, as newCluster does.
func (c *cluster) start() {
	c.t.Helper()
	c.t.Cleanup(c.tidy)
	c.node(1).start()
	for _, n := range c.nodes[1:] {
		n.launch()
	}
	for _, s := range c.nodes {
		s.awaitReady()
	}
	c.awaitStreaming()
	c.awaitCounted(len(c.nodes))
}

// unstarted is a cluster of which no node runs yet.
func unstarted(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp(t.ArtifactDir(), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, dir: dir, flags: []string{"--wal-retrieve-retry-interval=500ms", "--heartbeat-interval=0"}}
}

// tidy leaves the files of a failed test, for -artifacts, and the ends of the logs in its output.
func (c *cluster) tidy() {
	if !c.t.Failed() {
		for _, n := range c.nodes {
			os.RemoveAll(n.dir)
		}
		return
	}
	for _, n := range c.nodes {
		text, _ := os.ReadFile(n.dir + ".log")
		c.t.Logf("%s, in %s, ended its log with\n%s", n.name, n.dir, tail(string(text), 25))
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// node is the i-th node, from 1, which need not run yet.
func (c *cluster) node(i int) *node {
	for len(c.nodes) < i {
		name := fmt.Sprintf("n%d", len(c.nodes)+1)
		if len(c.names) > len(c.nodes) {
			name = c.names[len(c.nodes)]
		}
		n := &node{t: c.t, name: name, dir: filepath.Join(c.dir, name), port: freePort(c.t), up: make(chan struct{})}
		n.flags = []string{
			"--data-dir=" + n.dir, "--name=" + name, "--listen=" + n.address(),
			fmt.Sprintf("--raft-listen=127.0.0.1:%d", freePort(c.t)), fmt.Sprintf("--gossip-listen=127.0.0.1:%d", freePort(c.t)),
		}
		if len(c.nodes) == 0 {
			n.flags = append(n.flags, fmt.Sprintf("--wal-segsize=%d", segmentSize>>20))
		} else {
			n.flags = append(n.flags, "--join="+c.nodes[0].address())
		}
		n.flags = append(n.flags, c.flags...)
		c.nodes = append(c.nodes, n)
	}
	return c.nodes[i-1]
}

// primary is the node that is the primary now, and open; it waits until there is one.
func (c *cluster) primary() *node {
	c.t.Helper()
	ctx, cancel := testContext(c.t)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		for _, n := range c.nodes {
			if n.isPrimary(ctx) {
				return n
			}
		}
	}
	c.t.Fatalf("there is no primary\n%s", c.waiting())
	return nil
}

// waiting is what each node says it waits for.
func (c *cluster) waiting() string {
	var b strings.Builder
	for _, n := range c.nodes {
		if !n.running() {
			fmt.Fprintf(&b, "%s does not run\n", n.name)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		v, err := n.ask(ctx, "SELECT role || ', ' || phase || ': ' || waiting FROM longship_cluster")
		cancel()
		fmt.Fprintf(&b, "%s: %s %v\n", n.name, v, err)
	}
	return b.String()
}

// pair is the primary and the standby of a cluster of two.
func (c *cluster) pair() (primary, standby *node) {
	c.t.Helper()
	primary = c.primary()
	for _, n := range c.nodes {
		if n != primary {
			standby = n
		}
	}
	return primary, standby
}

// standbys are the nodes other than the primary.
func (c *cluster) standbys() (list []*node) {
	c.t.Helper()
	primary := c.primary()
	for _, n := range c.nodes {
		if n != primary {
			list = append(list, n)
		}
	}
	return list
}

// awaitCounted waits until majorities count so many members, and all of them vote.
func (c *cluster) awaitCounted(members int) {
	c.t.Helper()
	want := fmt.Sprint(members)
	c.primary().await("SELECT count(*) FROM longship_members WHERE counted AND voter", want)
}

// awaitStreaming waits until all nodes stream from whichever is the primary, which may change meanwhile.
func (c *cluster) awaitStreaming() {
	c.t.Helper()
	ctx, cancel := testContext(c.t)
	defer cancel()
	for {
		primary, missing := c.primary(), ""
		for _, n := range c.nodes {
			if n == primary {
				continue
			}
			state, err := primary.ask(ctx, "SELECT state FROM longship_members WHERE name = '"+n.name+"'")
			if state != "streaming" || err != nil {
				missing = fmt.Sprintf("%s says of %s: %q, %v", primary.name, n.name, state, err)
			}
		}
		if missing == "" {
			return
		}
		if moment(ctx); ctx.Err() != nil {
			c.t.Fatalf("not all stream: %s\n%s", missing, c.waiting())
		}
	}
}

// awaitCaughtUp waits until every standby has flushed and applied all that the primary has. If another
// node becomes the primary meanwhile, it is that one's log that counts.
func (c *cluster) awaitCaughtUp() wal.LSN {
	c.t.Helper()
	for {
		primary := c.primary()
		end := primary.flushed()
		for _, n := range c.nodes {
			if n != primary && n.running() {
				n.awaitLSN(end)
			}
		}
		if c.primary() == primary {
			return end
		}
	}
}

// checkSame compares the tables and logs of all nodes once they have caught up.
func (c *cluster) checkSame() {
	c.t.Helper()
	end := c.awaitCaughtUp()
	primary := c.primary()
	for _, n := range c.nodes {
		if n != primary && n.running() {
			if !n.isWitness() {
				checkSameTable(c.t, primary, n)
			}
			checkSameWAL(c.t, primary, n, end)
		}
	}
}

// dsn is how a client reaches whichever node takes writes.
func (c *cluster) dsn(more ...string) string {
	var hosts, ports []string
	for _, n := range c.nodes {
		hosts, ports = append(hosts, "127.0.0.1"), append(ports, fmt.Sprint(n.port))
	}
	return fmt.Sprintf("host=%s port=%s user=test dbname=test sslmode=disable connect_timeout=2 target_session_attrs=read-write %s",
		strings.Join(hosts, ","), strings.Join(ports, ","), strings.Join(more, " "))
}

// A node is a longship process, its data directory and its address.
type node struct {
	t     *testing.T
	name  string
	dir   string
	port  int
	http  string // where it serves metrics and health, if it does
	flags []string

	mu   sync.Mutex
	proc *process
	up   chan struct{} // closed once the process, or if it was ended the next, is ready
}

func (n *node) address() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// launch starts the process.
func (n *node) launch() {
	n.t.Helper()
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	p := startProcess(n.t, log, longship, append([]string{"start"}, n.flags...)...)
	n.down()
	n.mu.Lock()
	n.proc = p
	up := n.up
	n.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := p.await(ctx, p.stdout, `(?m)^ready: .*\n`); err == nil {
			close(up)
		}
	}()
	go func() {
		<-p.done
		log.Close()
	}()
}

// awaitReady waits until the node says that it does its work.
func (n *node) awaitReady() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	select {
	case <-n.up:
	case <-n.proc.done:
		n.t.Fatalf("%s ended before it was ready: %v\n%s", n.name, n.proc.err, n.proc.stderr)
	case <-ctx.Done():
		n.t.Fatalf("%s is not ready\n%s", n.name, n.proc.stderr)
	}
}

// down says that the node is not up until it is launched again. It comes before what ends it.
func (n *node) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.up:
		n.up = make(chan struct{})
	default:
	}
}

func (n *node) start() {
	n.t.Helper()
	n.launch()
	n.awaitReady()
}

// stop shuts the node down cleanly.
func (n *node) stop() {
	n.t.Helper()
	n.down()
	n.proc.signal(syscall.SIGTERM)
	n.awaitExit(0)
}

// running reports whether there is a process, as far as the test has not ended it.
func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return false
	}
	select {
	case <-n.proc.done:
		return false
	default:
		return true
	}
}

// isPrimary asks the node whether it takes writes.
func (n *node) isPrimary(ctx context.Context) bool {
	if !n.running() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v, err := n.ask(ctx, "SELECT role FROM longship_cluster WHERE role = 'primary' AND waiting IS NULL")
	return err == nil && v == "primary"
}

// ask is for one value in a session of its own, if the node answers at all.
func (n *node) ask(ctx context.Context, sql string) (string, error) {
	c, err := pgx.Connect(ctx, n.dsn())
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	return queryValue(ctx, c, sql)
}

// awaitExit waits until the process has ended, with the exit code given.
func (n *node) awaitExit(code int) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	n.proc.wait(ctx)
	if ctx.Err() != nil {
		n.proc.signal(syscall.SIGQUIT) // for its goroutines
		<-n.proc.done
		n.t.Fatalf("%s did not end\n%s", n.name, n.proc.stderr)
	}
	if got := n.proc.cmd.ProcessState.ExitCode(); got != code {
		n.t.Fatalf("%s: exit code %d, want %d\n%s", n.name, got, code, tail(n.proc.stderr.String(), 20))
	}
}

// kill9 ends the process as a crash does.
func (n *node) kill9() {
	n.down()
	n.proc.signal(syscall.SIGKILL)
	<-n.proc.done
}

func (n *node) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

// freeze stops the process from running, but not from being there. When it returns, every thread has
// stopped, which on a busy machine takes a moment.
func (n *node) freeze() {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	n.proc.signal(syscall.SIGSTOP)
	for !n.proc.stopped() {
		if ctx.Err() != nil {
			n.t.Fatalf("%s does not stop", n.name)
		}
		runtime.Gosched()
	}
}

// thaw lets a frozen process run on.
func (n *node) thaw() { n.proc.signal(syscall.SIGCONT) }

// dsn is how libpq and pgx reach the node.
func (n *node) dsn(more ...string) string {
	database := "test"
	if n.isWitness() {
		database = "longship_admin"
	}
	return fmt.Sprintf("host=127.0.0.1 port=%d user=test dbname=%s sslmode=disable %s", n.port, database, strings.Join(more, " "))
}

// dial opens a session. A node that says it cannot take clients now, as a standby does while it
// follows its primary to another timeline, is asked again.
func (n *node) dial(ctx context.Context) (*pgx.Conn, error) {
	for {
		c, err := pgx.Connect(ctx, n.dsn())
		if ctx.Err() != nil || sqlState(err) != "57P03" {
			return c, err
		}
		moment(ctx)
	}
}

// moment is what a client leaves between two attempts.
func moment(ctx context.Context) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
	}
}

// sqlState is the SQLSTATE of an error, "" if the server did not send one.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// connect opens a session for the test.
func (n *node) connect() *pgx.Conn {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	c, err := n.dial(ctx)
	if err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
	n.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// exec runs statements in a session of their own.
func (n *node) exec(sql string, args ...any) {
	n.t.Helper()
	if err := n.tryExec(sql, args...); err != nil {
		n.t.Fatalf("%s: %s: %v", n.name, sql, err)
	}
}

func (n *node) tryExec(sql string, args ...any) error {
	ctx, cancel := testContext(n.t)
	defer cancel()
	c, err := n.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, sql, args...)
	return err
}

// value is the one value of a query's one row, as text; "" if there is no row.
func (n *node) value(sql string, args ...any) string {
	n.t.Helper()
	v, err := n.tryValue(sql, args...)
	if err != nil {
		n.t.Fatalf("%s: %s: %v", n.name, sql, err)
	}
	return v
}

func (n *node) tryValue(sql string, args ...any) (string, error) {
	ctx, cancel := testContext(n.t)
	defer cancel()
	c, err := n.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	return queryValue(ctx, c, sql, args...)
}

func queryValue(ctx context.Context, c *pgx.Conn, sql string, args ...any) (string, error) {
	rows, err := c.Query(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var v string
	if rows.Next() {
		v = string(rows.RawValues()[0])
	}
	rows.Close()
	return v, rows.Err()
}

// await waits until a query's one value is want. It is for states that no line of output and no
// position tells of.
func (n *node) await(sql, want string) {
	n.t.Helper()
	n.awaitThat(sql, func(v string) bool { return v == want }, want)
}

// awaitThat is await for any value that will do. A node that becomes or ceases to be the primary
// meanwhile is asked in another session.
func (n *node) awaitThat(sql string, ok func(string) bool, want string) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for {
		got, err := n.poll(ctx, sql, ok)
		if err == nil {
			return
		}
		if ctx.Err() != nil || sqlState(err) != "57P01" {
			n.t.Fatalf("%s: %s = %q (%v), want %q", n.name, sql, got, errors.Join(err, ctx.Err()), want)
		}
	}
}

// poll repeats a query in one session until ok takes its value. It returns the last one.
func (n *node) poll(ctx context.Context, sql string, ok func(string) bool) (got string, err error) {
	c, err := n.dial(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	for {
		v, err := queryValue(ctx, c, sql)
		if err != nil {
			return got, err
		}
		if got = v; ok(got) {
			return got, nil
		}
		moment(ctx)
	}
}

// flushed is how far a primary's log is durable.
func (n *node) flushed() wal.LSN {
	n.t.Helper()
	return parseLSN(n.t, n.value("SELECT pg_current_wal_flush_lsn()"))
}

// isWitness reports whether the node keeps the log alone.
func (n *node) isWitness() bool { return slices.Contains(n.flags, "--witness") }

// awaitLSN waits until the node has applied everything up to lsn; a witness, flushed. A standby that follows its
// primary to another timeline meanwhile ends the session that waits: then another one waits on.
func (n *node) awaitLSN(lsn wal.LSN) {
	n.t.Helper()
	if n.isWitness() {
		n.awaitThat("SELECT pg_last_wal_receive_lsn()", func(v string) bool {
			at, err := wal.ParseLSN(v)
			return err == nil && at >= lsn
		}, lsn.String())
		return
	}
	for {
		err := n.tryExec(fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT %d", lsn, patience.Milliseconds()))
		if err == nil {
			return
		}
		if sqlState(err) != "57P01" {
			n.t.Fatalf("%s: wait for %s: %v", n.name, lsn, err)
		}
	}
}

func parseLSN(t *testing.T, s string) wal.LSN {
	t.Helper()
	lsn, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}
