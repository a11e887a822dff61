package faults

import (
	"io/fs"
	"net"
	"syscall"
	"time"
)

// Write is called before something is written to a folder of the data directory, which makes a file longer or
// not. It returns when that may be, or with the error that it fails with.
func (t *Table) Write(folder string, grows bool) error {
	if err := t.awaitDisk(folder); err != nil {
		return err
	}
	for _, e := range t.active.Load().faults {
		if grows && e.fault.Effect == Full && e.onFolder(folder) {
			e.hits.Add(1)
			return syscall.ENOSPC
		}
	}
	return nil
}

// Sync is called before something in a folder is synced, as Write is.
func (t *Table) Sync(folder string) error {
	if err := t.awaitDisk(folder); err != nil {
		return err
	}
	for _, e := range t.active.Load().faults {
		if !e.onFolder(folder) {
			continue
		}
		switch e.fault.Effect {
		case SlowSync:
			e.hits.Add(1)
			select {
			case <-time.After(e.fault.Time):
			case <-t.closed:
				return net.ErrClosed
			}
		case FailSync:
			if e.fault.Once && e.used.Swap(true) {
				continue
			}
			e.hits.Add(1)
			return syscall.EIO
		}
	}
	return nil
}

// awaitDisk waits while the disk stalls.
func (t *Table) awaitDisk(folder string) error {
	var held *entry
	for {
		a := t.active.Load()
		var stalled *entry
		for _, e := range a.faults {
			if e.fault.Effect == Stall && e.onFolder(folder) {
				stalled = e
			}
		}
		if stalled == nil {
			return nil
		}
		if stalled != held {
			held = stalled
			stalled.hits.Add(1)
		}
		select {
		case <-a.changed:
		case <-t.closed:
			return net.ErrClosed
		}
	}
}

// isFull reports whether there is no room for a file.
func (t *Table) isFull() bool {
	for _, e := range t.active.Load().faults {
		if e.fault.Effect == Full {
			return true
		}
	}
	return false
}

func (e *entry) onFolder(folder string) bool {
	return !e.fault.onNetwork() && (e.fault.Folder == "" || e.fault.Folder == folder)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
