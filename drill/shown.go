package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/longship-db/longship/wal"
)

// A drill that breaks nothing proves nothing, however well all goes on. So each round has to show that what it
// has broken was felt, as the drill's Shown says: by what a node answers, does, or writes to its log.

// An untestedError says that nothing shows that something was broken.
type untestedError struct{ what string }

func (e *untestedError) Error() string { return "not tested: " + e.what }

func untested(format string, args ...any) error { return &untestedError{fmt.Sprintf(format, args...)} }

// isUntested reports whether an error says that something was not tested.
func isUntested(err error) bool {
	_, ok := errors.AsType[*untestedError](err)
	return ok
}

// killed ends a node as a crash does, and verifies that it is what has ended it.
func (n *Node) killed() error {
	n.Kill()
	p := n.process()
	if p == nil {
		return untested("%s did not run when it was to be killed", n.Name)
	}
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
		return untested("%s was to be killed, and had ended before (%s)", n.Name, p.end)
	}
	return nil
}

// leftBehind verifies that a standby does not get what is committed now.
func (r *Run) leftBehind(ctx context.Context, primary, standby *Node) error {
	if err := r.AwaitCommits(ctx, commitsBetween/5); err != nil {
		return err
	}
	at, err := primary.flushed(ctx)
	if err != nil {
		return err
	}
	if err := r.AwaitCommits(ctx, commitsBetween/5); err != nil {
		return err
	}
	text, err := primary.Value(ctx, "SELECT flush_lsn FROM longship_members WHERE name = '"+standby.Name+"'")
	if err == nil && text == "" { // its stream has ended by a timeout: its slot is where it was
		text, err = primary.Value(ctx, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '"+standby.Name+"'")
	}
	if err != nil {
		return err
	}
	return behind(standby.Name, text, at)
}

// behind verifies that a standby's flush_lsn, as a primary shows it, is before a position. An empty one shows nothing.
func behind(name, flushed string, at wal.LSN) error {
	if flushed == "" {
		return untested("the primary does not say how far %s has the log", name)
	}
	has, err := wal.ParseLSN(flushed)
	if err == nil && has >= at {
		err = untested("%s has the log up to %s, although it was to get none of it from %s on", name, has, at)
	}
	return err
}

// leaderless waits until nodes know of no Raft leader.
func leaderless(ctx context.Context, nodes []*Node) error {
	return poll(ctx, func(ctx context.Context) error {
		for _, n := range nodes {
			leader, err := n.Value(ctx, "SELECT raft_leader FROM longship_cluster")
			if err != nil {
				return err
			}
			if leader != "" {
				return untested("%s still has %s as Raft leader, although its Raft reaches nobody", n.Name, leader)
			}
		}
		return nil
	})
}

// logged waits until one of some nodes has written a message to its log, in this round, of which match is true;
// nil: any.
func (r *Run) logged(ctx context.Context, nodes []*Node, message string, match func(entry map[string]any) bool) error {
	return poll(ctx, func(context.Context) error {
		found := slices.ContainsFunc(nodes, func(n *Node) bool { return r.reader.has(n, message, match) })
		if found {
			return nil
		}
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return untested("no log of %v says %q", names, message)
	})
}

// has reports whether the part of a node's log that has not been read has a message, of which match is true.
func (l *logReader) has(n *Node, message string, match func(entry map[string]any) bool) bool {
	f, err := os.Open(n.LogFile())
	if err != nil {
		return false
	}
	defer f.Close()
	f.Seek(l.offsets[n.LogFile()], io.SeekStart)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry map[string]any
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry["msg"] == message && (match == nil || match(entry)) {
			return true
		}
	}
	return false
}

// with matches entries in which an attribute has a value.
func with(attribute, value string) func(map[string]any) bool {
	return func(entry map[string]any) bool { return entry[attribute] == value }
}

// member is one column of a member, as the primary has it.
func (r *Run) member(ctx context.Context, name, column string) (value string, err error) {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return "", err
	}
	return primary.Value(ctx, fmt.Sprintf("SELECT %s FROM longship_members WHERE name = '%s'", column, name))
}

// changed waits until a column of a member is not what it was.
func (r *Run) changed(ctx context.Context, name, column, was string) error {
	return poll(ctx, func(ctx context.Context) error {
		now, err := r.member(ctx, name, column)
		if err == nil && (now == was || now == "") {
			err = untested("the %s of %s is still %q", column, name, now)
		}
		return err
	})
}
