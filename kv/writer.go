package kv

import (
	"context"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"github.com/longship-db/longship/wal"
)

// writeOut asks for what is applied now to be written to Pebble, and waits for that as Flush does.
func (s *Store) writeOut(ctx context.Context, refused *refusal) error {
	applied := s.Applied()
	s.wanted.Advance(applied)
	s.wake()
	for {
		written := s.written.Load()
		if written >= applied {
			return nil
		}
		if err := s.awaitFlush(ctx, refused, s.written.Changed(written)); err != nil {
			return err
		}
	}
}

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// awaitMemory has the memtable written out if it is large enough. If it has become twice as large, because the
// one before is still being written, it waits.
func (s *Store) awaitMemory() error {
	for {
		m := s.newestMemory()
		size := m.size()
		if size >= s.limit {
			s.wake()
		}
		if size < 2*s.limit {
			return nil
		}
		select {
		case <-m.retired:
		case <-s.broken:
			return s.cause
		}
	}
}

func (s *Store) newestMemory() *memtable {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.memory
}

// write retires memtables and writes them to Pebble, until the store is closed.
func (s *Store) write() {
	defer close(s.ended)
	for {
		if s.newestMemory().size() >= s.limit || s.wanted.Load() > s.written.Load() {
			if err := s.writeMemory(); err != nil {
				s.fail(fmt.Errorf("write to store: %w", err))
				return
			}
			continue
		}
		select {
		case <-s.kick:
		case <-s.stop:
			return
		}
	}
}

// writeMemory writes what is in memory to Pebble.
func (s *Store) writeMemory() error {
	retired, end := s.retire()
	if err := s.writeRows(retired, end); err != nil {
		return err
	}
	old := s.base // nobody else changes it
	next := newBase(s.db, old.number+1)
	s.cache.advance(next.number, retired.keys)
	s.mu.Lock()
	s.base, s.retired = next, nil
	s.mu.Unlock()
	old.release()
	s.written.Advance(end)
	return nil
}

// retire puts an empty memtable in the place of the one that there is.
func (s *Store) retire() (retired *memtable, end wal.LSN) {
	s.applying.Lock() // not in the middle of a batch
	defer s.applying.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if s.memory.size() >= s.limit { // the next one will be like it
		n = min(len(s.memory.versions), s.limit/memRowOverhead)
	}
	s.retired, s.memory = s.memory, newMemtable(n)
	close(s.retired.retired)
	return s.retired, s.Applied()
}

// writeRows writes the newest version of each key, and the LSN up to which that is everything, as one.
// In order: Pebble makes a file of so much at once, without its own memtable, if it need not sort.
func (s *Store) writeRows(m *memtable, end wal.LSN) error {
	batch := s.db.NewBatchWithSize(m.bytes + appliedSize)
	defer batch.Close()
	var buf [appliedSize]byte
	if err := batch.Set(appliedKey, appendApplied(buf[:0], end), nil); err != nil {
		return err
	}
	ids, keys := m.whole()
	for i, id := range ids {
		if i%yieldSteps == 0 {
			runtime.Gosched()
		}
		if err := writeRow(batch, keys[id], &m.versions[m.newest[id]]); err != nil {
			return err
		}
	}
	return batch.Commit(pebble.NoSync)
}

func writeRow(batch *pebble.Batch, key string, v *memVersion) error {
	if v.kind == Delete {
		d := batch.DeleteDeferred(1 + len(key))
		appendRowKey(d.Key[:0], key)
		return d.Finish()
	}
	d := batch.SetDeferred(1+len(key), storedSize(v))
	appendRowKey(d.Key[:0], key)
	putRow(d.Value, v)
	return d.Finish()
}
