package wal

import (
	"errors"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A file that cannot be replaced for lack of room is what it was, and only then is it said to be certainly so: not
// if the disk fails, nor once the name has changed.
func TestReplaceWithoutRoom(t *testing.T) {
	for _, test := range []struct {
		at     errorfs.OpKind
		err    error
		noRoom bool
	}{
		{errorfs.OpCreate, syscall.ENOSPC, true},
		{errorfs.OpCreate, syscall.EMFILE, true},
		{errorfs.OpCreate, syscall.ENFILE, true},
		{errorfs.OpCreate, syscall.EACCES, false},
		{errorfs.OpFileWrite, syscall.ENOSPC, true},
		{errorfs.OpFileWrite, syscall.EDQUOT, true},
		{errorfs.OpFileSync, syscall.ENOSPC, true},
		{errorfs.OpFileSync, syscall.EIO, false},
		{errorfs.OpRename, syscall.ENOSPC, false},
		{errorfs.OpOpenDir, syscall.ENOSPC, false},
		{errorfs.OpOpenDir, syscall.EMFILE, false},
	} {
		mem := vfs.NewMem()
		must(t, WriteFileDurably(mem, "", "f", []byte("old")))
		broken := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == test.at {
				return test.err
			}
			return nil
		}))
		err := WriteFileDurably(broken, "", "f", []byte("new"))
		if _, noRoom := errors.AsType[*NoRoomError](err); noRoom != test.noRoom || !errors.Is(err, test.err) {
			t.Errorf("%v when %v fails: %v, no room: %t, want %t", test.err, test.at, err, noRoom, test.noRoom)
		}
		if !test.noRoom {
			continue
		}
		if b, err := ReadFile(mem, "f", 10); err != nil || string(b) != "old" {
			t.Errorf("%v when %v fails: the file holds %q, %v", test.err, test.at, b, err)
		}
		if left, _ := Exists(mem, "f.tmp"); left {
			t.Errorf("%v when %v fails: the temporary file is left", test.err, test.at)
		}
	}
}
