package kv

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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
// one before is still being written, it waits: on a full disk until there is room, or ctx ends.
func (s *Store) awaitMemory(ctx context.Context) error {
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
		case <-ctx.Done():
			return context.Cause(ctx)
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
		if s.hurried() || s.wanted.Load() > s.written.Load() {
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

// writeMemory writes what is in memory to Pebble. Transactions that see an older state go on with that of Pebble.
func (s *Store) writeMemory() error {
	retired, end, old := s.retire()
	stops := make([]wal.LSN, len(old))
	for i, tx := range old {
		stops[i] = tx.at
	}
	stops = slices.Compact(stops)
	bases, err := s.writeStops(retired, stops, end)
	if err != nil {
		return err
	}
	s.cache.advance(bases[len(stops)].number, retired.keys)
	s.mu.Lock()
	previous := s.base
	s.base, s.retired = bases[len(stops)], nil
	s.mu.Unlock()
	previous.release()
	for _, tx := range old {
		i, _ := slices.BinarySearch(stops, tx.at)
		tx.view.settle(tx, bases[i])
	}
	for _, b := range bases[:len(stops)] {
		b.release()
	}
	for _, t := range s.readBy() {
		t.letGo()
	}
	s.forgetTables()
	s.written.Advance(end)
	return nil
}

// retire puts an empty memtable in the place of the one that there is. old are the transactions that see no more than
// what is in it, in the order of what they see, see Table.unsettled.
func (s *Store) retire() (retired *memtable, end wal.LSN, old []*Txn) {
	s.applying.Lock() // not in the middle of a batch
	defer s.applying.Unlock()
	end = s.Applied()
	for _, t := range s.readBy() {
		old = append(old, t.unsettled(end)...)
	}
	slices.SortFunc(old, func(a, b *Txn) int { return cmp.Compare(a.at, b.at) })
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	if s.memory.size() >= s.limit { // the next one will be like it
		n = min(len(s.memory.versions), s.limit/memRowOverhead)
	}
	s.retired, s.memory = s.memory, newMemtable(n)
	close(s.retired.retired)
	return s.retired, end, old
}

// writeStops writes a memtable to Pebble, in pieces: up to each of stops, then up to end. It returns what Pebble
// holds after each. Most of the time there are no stops, and what was overwritten in the memtable is not written.
func (s *Store) writeStops(m *memtable, stops []wal.LSN, end wal.LSN) (bases []*base, err error) {
	defer func() {
		if err != nil {
			for _, b := range bases {
				b.release()
			}
		}
	}()
	rest := s.pacer()
	for i, p := range m.pieces(stops, rest) {
		upTo := end
		if i < len(stops) {
			upTo = p.end // redo can begin there: it is the end of a record
		}
		if len(p.rows) > 0 || i == len(stops) {
			if err := s.writePiece(m, &p, upTo, rest); err != nil {
				return bases, err
			}
		}
		bases = append(bases, newBase(s.db, s.base.number+1+uint64(i))) // nobody else changes s.base
	}
	return bases, nil
}

// writePiece writes the rows, and the LSN up to which that is everything, as one.
// In order: Pebble makes a file of so much at once, without its own memtable, if it need not sort.
func (s *Store) writePiece(m *memtable, p *memPiece, end wal.LSN, rest func()) error {
	batch := s.db.NewBatchWithSize(p.bytes + appliedSize)
	defer batch.Close()
	var buf [appliedSize]byte
	if err := batch.Set(appliedKey, appendApplied(buf[:0], end), nil); err != nil {
		return err
	}
	for i, r := range p.rows {
		if i%yieldSteps == 0 {
			rest()
		}
		if err := writeRow(batch, m.keys[r.key], &m.versions[r.version]); err != nil {
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
