package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// The drills in which a disk hangs, is full, or says that it has not stored what it was given.

// watchdog is how long a write may take in the drills of disks that hang.
const watchdog = 2 * time.Second

var diskStall = Drill{
	Name:   "disk-stall",
	Breaks: "has the disk of the primary hang: writes do not return; then that of a standby, and then only for half of what the watchdog allows",
	Holds:  "the process, which looks alive, ends itself, and another node takes over; what passes in time costs only time",
	Shown:  "the process says that its disk hangs; where it is to go on, the fault has held up a write of it",
	Flags:  append([]string{"--disk-watchdog-timeout=" + watchdog.String()}, breakable...),
	Round: func(ctx context.Context, r *Run) error {
		primary, standby, err := r.pair(ctx)
		if err != nil {
			return err
		}
		switch r.round.Number % 3 {
		case 1:
			return r.newEpoch(ctx, primary, func() error {
				return r.endsItself(ctx, primary, "the disk of %s, the primary, hangs", "stall", "the disk hangs")
			})
		case 2:
			return r.sameEpoch(ctx, func() error {
				return r.endsItself(ctx, standby, "the disk of %s, a standby, hangs", "stall", "the disk hangs")
			})
		}
		return r.sameEpoch(ctx, func() error {
			return r.under(ctx, fmt.Sprintf("the disk of %s, the primary, hangs for %s", primary.Name, watchdog/2), []*Node{primary},
				func() error { return primary.inject(ctx, "stall") },
				func() error { sleep(ctx, watchdog/2); return nil })
		})
	},
}

var fsyncError = Drill{
	Name:   "fsync-error",
	Breaks: "has one sync of the primary's log fail; then one of a standby's; then all of the primary's; then one of the Raft store of a standby",
	Holds:  "the process ends at once and never tries the sync again; another node takes over; the next start recovers",
	Shown:  "the process ends with exit code 1 and says EIO (input/output error)",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		primary, standby, err := r.pair(ctx)
		if err != nil {
			return err
		}
		switch r.round.Number % 4 {
		case 1:
			return r.newEpoch(ctx, primary, func() error {
				return r.endsItself(ctx, primary, "one sync of the log of %s, the primary, fails", "fail-sync once pg_wal", syncFails)
			})
		case 2:
			return r.sameEpoch(ctx, func() error {
				return r.endsItself(ctx, standby, "one sync of the log of %s, a standby, fails", "fail-sync once pg_wal", syncFails)
			})
		case 3:
			return r.newEpoch(ctx, primary, func() error {
				return r.endsItself(ctx, primary, "no sync succeeds on the disk of %s, the primary", "fail-sync", syncFails)
			})
		}
		return r.endsItself(ctx, standby, "one sync of the Raft store of %s, a standby, fails", "fail-sync once raft", syncFails, func() {
			// Raft stores what is decided. It may lose its leader by that, so that the outcome is open.
			primary.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET commit_siblings = %d", r.round.Number))
		})
	},
}

// syncFails is what a node says of a sync that has failed: EIO.
const syncFails = "input/output error"

// endsItself breaks the disk of a node, waits until its process has ended because of that, as it says, and
// starts it again. What provokes the end is done meanwhile.
func (r *Run) endsItself(ctx context.Context, n *Node, what, fault, because string, provoke ...func()) error {
	var before int64
	if info, err := os.Stat(n.LogFile()); err == nil {
		before = info.Size()
	}
	r.Strike(what, n.Name)
	n.MayEnd()
	if err := n.inject(ctx, "%s", fault); err != nil {
		return err
	}
	for _, f := range provoke {
		f()
	}
	code, err := n.AwaitEnd(ctx)
	if err != nil {
		return fmt.Errorf("it goes on with a broken disk: %w", err)
	}
	if code != 1 {
		return fmt.Errorf("%s ended with exit code %d, want 1: %s", n.Name, code, n.lastLog())
	}
	words := lastWords(n, before)
	r.event("end", "%s: %s", n.Name, words)
	if !strings.Contains(words, because) {
		return untested("%s has not ended because of %q: %s", n.Name, because, words)
	}
	r.Pause(ctx, time.Second)
	r.Mend("%s is started again, on a good disk", n.Name)
	return n.Start()
}

// lastWords is why a node ended, as it said in its log behind a position. Others may say something after it.
func lastWords(n *Node, before int64) string {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return err.Error()
	}
	_, text, _ := strings.Cut(string(b[min(before, int64(len(b))):]), "\nlongship: ")
	line, _, _ := strings.Cut(text, "\n")
	return short(line, 300)
}

var diskFull = Drill{
	Name:   "disk-full",
	Breaks: "fills the disk of the primary, then that of a standby, then those of all standbys while the primary is killed; and makes room again",
	Holds:  "the primary refuses writes with 53100 and answers reads; without a standby the others go on; nobody ends; all goes on by itself, a failover too, when there is room",
	Shown:  "each node whose disk is full has met ENOSPC; the primary answers 53100; the standby is two segments behind",
	Flags:  breakable,
	Round: func(ctx context.Context, r *Run) error {
		primary, standby, err := r.pair(ctx)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("%sfill/%05d/", r.work.prefix, r.round.Number)
		if r.round.Number%3 == 0 {
			return r.failoverWithoutRoom(ctx, primary)
		}
		return r.sameEpoch(ctx, func() error {
			if r.round.Number%3 == 1 {
				return r.under(ctx, fmt.Sprintf("the disk of %s, the primary, is full", primary.Name), []*Node{primary},
					func() error { return primary.inject(ctx, "full") },
					func() error { return r.refusesWrites(ctx, primary, key) })
			}
			return r.under(ctx, fmt.Sprintf("the disk of %s, a standby, is full", standby.Name), []*Node{standby},
				func() error { return standby.inject(ctx, "full") },
				func() error { return r.fallsBehind(ctx, primary, standby, key) })
		})
	},
}

// fillRow is how much is written at once to fill a disk.
const fillRow = int(segmentSize) / 4

// fill writes a row of a size that does not compress, and which nobody looks at. It replaces the one before.
func (r *Run) fill(ctx context.Context, n *Node, key string, size int) error {
	b := make([]byte, size)
	random := rand.New(rand.NewPCG(r.Random.Uint64(), 0))
	for i := range b {
		b[i] = '!' + byte(random.UintN(64))
	}
	return n.Exec(ctx, upsert, key, string(b))
}

// refusesWrites writes until the segments that there are are used up to the last byte, and verifies what is said
// then, for a while.
func (r *Run) refusesWrites(ctx context.Context, primary *Node, key string) error {
	for _, size := range []int{fillRow, fillRow / 32, 256, 1} {
		err := poll(ctx, func(ctx context.Context) error {
			return refused(r.fill(ctx, primary, key, size))
		})
		if err != nil {
			return err
		}
	}
	r.event("full", "%s refuses writes with 53100", primary.Name)
	for end := time.Now().Add(isolation); time.Now().Before(end); {
		if err := refused(r.fill(ctx, primary, key, 1)); err != nil {
			return err
		}
		length, err := primary.Value(ctx, "SELECT length(value) FROM kv WHERE key = '"+key+"'")
		if err != nil || length == "" {
			return fmt.Errorf("on a full disk a read finds a row of %q bytes, %w", length, err)
		}
	}
	return nil
}

// refused verifies what a write on a full disk gets.
func refused(err error) error {
	switch {
	case err == nil:
		return errors.New("on a full disk a write is acknowledged, that gets past what is left of the log's last segment")
	case sqlState(err) != "53100":
		return fmt.Errorf("on a full disk a write gets %w, want 53100", err)
	}
	return nil
}

// fallsBehind writes until the standby has run out of room, and verifies that the others go on.
func (r *Run) fallsBehind(ctx context.Context, primary, standby *Node, key string) error {
	err := poll(ctx, func(ctx context.Context) error {
		if err := r.fill(ctx, primary, key, fillRow); err != nil {
			return err
		}
		has, written, err := received(ctx, standby, primary)
		if err == nil && has+wal.LSN(2*segmentSize) > written {
			err = fmt.Errorf("%s, whose disk is full, has the log up to %s of %s", standby.Name, has, written)
		}
		return err
	})
	if err != nil {
		return err
	}
	r.event("full", "%s has no room for more of the log", standby.Name)
	return r.AwaitCommits(ctx, commitsBetween)
}

// failoverWithoutRoom kills the primary while no standby can store a promise: one takes over when there is room.
func (r *Run) failoverWithoutRoom(ctx context.Context, primary *Node) error {
	before, err := primary.Epoch(ctx)
	if err != nil {
		return err
	}
	standbys := r.Cluster.others(primary)
	err = r.under(ctx, fmt.Sprintf("the disks of all standbys are full; kill -9 of %s, the primary", primary.Name), standbys, func() error {
		for _, n := range standbys {
			if err := n.inject(ctx, "full"); err != nil {
				return err
			}
		}
		return primary.killed()
	}, func() error {
		sleep(ctx, isolation)
		for _, n := range standbys {
			if count, err := n.Value(ctx, "SELECT count(*) FROM kv"); err != nil || count == "0" {
				return fmt.Errorf("on a full disk, without a primary, %s counts %q rows, %w", n.Name, count, err)
			}
		}
		return nil
	})
	if err == nil {
		_, err = successor(ctx, standbys, before)
	}
	r.Mend("%s is started again", primary.Name)
	return errors.Join(err, primary.Start())
}

// received is how far a standby has the log, and then how far the primary had it before.
func received(ctx context.Context, standby, primary *Node) (has, written wal.LSN, err error) {
	if written, err = primary.flushed(ctx); err != nil {
		return 0, 0, err
	}
	text, err := standby.Value(ctx, "SELECT pg_last_wal_receive_lsn()")
	if err != nil {
		return 0, 0, err
	}
	has, err = wal.ParseLSN(text)
	return has, written, err
}
