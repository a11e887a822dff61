package startup

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/longship-db/longship/wal"
)

// A node whose log ends before that of its upstream begins, or whose table holds what that log does not have, needs
// another copy of the data. Until it has one, a rule in force may count on what is here, so that stays as it is, with
// what the node has promised. The copy arrives beside it:
//
//	DIR/basecopy/            arriving: the next Open removes it
//	DIR/basecopy.complete/   complete: its parts take the place of those here, which the next Open goes on with
//
// Identity, orphans, Raft's store and what else is known of the cluster stay.
const (
	copyFolder     = "basecopy"
	completeFolder = "basecopy.complete"
)

// ErrUnfit says that a base copy must not take the place of the data here.
var ErrUnfit = errors.New("the base copy cannot take the place of the data that is here")

// Copy is where a base copy arrives: a data directory without an identity.
func (d DataDir) Copy() DataDir { return DataDir{FS: d.FS, Path: d.join(copyFolder)} }

// DropCopy removes what there is of a base copy that is not complete.
func (d DataDir) DropCopy() error {
	if err := d.FS.RemoveAll(d.join(copyFolder)); err != nil {
		return fmt.Errorf("remove a base copy that is not complete: %w", err)
	}
	return wal.SyncDir(d.FS, d.Path)
}

// RecoverCopy finds the end of the log that has come with a base copy, for a node with this identity, and makes
// durable what of the copy is not yet.
func (d DataDir) RecoverCopy(id Identity, log *slog.Logger) (*Recovered, error) {
	c := d.Copy()
	for _, path := range []string{c.WAL(), c.Store(), c.Slots()} { // a witness's has no store yet
		if err := c.FS.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	r, err := Recover(c, id, log)
	if err != nil {
		return nil, fmt.Errorf("base copy: %w", err)
	}
	return r, wal.SyncDir(c.FS, c.Path)
}

// Fits reports why copied, a base copy, must not take the place of the log r of a node that has promised an epoch.
// What r has attested, copied must have: all of r that is part of the log that copied is of. Whatever r has beyond
// that would be cut off if it followed that log, and no rule in force counts on it. And copied must be of the epoch
// that was promised: one of an older epoch may lack what has been acknowledged since, and a newer epoch has not been
// promised yet.
func (r *Recovered) Fits(copied *Recovered, promised uint64) error {
	shared := wal.Fork(r.History, copied.History)
	switch attested := min(shared, r.End.LSN); {
	case copied.Control.Epoch != promised:
		return fmt.Errorf("%w: it is of epoch %d, and epoch %d is promised", ErrUnfit, copied.Control.Epoch, promised)
	case shared == 0:
		return fmt.Errorf("%w: timelines %d and %d have no common ancestor",
			ErrUnfit, r.History.Timeline, copied.History.Timeline)
	case copied.End.LSN < attested:
		return fmt.Errorf("%w: its log ends at %s, and this node has the log up to %s", ErrUnfit, copied.End.LSN, attested)
	case copied.End.LSN < copied.History.Begin(copied.History.Timeline):
		return fmt.Errorf("%w: its log ends at %s, before its timeline %d begins",
			ErrUnfit, copied.End.LSN, copied.History.Timeline)
	}
	return nil
}

// Replace puts a base copy, as RecoverCopy has found it, in the place of the node's log, table and slots. Nobody uses
// them. Of the log that was here, r, what it has promised stays, and what is known to be durable under the rule, so
// that nobody reads less here than before. The error is ErrUnfit, or a *wal.NoRoomError, if everything is as it was
// but for the copy; after any other the process must end, and the next Open finds either.
func (d DataDir) Replace(r, copied *Recovered) error {
	present, err := ReadControl(d.FS, d.Global())
	if err != nil {
		return err
	}
	if err := r.Fits(copied, present.PromisedEpoch); err != nil {
		return err
	}
	control := copied.Control
	control.PromisedEpoch = present.PromisedEpoch
	control.Horizon = max(control.Horizon, min(r.Horizon, wal.Fork(r.History, copied.History)))
	c := d.Copy()
	if err := control.Write(c.FS, c.Global()); err != nil {
		return err
	}
	// A crash here leaves the node as it was: the next Open removes the copy.
	if err := d.FS.Rename(c.Path, d.join(completeFolder)); err != nil {
		return err
	}
	if err := wal.SyncDir(d.FS, d.Path); err != nil {
		return err
	}
	// The commit point: a crash from here on leaves the copy, or what of it has not taken its place yet.
	return d.settleCopy()
}

// settleCopy goes on with what a crash has interrupted: it puts a complete copy in its place, and removes one that is
// not complete.
func (d DataDir) settleCopy() error {
	from := DataDir{FS: d.FS, Path: d.join(completeFolder)}
	complete, err := wal.Exists(d.FS, from.Path)
	if err != nil {
		return err
	}
	if !complete {
		return d.DropCopy()
	}
	for _, name := range []string{walFolder, storeFolder, slotFolder, d.FS.PathJoin(globalFolder, controlFile)} {
		if err := d.take(from, name); err != nil {
			return fmt.Errorf("put the base copy in its place: %w", err)
		}
	}
	if err := d.FS.RemoveAll(from.Path); err != nil {
		return err
	}
	return wal.SyncDir(d.FS, d.Path)
}

// take puts one file or folder of a complete copy in the place of the node's own, unless that was done before a crash.
// It is there, under its new name, before its old one is gone.
func (d DataDir) take(from DataDir, name string) error {
	source, dest := from.join(name), d.join(name)
	there, err := wal.Exists(d.FS, source)
	if err != nil || !there {
		return err
	}
	if err := d.FS.RemoveAll(dest); err != nil {
		return err
	}
	if err := d.FS.Rename(source, dest); err != nil {
		return err
	}
	if err := wal.SyncDir(d.FS, d.FS.PathDir(dest)); err != nil {
		return err
	}
	return wal.SyncDir(d.FS, d.FS.PathDir(source))
}
