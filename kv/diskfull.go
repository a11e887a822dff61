package kv

import (
	"errors"
	"syscall"
	"time"
)

// diskFullPause is how long the store's writes wait when the disk is full, before they are tried once
// more. Pebble, which repeats a failed flush at once and forever, is slowed down by that.
const diskFullPause = time.Second

// awaitRoom is called by a write that found the disk full; other writes wait until it returns. Reads
// do not.
func (s *Store) awaitRoom() { time.Sleep(diskFullPause) }

// A refusal is the next time that the disk turns out to be full.
type refusal struct {
	done chan struct{} // closed when it has happened, and err is set
	err  error
}

func newRefusal() *refusal { return &refusal{done: make(chan struct{})} }

// noRoom reports whether background work failed because the disk is full. That loses nothing, for
// what was applied is in memory and in the log, and it passes when there is room again: so it is no
// failure that the store must give up for, but those who wait for a flush are told.
func (s *Store) noRoom(err error) bool {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return false
	}
	if !s.full.Swap(true) {
		s.logger.Warn("no room on disk for the store: will try again", "error", err.Error())
	}
	r := s.refusal.Swap(newRefusal())
	r.err = err
	close(r.done)
	return true
}

// hasRoom notes that a flush has worked.
func (s *Store) hasRoom() {
	if s.full.Swap(false) {
		s.logger.Info("there is room on disk for the store again")
	}
}
