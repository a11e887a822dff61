package kv

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// fail records why the store cannot go on and calls the fatal hook, once.
func (s *Store) fail(err error) {
	s.once.Do(func() {
		s.cause = err
		close(s.broken)
		s.logger.Error("store cannot go on", "error", err)
		s.fatal(err)
	})
}

// events counts failures of background work. One may pass; a flush that keeps failing would hold all
// of the log and all of memory until nothing moves. A full disk is another matter, see noRoom.
func (s *Store) events() *pebble.EventListener {
	all := &streak{store: s, work: "background work"} // since the last flush that worked
	compactions := &streak{store: s, work: "compaction"}
	return &pebble.EventListener{
		BackgroundError: all.failed,
		FlushEnd: func(info pebble.FlushInfo) {
			if info.Err == nil { // else a BackgroundError too, or only that the memtable was empty
				s.hasRoom()
				all.succeeded()
			}
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			switch {
			case info.Err == nil:
				compactions.succeeded()
			case !errors.Is(info.Err, pebble.ErrCancelledCompaction):
				compactions.failed(info.Err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("store is corrupt: %s", info))
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			s.logger.Warn("store disk is slow", "path", info.Path, "operation", info.OpType.String(), "duration", info.Duration)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.logger.Warn("store writes stall", "reason", info.Reason)
		},
		WriteStallEnd: func() { s.logger.Info("store writes resume") },
	}
}

// A streak counts failures of one kind of work since it last succeeded.
type streak struct {
	store *Store
	work  string
	count atomic.Int32
}

func (k *streak) succeeded() { k.count.Store(0) }

func (k *streak) failed(err error) {
	if k.store.noRoom(err) {
		return
	}
	n := k.count.Add(1)
	k.store.logger.Error("store failed", "work", k.work, "times", n, "error", err.Error())
	if n >= maxFailures {
		k.store.fail(fmt.Errorf("store: %s failed %d times: %w", k.work, n, err))
	}
}

// pebbleLogger is a Store as Pebble's logger. Pebble's information is debugging to us.
type pebbleLogger Store

func (l *pebbleLogger) Infof(format string, args ...any) {
	l.logger.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.logger.Error("pebble", "message", fmt.Sprintf(format, args...))
}

// Fatalf must not return: what follows in Pebble relies on it.
func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble: "+format, args...)
	(*Store)(l).fail(err)
	panic(err)
}
