package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What shows that something was broken is in the manual for each drill.
func TestShownDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range All() {
		_, row, _ := strings.Cut(string(b), "\n| "+d.Name+" | ")
		if row, _, _ = strings.Cut(row, "\n"); !strings.HasSuffix(row, "| "+d.Shown+" |") {
			t.Errorf("docs/testing.md does not say that %s is shown by this: %s", d.Name, d.Shown)
		}
	}
}

// newTestRun is a run on nodes that are none.
func newTestRun(t *testing.T, nodes ...string) *Run {
	c := newCluster("", t.TempDir(), nil)
	for _, name := range nodes {
		c.nodes = append(c.nodes, &Node{Name: name, Dir: filepath.Join(c.Dir, name), cluster: c})
	}
	t.Cleanup(c.close)
	return newRun(Config{Progress: func(string) {}}, Drill{Name: "test"}, c, "test/", &Result{})
}

// A drill in which something was not tested fails, and says that it is that; what does not hold comes first.
func TestUntested(t *testing.T) {
	r := newTestRun(t)
	r.holds(t.Context(), checkDrill, func(context.Context) error { return fmt.Errorf("round: %w", untested("nothing")) })
	if v := r.result.Violations; len(v) != 1 || v[0].Check != checkShown || r.result.word() != "UNTESTED" {
		t.Errorf("%v is %s", v, r.result.word())
	}
	r.holds(t.Context(), checkDrill, func(context.Context) error { return errors.New("something") })
	if v := r.result.Violations; len(v) != 2 || v[1].Check != checkDrill || r.result.word() != "VIOLATED" {
		t.Errorf("%v is %s", v, r.result.word())
	}
}

// Faults that nobody has met have shown nothing.
func TestUnderMetByNobody(t *testing.T) {
	r := newTestRun(t, "n1") // which does not run, and so meets nothing
	nothing := func() error { return nil }
	if err := r.under(t.Context(), "a cut", nil, nothing, nothing); !isUntested(err) {
		t.Errorf("under() = %v, want that nothing was tested", err)
	}
	if err := r.under(t.Context(), "a full disk", r.Cluster.Nodes(), nothing, nothing); !isUntested(err) || !strings.Contains(err.Error(), "n1 has not met") {
		t.Errorf("under() = %v, want that n1 has not met it", err)
	}
	broken := errors.New("no luck")
	if err := r.under(t.Context(), "a cut", nil, nothing, func() error { return broken }); !errors.Is(err, broken) || isUntested(err) {
		t.Errorf("under() = %v, want what went wrong", err)
	}
}

// A process that has ended before it was killed was not killed.
func TestKilled(t *testing.T) {
	r := newTestRun(t, "n1")
	n := r.Cluster.Nodes()[0]
	if err := n.killed(); !isUntested(err) {
		t.Errorf("one that was never started: %v", err)
	}
	n.cluster.program = "/bin/false"
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	n.MayEnd()
	<-n.process().ended
	if err := n.killed(); !isUntested(err) {
		t.Errorf("one that had ended: %v", err)
	}
	n.cluster.program, n.args = "/bin/sh", []string{"-c", "exec sleep 60"}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.killed(); err != nil {
		t.Errorf("one that ran: %v", err)
	}
}

// What a node has logged before the round shows nothing of it.
func TestLogged(t *testing.T) {
	r := newTestRun(t, "n1")
	n := r.Cluster.Nodes()[0]
	write := func(text string) {
		f, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("longship: not JSON\n{\"msg\":\"base backup sent\",\"client\":\"n2\"}\n")
	if !r.reader.has(n, "base backup sent", with("client", "n2")) || r.reader.has(n, "base backup sent", with("client", "n3")) || r.reader.has(n, "sealed", nil) {
		t.Error("the log is not read as it is")
	}
	r.reader.skip()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.logged(ctx, r.Cluster.Nodes(), "base backup sent", nil); !isUntested(err) {
		t.Errorf("logged() = %v for what was logged before", err)
	}
	write("{\"msg\":\"base backup sent\"}\n")
	if err := r.logged(t.Context(), r.Cluster.Nodes(), "base backup sent", nil); err != nil {
		t.Error(err)
	}
}

// A standby is shown to be left behind by a position before that of the primary's log, and by nothing else.
func TestBehind(t *testing.T) {
	for flushed, shown := range map[string]bool{"0/1000": true, "0/2000": false, "0/3000": false, "": false} {
		if err := behind("n2", flushed, 0x2000); isUntested(err) == shown {
			t.Errorf("flush_lsn %q at 0/2000: %v", flushed, err)
		}
	}
	if err := behind("n2", "nonsense", 0x2000); err == nil || isUntested(err) {
		t.Errorf("flush_lsn nonsense: %v", err)
	}
}

// A clock that is set is shown by what the node says the time is, and by nothing else. What it then writes to
// its log is put where it belongs.
func TestClockIsShown(t *testing.T) {
	before := time.Now()
	after := before.Add(time.Millisecond)
	for _, seconds := range []int64{hour, -hour, 20 * years, -since1980(), 1, 0} {
		off := time.Duration(seconds) * time.Second
		for says, shown := range map[time.Time]bool{
			before.Add(off).Truncate(time.Microsecond): true,
			after.Add(off):                       true,
			before.Add(off - time.Millisecond):   false,
			after.Add(off + time.Millisecond):    false,
			before.Add(off + 2*time.Millisecond): false,
		} {
			if err := goesBy("n1", seconds, before, says, after); isUntested(err) == shown || (err == nil) != shown {
				t.Errorf("set by %d s, now() is %s after the true time: %v", seconds, says.Sub(before.Round(0)), err)
			}
		}
	}
	n := &Node{offsets: []int64{hour, -since1980()}}
	at := before.Add(time.Microsecond)
	for _, says := range []time.Time{at, at.Add(time.Hour), at.Add(-time.Duration(n.offsets[1]) * -time.Second)} {
		if got := n.trueTime(says, before, after); !got.Equal(at) {
			t.Errorf("what the log says of %s was at %s, want %s", says, got, at)
		}
	}
	if early := before.Add(-time.Minute); !n.trueTime(early, before, after).Equal(early) {
		t.Error("what was before is put in between")
	}
}

func TestEndsInZeros(t *testing.T) {
	for because, want := range map[string]bool{
		"invalid record length at 0/10c000: wanted 24, got 0":      true,
		"invalid magic number 0000 in log segment 1, offset 49152": true,
		"invalid magic number 0000 in log segment 1, offset 57344": false,
		"record with incorrect prev-link 0/101680 at 0/10c000":     false,
		"invalid magic number 0033 in log segment 1, offset 49152": false,
	} {
		if got := endsInZeros(because, 0x10c000); got != want {
			t.Errorf("endsInZeros(%s) = %v", because, got)
		}
	}
}

// Kinds of connections are told apart by ports; all of a way needs none.
func TestMatches(t *testing.T) {
	for kinds, want := range map[string]string{
		"":                     "",
		"raft":                 "ipproto tcp sport 5533|ipproto tcp dport 5533",
		"replication,commands": "ipproto tcp sport 5433|ipproto tcp dport 5433",
		"gossip":               "ipproto tcp sport 5633|ipproto tcp dport 5633|ipproto udp sport 5633|ipproto udp dport 5633",
	} {
		if got := strings.Join(matches(kinds), "|"); got != want {
			t.Errorf("matches(%q) = %s, want %s", kinds, got, want)
		}
	}
}
