package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// The drills about what is in a node's data directory when it starts.

var tornTail = Drill{
	Name:   "torn-tail",
	Breaks: "kills a node and writes half a record behind the end of its log, as a write that a power failure has cut short; the primary in every other round",
	Holds:  "the node starts, cuts the half record off and fetches what it lacks",
	Shown:  "the log of the node says that its WAL ends at the half record, in something other than zeros",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.victim(ctx)
		if err != nil {
			return err
		}
		r.Strike("kill -9 of %s", n.Name)
		if err := n.killed(); err != nil {
			return err
		}
		at, err := tear(n, r.Random.IntN)
		if err != nil {
			return err
		}
		r.Mend("%s is started with half a record at %s, the end of its log", n.Name, at)
		if err := n.Start(); err != nil {
			return err
		}
		return r.logged(ctx, []*Node{n}, "end of log found", func(entry map[string]any) bool {
			return endsTorn(entry, at)
		})
	},
}

// endsTorn reports whether the log of a node says that its WAL ends at at, in something other than zeros.
func endsTorn(entry map[string]any, at wal.LSN) bool {
	because, _ := entry["because"].(string)
	return entry["end"] == at.String() && !endsInZeros(because, at)
}

// endsInZeros reports whether a log ends at at, for the reason given, where nothing was ever written. Of a half
// record right before the end of a page the reader misses the next page.
func endsInZeros(because string, at wal.LSN) bool {
	page := fmt.Sprintf("magic number 0000 in log segment %d, offset %d", segmentSize.Segno(at), segmentSize.Offset(at))
	return strings.HasSuffix(because, "got 0") || strings.HasSuffix(because, page)
}

// victim is a standby, and in every other round the primary.
func (r *Run) victim(ctx context.Context) (*Node, error) {
	if r.round.Number%2 == 0 {
		return r.Cluster.Primary(ctx)
	}
	return r.Standby(ctx)
}

// tear writes the first part of the log's last record again, behind it: its header says that it is longer.
func tear(n *Node, random func(int) int) (wal.LSN, error) {
	w, err := openWAL(n.Dir, 0)
	if err != nil {
		return 0, err
	}
	defer w.close()
	last, err := w.last()
	if err != nil {
		return 0, err
	}
	record := make([]byte, min(int(last.TotLen), int(last.End-last.LSN)))
	if _, err := w.readAt(record, last.LSN); err != nil {
		return 0, err
	}
	room := wal.PageSize - int(last.End%wal.PageSize)
	part := record[:min(len(record)-1, room, 9+random(len(record)))] // not 0: that would be no record
	f, err := os.OpenFile(w.file(last.End), os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteAt(part, w.dir.Format.SegmentSize.Offset(last.End))
	return last.End, errors.Join(err, f.Close())
}

var bitFlip = Drill{
	Name:   "bit-flip-segment",
	Breaks: "stops a node cleanly and flips a bit in a record of the segment that its next start reads; the primary in every other round",
	Holds:  "the node does not serve what is damaged: it is repaired, or refuses to start and says so; with an empty disk it comes back",
	Shown:  "the log of the node says that its WAL was damaged and is repaired, or why it does not start",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.victim(ctx)
		if err != nil {
			return err
		}
		r.Strike("%s is stopped", n.Name)
		if err := n.Stop(ctx); err != nil {
			return err
		}
		at, err := flip(n, r.Random.IntN)
		if err != nil {
			return err
		}
		r.Strike("%s is started with a flipped bit at %s", n.Name, at)
		if err := n.Start(); err != nil {
			return err
		}
		n.MayEnd()
		select {
		case <-n.process().ready: // the logs are compared in the end
			return r.logged(ctx, []*Node{n}, "the log was damaged, and is repaired", nil)
		case <-n.process().ended:
		case <-ctx.Done():
			return fmt.Errorf("%s neither starts nor ends: %w", n.Name, context.Cause(ctx))
		}
		if code, said := n.process().cmd.ProcessState.ExitCode(), n.lastLog(); code != 1 || !strings.Contains(said, "damaged") && !strings.Contains(said, "corrupt") {
			return fmt.Errorf("%s ended with exit code %d and does not say that its log is damaged: %s", n.Name, code, said)
		}
		return r.wipe(n)
	},
}

// flip flips a bit of a record in the last segment of the log.
func flip(n *Node, random func(int) int) (wal.LSN, error) {
	w, err := openWAL(n.Dir, 0)
	if err != nil {
		return 0, err
	}
	defer w.close()
	last, err := w.last()
	if err != nil {
		return 0, err
	}
	at := last.LSN + wal.LSN(random(8)) // in its length, or the transaction id behind it
	f, err := os.OpenFile(w.file(at), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	b, off := make([]byte, 1), w.dir.Format.SegmentSize.Offset(at)
	if _, err := f.ReadAt(b, off); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	b[0] ^= 1 << random(8)
	_, err = f.WriteAt(b, off)
	return at, errors.Join(err, f.Close())
}

// wipe starts a node that does not run with an empty disk.
func (r *Run) wipe(n *Node) error {
	if err := os.RemoveAll(n.Dir); err != nil {
		return err
	}
	r.Mend("%s is started with an empty disk", n.Name)
	return n.Start()
}

var wipedDisk = Drill{
	Name:   "wiped-disk",
	Breaks: "kills a node and starts it with an empty disk; the primary in every other round",
	Holds:  "it is another member, which takes a copy, and then the place of the one before",
	Shown:  "the incarnation is another one; a member says that it has sent a base copy to the node",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.victim(ctx)
		if err != nil {
			return err
		}
		was, err := r.member(ctx, n.Name, "incarnation")
		if err != nil {
			return err
		}
		r.Strike("kill -9 of %s, whose disk is lost", n.Name)
		if err := n.killed(); err != nil {
			return err
		}
		r.Pause(ctx, pauseAfterKill)
		if err := r.wipe(n); err != nil {
			return err
		}
		if err := r.changed(ctx, n.Name, "incarnation", was); err != nil {
			return err
		}
		return r.logged(ctx, r.Cluster.others(n), "base backup sent", with("client", n.Name))
	},
}

var lostRaftDir = Drill{
	Name:   "lost-raft-dir",
	Breaks: "kills a node and removes what it has stored of Raft; the primary in every other round",
	Holds:  "it votes again only as one who has never voted, and comes back",
	Shown:  "the others say that they have taken another Raft server at the address of the node",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.victim(ctx)
		if err != nil {
			return err
		}
		r.Strike("kill -9 of %s, whose Raft folder is lost", n.Name)
		if err := n.killed(); err != nil {
			return err
		}
		if err := os.RemoveAll(startup.DataDir{FS: vfs.Default, Path: n.Dir}.Raft()); err != nil {
			return err
		}
		r.Mend("%s is started again", n.Name)
		if err := n.Start(); err != nil {
			return err
		}
		return r.logged(ctx, r.Cluster.Nodes(), "Raft configuration changed", with("address", n.raft))
	},
}

var duplicateNode = Drill{
	Name:   "duplicate-node",
	Breaks: "starts a second process on a copy of a running node's data directory; of the primary's in every other round",
	Holds:  "the copy is refused and says why, and the original goes on",
	Shown:  "the copy ends with exit code 1 and says that it is one",
	Round: func(ctx context.Context, r *Run) error {
		return r.sameEpoch(ctx, func() error {
			original, err := r.victim(ctx)
			if err != nil {
				return err
			}
			twin, err := r.twin(ctx, original)
			if err != nil {
				return err
			}
			r.Strike("%s is started a second time, on a copy of its disk", original.Name)
			if err := twin.Start(); err != nil {
				return err
			}
			twin.MayEnd()
			defer twin.Kill()
			code, err := twin.AwaitEnd(ctx)
			if said := twin.lastLog(); err == nil && (code != 1 || !strings.Contains(said, "cop")) {
				err = fmt.Errorf("a copy of %s ended with exit code %d and does not say that it is one: %s", original.Name, code, said)
			}
			return err
		})
	},
}

// twin is a node that is no member: a copy of another one, with ports of its own.
func (r *Run) twin(ctx context.Context, original *Node) (*Node, error) {
	twin, err := r.Cluster.make(original.Name, filepath.Join(r.Cluster.Dir, fmt.Sprintf("%s-copy%d", original.Name, r.round.Number)))
	if err != nil {
		return nil, err
	}
	// Else files would come and go under the copy. It is a moment, too short for a failover.
	if err := original.Freeze(ctx); err != nil {
		return nil, err
	}
	defer original.Thaw()
	return twin, copyFolder(twin.Dir, original.Dir)
}

// copyFolder copies a folder. Files that are hard links become files of their own.
func copyFolder(to, from string) error {
	err := os.CopyFS(to, os.DirFS(from))
	if errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("a file went away while %s was copied: %w", from, err)
	}
	return err
}
