package startup

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// A Recovered is a node's log as it was found at start: proved, and ready to be continued or
// followed from End on.
type Recovered struct {
	Dir     *wal.Dir
	History wal.History // of the timeline of End
	End     wal.End
	Control Control // as written back: Durable is End
	Clean   bool    // the last stop was a clean one

	// Horizon is the highest position known to be durable under the rule: from the control file,
	// or what a record said of it. Everything up to it may be applied and shown (I7).
	Horizon wal.LSN
}

// Recover finds the end of a node's log and proves its tail: whatever it reports has just been
// written and synced, or was known to be durable. A log that is damaged before its end is left as
// it is; the error then is a *wal.CorruptError or *wal.MissingError.
//
// A crash during Recover leaves the log as it was, but for the tail rewritten with the same bytes.
func Recover(d DataDir, id Identity, log *slog.Logger) (*Recovered, error) {
	control, err := ReadControl(d.FS, d.Global())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	dir := wal.NewDir(d.FS, d.WAL(), id.Format())
	if err := dir.RemoveTemporary(); err != nil {
		return nil, err
	}
	history, err := dir.ReadHistory(control.Timeline)
	if err != nil {
		return nil, err
	}
	r := &Recovered{Dir: dir, History: history, Control: control, Clean: control.Clean}
	if err := r.findEnd(log); err != nil {
		return nil, err
	}
	if !control.Clean {
		begin := time.Now()
		from := min(max(control.Durable, control.Redo), r.End.LSN)
		if err := wal.ProveTail(dir, history, from, r.End.LSN); err != nil {
			return nil, err
		}
		log.Info("log recovered after an unclean stop", "end", r.End.LSN, "proved_from", from, "took", time.Since(begin))
	}
	r.Control.Durable = r.End.LSN
	r.Control.Clean = false
	r.Control.Horizon = max(r.Control.Horizon, r.Horizon)
	r.Control.Time = time.Now().UTC()
	return r, r.Control.Write(d.FS, d.Global())
}

// findEnd reads the log from redo to its end.
func (r *Recovered) findEnd(log *slog.Logger) error {
	r.Horizon = r.Control.Horizon
	start, err := r.scanStart()
	if err != nil {
		return err
	}
	scan := wal.Scan{
		Dir:     r.Dir,
		History: r.History,
		Start:   start,
		Durable: r.Control.Durable,
		Each:    r.read,
	}
	if r.Control.ReignStart != 0 {
		scan.Witness = r.witness
	}
	end, err := scan.Find()
	if err != nil {
		return err
	}
	r.End = end.End
	r.Horizon = min(r.Horizon, r.End.LSN)
	log.Info("end of log found", "end", r.End.LSN, "timeline", r.End.Timeline, "because", end.Reason)
	return nil
}

// scanStart is where to begin reading so that the record before redo is seen: the next record
// written must point back to its predecessor. It is the start of the segment in which the byte
// before redo lies. If that segment is not there, as after a base copy, it is the start of the
// segment of redo: like PostgreSQL's walreceiver, a standby fetches its first segment from its start,
// because a segment with a hole at its start could neither be read nor handed on.
func (r *Recovered) scanStart() (wal.LSN, error) {
	size := r.Dir.Format.SegmentSize
	segno := size.PrevSegno(r.Control.Redo)
	f, err := r.Dir.OpenSegment(r.History.FileTimeline(segno, size), segno)
	if err != nil {
		return size.SegmentStart(r.Control.Redo), nil
	}
	return size.Start(segno), f.Close()
}

// read learns from one record: how far the horizon was, and which transaction ids are used.
func (r *Recovered) read(rec wal.Record) error {
	if rec.XID >= r.Control.NextXID {
		r.Control.NextXID = rec.XID + 1
	}
	if rec.Rmgr == wal.RmgrLongship {
		c, err := kv.DecodeCommit(rec.Data)
		if err != nil {
			return err
		}
		r.Horizon = max(r.Horizon, c.Horizon)
	}
	return nil
}

// witness says how far the log was durable here when the record was written, if this node wrote it.
func (r *Recovered) witness(rec wal.Record) wal.LSN {
	if rec.LSN < r.Control.ReignStart {
		return 0
	}
	switch {
	case rec.Rmgr == wal.RmgrLongship:
		if c, err := kv.DecodeCommit(rec.Data); err == nil {
			return c.Flushed
		}
	case rec.IsXLOG(wal.XLOGCheckpointOnline), rec.IsXLOG(wal.XLOGCheckpointShutdown):
		if c, err := wal.ParseCheckpoint(rec.Data); err == nil {
			return min(c.Redo, rec.LSN)
		}
	}
	return 0
}
