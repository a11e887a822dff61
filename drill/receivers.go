package drill

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/longship-db/longship/internal/child"
	"github.com/longship-db/longship/wal"
)

// The drills about replication slots, and those who stream besides the members.

var slotUnderFailover = Drill{
	Name:   "slot-under-failover",
	Breaks: "makes replication slots, drops some, and kills the primary",
	Holds:  "a slot that was made is there on the next primary, with its WAL and not ahead of where it was; one that was dropped is not",
	Shown:  "the epoch is a later one; of the slots of the drill there is the last one made, and no other",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		made, dropped := fmt.Sprintf("drill_%d", r.round.Number), fmt.Sprintf("drill_%d", r.round.Number-1)
		r.Strike("slot %s is made, and %s dropped", made, dropped)
		if err := primary.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", made); err != nil {
			return err
		}
		if r.round.Number > 1 {
			if err := primary.Exec(ctx, "SELECT pg_drop_replication_slot($1)", dropped); err != nil {
				return err
			}
		}
		was, err := primary.Value(ctx, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '"+made+"'")
		if err != nil {
			return err
		}
		if err := r.newEpoch(ctx, primary, func() error { return r.killFor(ctx, primary, "the primary") }); err != nil {
			return err
		}
		return r.checkSlots(ctx, made, was)
	},
}

// checkSlots verifies that of the drill's slots one is there, and from where on it keeps the log.
func (r *Run) checkSlots(ctx context.Context, made, was string) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	rows, err := primary.Rows(ctx, "SELECT slot_name, restart_lsn, wal_status FROM pg_replication_slots WHERE slot_name LIKE 'drill%'")
	if err != nil {
		return err
	}
	if len(rows) != 1 || rows[0][0] != made {
		return fmt.Errorf("%s has the slots %v, want %s alone", primary.Name, rows, made)
	}
	before, err := wal.ParseLSN(was)
	if err != nil {
		return err
	}
	now, err := wal.ParseLSN(rows[0][1])
	if err != nil || now > before || rows[0][2] != "reserved" && rows[0][2] != "extended" {
		return fmt.Errorf("slot %s was at %s and is at %s, its WAL %s", made, was, rows[0][1], rows[0][2])
	}
	return nil
}

// receiveWAL is where pg_receivewal is, "" if it is nowhere.
func receiveWAL() string {
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_receivewal")
	if dir := os.Getenv("PGBIN"); dir != "" {
		places = append(places, filepath.Join(dir, "pg_receivewal"))
	}
	if path, err := exec.LookPath("pg_receivewal"); err == nil {
		places = append(places, path)
	}
	for _, path := range slices.Backward(places) {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// receiverSlot is the slot of pg_receivewal.
const receiverSlot = "drill_receiver"

var receiverAcrossFailover = Drill{
	Name:   "receiver-across-failover",
	Breaks: "kills the primary from which PostgreSQL's pg_receivewal, with a slot, archives the log",
	Holds:  "pg_receivewal goes on at the next primary by itself, and the archive is the log, without a gap",
	Shown:  "pg_receivewal streams from the primary when that is killed; the epoch is a later one; the archive has everything up to the end",
	Lacks: func() string {
		if receiveWAL() == "" {
			return "pg_receivewal is not installed (PGBIN says where it is)"
		}
		return ""
	},
	Begin: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		if err := primary.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", receiverSlot); err != nil {
			return err
		}
		if err := r.startReceiver(); err != nil {
			return err
		}
		return receives(ctx, primary) // it gives up if its first connection fails
	},
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		if err := receives(ctx, primary); err != nil {
			return err
		}
		return r.newEpoch(ctx, primary, func() error { return r.killFor(ctx, primary, "the primary") })
	},
	Finish: func(ctx context.Context, r *Run) error { return r.checkArchive(ctx) },
}

// receives waits until pg_receivewal streams from a node.
func receives(ctx context.Context, n *Node) error {
	return n.Await(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = '"+receiverSlot+"'", "t")
}

func (r *Run) archive() string { return filepath.Join(r.Cluster.Dir, "archive") }

// startReceiver starts pg_receivewal, which knows all nodes. It ends with the drill.
func (r *Run) startReceiver() error {
	if err := os.Mkdir(r.archive(), 0o700); err != nil {
		return err
	}
	cfg, err := r.Cluster.login.connString("read-write", r.Cluster.addresses(0)...)
	if err != nil {
		return err
	}
	log, err := os.Create(r.archive() + ".log")
	if err != nil {
		return err
	}
	cmd := exec.Command(receiveWAL(), "--dbname", cfg, "--directory", r.archive(), "--slot", receiverSlot, "--no-password", "--verbose")
	cmd.Env, cmd.Stderr, cmd.SysProcAttr = child.EnvironmentWithoutSettings(), log, child.Attributes()
	if err := r.Cluster.launcher.Start(cmd); err != nil {
		return err
	}
	r.cleanup = append(r.cleanup, func() {
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		log.Close()
	})
	return nil
}

// checkArchive waits until everything up to now is in the archive, and compares it with a node's log.
func (r *Run) checkArchive(ctx context.Context) error {
	primary, err := r.Cluster.Primary(ctx)
	if err != nil {
		return err
	}
	begin, err := r.firstArchived()
	if err != nil {
		return err
	}
	end, err := primary.flushed(ctx)
	if err != nil {
		return err
	}
	if err := primary.Exec(ctx, "SELECT pg_switch_wal()"); err != nil {
		return err
	}
	w, err := openWAL(primary.Dir, end)
	if err != nil {
		return err
	}
	defer w.close()
	for at := begin; at < end; at += wal.LSN(segmentSize) {
		want := make([]byte, min(end-at, wal.LSN(segmentSize)))
		if _, err := w.readAt(want, at); err != nil {
			return err
		}
		path := filepath.Join(r.archive(), filepath.Base(w.file(at)))
		err := poll(ctx, func(context.Context) error {
			got, err := os.ReadFile(path)
			if err == nil && (len(got) < len(want) || !bytes.Equal(got[:len(want)], want)) {
				err = fmt.Errorf("%s in the archive is not what %s has", filepath.Base(path), primary.Name)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("pg_receivewal: %w", err)
		}
	}
	return nil
}

// firstArchived is where the archive begins.
func (r *Run) firstArchived() (wal.LSN, error) {
	files, err := os.ReadDir(r.archive())
	if err != nil {
		return 0, err
	}
	begin := ^wal.LSN(0)
	for _, f := range files {
		if _, segno, ok := segmentSize.ParseFileName(strings.TrimSuffix(f.Name(), ".partial")); ok {
			begin = min(begin, segmentSize.Start(segno))
		}
	}
	if begin == ^wal.LSN(0) {
		return 0, fmt.Errorf("pg_receivewal has received nothing: %s", r.archive()+".log")
	}
	return begin, nil
}
