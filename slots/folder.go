package slots

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	stateFile = "state"
	tmpSuffix = ".tmp"
)

// A folder is the slots on disk, pg_replslot: for each a folder with its name, which holds its file.
// A folder that ends in .tmp is the remains of something unfinished, and goes at the next start.
type folder struct {
	fs  vfs.FS
	dir string
}

func (f folder) path(elem ...string) string {
	return f.fs.PathJoin(append([]string{f.dir}, elem...)...)
}

// create makes a slot: the folder under a temporary name, complete, then the rename, which is the
// commit point.
func (f folder) create(name string, st state) error {
	tmp := name + tmpSuffix
	// A crash up to the rename leaves name.tmp or nothing: load removes it, the slot never was. What a
	// failed create or an unfinished drop left there is written over.
	if err := f.fs.MkdirAll(f.path(tmp), 0o700); err != nil {
		return err
	}
	if err := f.write(f.path(tmp, stateFile), name, st); err != nil {
		return err
	}
	if err := f.syncDir(f.path(tmp)); err != nil {
		return err
	}
	if err := f.fs.Rename(f.path(tmp), f.path(name)); err != nil {
		return err
	}
	// A crash here leaves the slot, whole, or name.tmp, or both. Nobody was told of it.
	return f.syncDir(f.dir)
	// From here on the slot is there after any crash.
}

// replace writes a slot's file anew. The rename is the commit point: whatever crashes, the file is the
// old or the new one, and whole.
func (f folder) replace(name string, st state) error {
	tmp := f.path(name, stateFile+tmpSuffix)
	// A crash up to the rename leaves the old file, and perhaps state.tmp, to be written over.
	if err := f.write(tmp, name, st); err != nil {
		return err
	}
	if err := f.fs.Rename(tmp, f.path(name, stateFile)); err != nil {
		return err
	}
	// A crash here leaves the old file or the new one. Save has not returned: WAL is still removed by
	// the lower position of the two.
	return f.syncDir(f.path(name))
}

// drop takes a slot away: the rename is the commit point. discard then clears up. (To remove the folder
// in place is no one step: a crash could leave it without its file, and load would refuse it.)
func (f folder) drop(name string) error {
	// What an earlier drop could not clear up would be in the way.
	if err := f.fs.RemoveAll(f.path(name + tmpSuffix)); err != nil {
		return err
	}
	if err := f.fs.Rename(f.path(name), f.path(name+tmpSuffix)); err != nil {
		return err
	}
	// A crash here leaves the slot, or name.tmp. Nobody was told that it is gone, and its WAL is there:
	// it is in memory still.
	return f.syncDir(f.dir)
	// From here on the slot stays gone.
}

// discard removes what drop left. What it cannot remove goes at the next start, create or drop.
func (f folder) discard(name string) {
	_ = f.fs.RemoveAll(f.path(name + tmpSuffix))
}

// write makes a file, synced.
func (f folder) write(path, name string, st state) error {
	file, err := f.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = file.Write(appendState(nil, name, st))
	if err == nil {
		// If this fails the next attempt makes another file: no sync is ever repeated.
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes the names in a folder durable.
func (f folder) syncDir(path string) error {
	dir, err := f.fs.OpenDir(path)
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsynced, path, err)
	}
	return nil
}

// load hands every slot to found, by name. Before that it makes durable what it has read: after a
// crash of the process alone, a rename may be seen that is not on disk yet, and WAL that goes by it
// would be missed after a crash of the machine.
func (f folder) load(found func(name string, st state)) error {
	if err := f.fs.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", f.dir, err)
	}
	names, err := f.fs.List(f.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", f.dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := f.fs.RemoveAll(f.path(name)); err != nil {
				return fmt.Errorf("remove unfinished slot: %w", err)
			}
			continue
		}
		st, err := f.read(name)
		if err != nil {
			return err
		}
		found(name, st)
	}
	return errors.Join(f.syncDir(f.dir), f.syncDir(f.fs.PathDir(f.dir)))
}

// read returns a slot's state, durable.
func (f folder) read(name string) (state, error) {
	path := f.path(name, stateFile)
	b, err := f.readFile(path)
	if err != nil {
		return state{}, fmt.Errorf("read %s: %w", path, err)
	}
	inside, st, err := decodeState(b)
	if err == nil && inside != name {
		err = fmt.Errorf("it is of slot %q", inside)
	}
	if err != nil {
		return state{}, &CorruptError{Path: path, Err: err}
	}
	return st, f.syncDir(f.path(name))
}

// readFile returns a file, but of one that is too long only so much that this is seen.
func (f folder) readFile(path string) ([]byte, error) {
	file, err := f.fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxStateSize+1))
}
