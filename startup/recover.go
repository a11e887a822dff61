package startup

import (
	"errors"
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
	Control Control // as found or left on disk; after Recover, Durable is End
	Clean   bool    // the last stop was a clean one

	// Horizon is the highest position known to be durable under the rule: from the control file,
	// or what a record said of it. Everything up to it may be applied and shown (I7). On a standby it
	// may lie past End: the log is known to be longer elsewhere.
	Horizon wal.LSN

	// Spared is a damaged place before redo, if there is one where recovery would have liked to read. The control file
	// has it.
	Spared *wal.Fault

	lastSwitch wal.LSN // end of the last record without its padding, if that is a SWITCH
}

// Recover finds the end of a node's log and proves its tail: whatever it reports has just been
// written and synced, or was known to be durable. A log that is damaged before its end is left as
// it is; the error then is a *DamageError. Damage before redo alone is no obstacle: it is noted as known.
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
		return nil, r.damaged(err)
	}
	// What was written after a clean stop was not written for us to find, but it may be there. Then the
	// stop was no clean one.
	r.Clean = control.Clean && r.End.LSN == control.Durable
	if !r.Clean {
		if err := r.prove(log); err != nil {
			return nil, err
		}
	}
	r.Control, err = d.changeControl(func(c *Control) error {
		c.Durable = r.End.LSN
		c.Clean = false
		c.Horizon = r.Horizon
		c.NextXID = r.Control.NextXID
		if r.Spared != nil {
			c.noteFault(*r.Spared)
		}
		return nil
	})
	return r, err
}

// A DamageError says that the log cannot be read to its end, and what it takes to mend it.
type DamageError struct {
	Dir     *wal.Dir
	History wal.History
	Fault   wal.Fault
	Err     error // a *wal.CorruptError or *wal.MissingError
}

func (e *DamageError) Error() string { return e.Err.Error() }
func (e *DamageError) Unwrap() error { return e.Err }

func (r *Recovered) damaged(err error) error {
	fault, ok := faultOf(err)
	if !ok {
		return err
	}
	return &DamageError{Dir: r.Dir, History: r.History, Fault: fault, Err: err}
}

// faultOf is the place that made a scan fail.
func faultOf(err error) (f wal.Fault, ok bool) {
	if corrupt, ok := errors.AsType[*wal.CorruptError](err); ok {
		return corrupt.Fault, true
	}
	if missing, ok := errors.AsType[*wal.MissingError](err); ok {
		return missing.Fault, true
	}
	return f, false
}

// LastEpoch is the epoch of the last record of the log, which is what a sealed node answers (I3). It
// is not that of the log's timeline when nothing of that has arrived yet.
func (r *Recovered) LastEpoch() uint64 { return EpochAt(r.History, r.End.LSN) }

// EpochAt is the epoch of the last record of a log that ends at end, the end of a whole record, on
// the timeline of h: by ancestry, that of the timeline which the byte before end belongs to.
func EpochAt(h wal.History, end wal.LSN) uint64 {
	for _, s := range h.Switches {
		if end <= s.At {
			return uint64(s.Parent)
		}
	}
	return uint64(h.Timeline)
}

// prove makes certain that the log is durable from where that is known up to its end.
func (r *Recovered) prove(log *slog.Logger) error {
	begin := time.Now()
	from, end := min(r.Control.Durable, r.End.LSN), r.End.LSN
	if r.lastSwitch != 0 {
		// The zeros that belong to a SWITCH may not have been written.
		from, end = min(from, r.lastSwitch), r.lastSwitch
	}
	if err := wal.ProveTail(r.Dir, r.History, from, end); err != nil {
		return err
	}
	log.Info("log recovered after an unclean stop", "end", r.End.LSN, "proved_from", from, "took", time.Since(begin))
	return nil
}

// findEnd reads the log from redo to its end.
func (r *Recovered) findEnd(log *slog.Logger) error {
	r.Horizon = r.Control.Horizon
	start, err := r.scanStart()
	if err != nil {
		return err
	}
	end, err := r.scan(start)
	if fault, ok := faultOf(err); ok && r.Control.Redo%wal.PageSize != 0 {
		// What lies before redo is in the store. It was to be read only for the record before redo to be known, which
		// nobody needs if there is one behind. At the start of a page a damaged header might have a record passed over.
		if rest, restErr := r.scan(r.Control.Redo); restErr == nil && rest.LSN > r.Control.Redo {
			log.Warn("the log is damaged where recovery can do without", "from", fault.From, "redo", r.Control.Redo, "because", err)
			fault.To = min(fault.To, r.Control.Redo)
			end, err, r.Spared = rest, nil, &fault
		}
	}
	if err != nil {
		return err
	}
	r.End = end.End
	log.Info("end of log found", "end", r.End.LSN, "timeline", r.End.Timeline, "because", end.Reason)
	return nil
}

// scan reads the log from start to its end.
func (r *Recovered) scan(start wal.LSN) (wal.Ending, error) {
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
	return scan.Find()
}

// scanStart is where to begin reading so that the record before redo is seen: the next record
// written must point back to its predecessor. If that is not there, as after a base copy, it is the
// start of the segment of redo: like PostgreSQL's walreceiver, a standby fetches its first segment
// from its start, because a segment with a hole at its start could neither be read nor handed on.
func (r *Recovered) scanStart() (wal.LSN, error) {
	segno, err := segmentBefore(r.Dir, r.History, r.Control.Redo)
	return r.Dir.Format.SegmentSize.Start(segno), err
}

// segmentBefore is the number of the segment in which reading must begin for the record before at to
// be seen, at being the end of one. Usually it is the one that holds the byte before at, but a record
// may be longer than a segment. If that record is not there, it is the first one from which the log
// is there up to at.
func segmentBefore(dir *wal.Dir, h wal.History, at wal.LSN) (uint64, error) {
	size := dir.Format.SegmentSize
	for segno := size.PrevSegno(at); ; segno-- {
		r := wal.NewReader(wal.NewRawReader(dir, h, nil), size.Start(segno), 0)
		_, found, err := r.Next(at)
		if closeErr := r.Close(); closeErr != nil {
			return 0, closeErr
		}
		if _, removed := errors.AsType[*wal.RemovedError](err); removed {
			return min(segno+1, size.Segno(at)), nil
		}
		if found || wal.IsDamage(err) {
			return segno, nil // what is wrong there is for others to say
		}
		if err != nil {
			return 0, err
		}
	}
}

// read learns from one record: how far the horizon was, and which transaction ids are used.
func (r *Recovered) read(rec wal.Record) error {
	r.lastSwitch = 0
	if rec.IsXLOG(wal.XLOGSwitch) {
		r.lastSwitch = switchEnd(r.Dir.Format, rec.LSN)
	}
	r.Control.NextXID = xidAfter(r.Control.NextXID, rec.XID)
	var c kv.Commit
	ok, err := decodeCommit(rec, &c)
	if ok {
		r.Horizon = max(r.Horizon, c.Horizon)
	}
	return err
}

// switchEnd is where the SWITCH record at at ends without what it skips. It is a bare record header.
func switchEnd(f wal.Format, at wal.LSN) wal.LSN {
	const length = 24
	if room := wal.PageSize - at%wal.PageSize; room < length {
		return f.RecordStart(at+room) + length - room
	}
	return at + length
}

// firstXID is the first transaction id that PostgreSQL gives out.
const firstXID = 3

// xidAfter is the next transaction id, given that it was thought to be next and that used is in use
// (0: none). Ids wrap: as in PostgreSQL, one is later if it is less than half the circle ahead.
func xidAfter(next, used uint32) uint32 {
	if used != 0 && int32(used-next) >= 0 {
		next = used + 1
	}
	return max(next, firstXID)
}

// decodeCommit decodes a record of ours into c; ok is false if it is another's. Only transactions are
// known: a record of another type would come from a newer version, and passing it over would lose data.
func decodeCommit(rec wal.Record, c *kv.Commit) (ok bool, err error) {
	if rec.Rmgr != wal.RmgrLongship {
		return false, nil
	}
	if rec.Info != kv.InfoCommit {
		return false, fmt.Errorf("unknown record type %#x: written by a newer version?", rec.Info)
	}
	if err := c.Decode(rec.Data); err != nil {
		return false, err
	}
	return true, nil
}

// witness says how far the log was durable here when the record was written, if this node wrote it.
func (r *Recovered) witness(rec wal.Record) wal.LSN {
	if rec.LSN < r.Control.ReignStart {
		return 0
	}
	if rec.IsXLOG(wal.XLOGCheckpointOnline) || rec.IsXLOG(wal.XLOGCheckpointShutdown) {
		if c, err := wal.ParseCheckpoint(rec.Data); err == nil {
			return min(r.redoOf(c), rec.LSN)
		}
		return 0
	}
	var c kv.Commit
	if ok, err := decodeCommit(rec, &c); ok && err == nil {
		return c.Flushed
	}
	return 0
}

// redoOf undoes Format.RecordStart: a checkpoint record names where a record starts, behind the page
// header if there is one, and that header need not have been flushed.
func (r *Recovered) redoOf(c wal.Checkpoint) wal.LSN {
	if page := c.Redo &^ (wal.PageSize - 1); r.Dir.Format.RecordStart(page) == c.Redo {
		return page
	}
	return c.Redo
}
