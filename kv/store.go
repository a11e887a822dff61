package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// storeFormat is the version of Pebble's own format. It is pinned, so that a new Pebble does not
// make a store unreadable for the binary that ran before it.
const storeFormat = pebble.FormatColumnarBlocks

// maxFailures is how many flushes, or compactions, may fail in a row before the store gives up.
// Pebble retries them by itself, at once and forever.
const maxFailures = 3

// StoreOptions are the options of OpenStore. The zero value of a field means its default.
type StoreOptions struct {
	CacheSize    int64        // memory for blocks of the store's files, in bytes; default 64 MiB
	MemTableSize uint64       // what is collected in memory before it is written to a file, in bytes; default 16 MiB
	Logger       *slog.Logger // default: no log

	// Positions makes a store that only knows how far it has applied: it drops what commits say. It is
	// for a node that keeps the log and no table, and is never read.
	Positions bool

	// Fatal is called when the store cannot go on: the process should end. The caller may hold
	// Pebble's locks, so Fatal must not use the store. The default panics.
	Fatal func(error)
}

func (o StoreOptions) withDefaults() StoreOptions {
	o.CacheSize = cmp.Or(o.CacheSize, 64<<20)
	o.MemTableSize = cmp.Or(o.MemTableSize, 16<<20)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	return o
}

// A Store is the table on disk: every commit up to its applied LSN and none after it. It is a
// Pebble database without a log of its own, since the log is the log: after a crash it holds the
// table as of some earlier applied LSN, at least the durable one, and redo does the rest.
//
// One goroutine applies (NewBatch, Apply). The other methods may be called by any.
type Store struct {
	db      *pebble.DB
	logger  *slog.Logger
	applied atomic.Uint64 // a wal.LSN; moved by Apply
	bare    bool          // operations are dropped

	fatal  func(error)
	once   sync.Once
	broken chan struct{} // closed once cause is set
	cause  error

	refusal atomic.Pointer[refusal]
	full    atomic.Bool // the disk, as far as we know
}

// OpenStore opens the store in dir, or creates it, applied LSN 0. Nobody else may have it open.
func OpenStore(fs vfs.FS, dir string, opts StoreOptions) (*Store, error) {
	opts = opts.withDefaults()
	s := &Store{logger: opts.Logger, bare: opts.Positions, fatal: opts.Fatal, broken: make(chan struct{})}
	s.refusal.Store(newRefusal())
	db, err := pebble.Open(dir, s.pebbleOptions(fs, opts))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	s.db = db
	applied, err := readApplied(db, &pebble.IterOptions{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), db.Close())
	}
	s.applied.Store(uint64(applied))
	return s, nil
}

func (s *Store) pebbleOptions(fs vfs.FS, opts StoreOptions) *pebble.Options {
	o := &pebble.Options{
		FS:                          vfs.OnDiskFull(markerFS{fs}, s.awaitRoom),
		DisableWAL:                  true,
		FormatMajorVersion:          storeFormat,
		CacheSize:                   opts.CacheSize,
		MemTableSize:                opts.MemTableSize,
		MemTableStopWritesThreshold: 4,
		CompactionConcurrencyRange:  compactions,
		EventListener:               s.events(),
		Logger:                      (*pebbleLogger)(s),
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // 1 % false positives
	}
	return o
}

// compactions is how many compactions there may be at a time: they leave half of the processors to those who
// wait for an answer, and for what they read to be applied.
func compactions() (lower, upper int) { return 1, min(max(1, runtime.GOMAXPROCS(0)/2), 4) }

// Applied is the LSN up to which the store holds every commit.
func (s *Store) Applied() wal.LSN { return wal.LSN(s.applied.Load()) }

// DurableApplied is the applied LSN that a crash now would leave, at the least. Log before it is
// not needed for recovery.
func (s *Store) DurableApplied() (wal.LSN, error) {
	return readApplied(s.db, &pebble.IterOptions{OnlyReadGuaranteedDurable: true})
}

// Flush makes durable what was applied before the call. It returns the cause of ctx if that ends
// first, and an error that is syscall.ENOSPC if the disk is full; the flush goes on.
func (s *Store) Flush(ctx context.Context) error {
	refused := s.refusal.Load()
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush store: %w", err)
	}
	select {
	case <-flushed:
		return nil
	case <-s.broken:
		return fmt.Errorf("flush store: %w", s.cause)
	case <-refused.done:
		return fmt.Errorf("flush store: %w", refused.err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Checkpoint makes dir, which must not exist, a store of its own that holds at least what was
// applied before the call. Files are shared through hard links where the file system has them.
func (s *Store) Checkpoint(ctx context.Context, dir string) error {
	// A Pebble checkpoint holds files and log, and we have no log.
	if err := s.Flush(ctx); err != nil {
		return err
	}
	if err := s.db.Checkpoint(dir); err != nil {
		return fmt.Errorf("checkpoint store to %s: %w", dir, err)
	}
	return nil
}

// Close flushes, as Pebble's own Close does not, and closes the store. Every Table on it must be
// closed before. A store that broke is not closed: its goroutines still fail and the process ends.
func (s *Store) Close() error {
	if err := s.Flush(context.Background()); err != nil {
		return err
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// reader is what *pebble.DB and *pebble.Snapshot have in common.
type reader interface {
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

// readApplied reads the applied LSN, 0 if there is none yet.
func readApplied(r reader, opts *pebble.IterOptions) (lsn wal.LSN, err error) {
	it, err := r.NewIter(opts)
	if err != nil {
		return 0, fmt.Errorf("read applied LSN: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.SeekGE(appliedKey) || string(it.Key()) != string(appliedKey) {
		return 0, it.Error()
	}
	return parseApplied(it.Value())
}

// A Batch collects commits in LSN order and is then applied as one: all of it or nothing is in the
// store after a crash. Not for concurrent use.
type Batch struct {
	store       *Store
	ops         *pebble.Batch
	first, last wal.LSN // ends of the first and the last record; 0: empty
	dropped     int     // bytes of operations that a bare store does not keep
}

// NewBatch returns an empty batch. After Apply it can be filled again.
func (s *Store) NewBatch() *Batch { return &Batch{store: s, ops: s.db.NewBatch()} }

// Add adds the operations of the record that ends at end. Records without operations, such as those
// of other resource managers, move the applied LSN all the same. ops are copied. The error is
// ErrOrder, wrapped, if end is not past the record added before.
func (b *Batch) Add(end wal.LSN, ops []Op) error {
	if end <= b.last {
		return fmt.Errorf("add record ending at %s after %s: %w", end, b.last, ErrOrder)
	}
	if b.first == 0 {
		b.first = end
	}
	b.last = end
	if b.store.bare {
		for i := range ops {
			b.dropped += ops[i].size()
		}
		return nil
	}
	for i := range ops {
		op := &ops[i]
		if op.Kind == Delete {
			d := b.ops.DeleteDeferred(1 + len(op.Key))
			appendRowKey(d.Key[:0], op.Key)
			if err := d.Finish(); err != nil {
				return fmt.Errorf("add to batch: %w", err)
			}
			continue
		}
		d := b.ops.SetDeferred(1+len(op.Key), storedSize(op))
		appendRowKey(d.Key[:0], op.Key)
		putRow(d.Value, end, op)
		if err := d.Finish(); err != nil {
			return fmt.Errorf("add to batch: %w", err)
		}
	}
	return nil
}

// End is the end of the last record in the batch, 0 if it is empty.
func (b *Batch) End() wal.LSN { return b.last }

// Size is the number of bytes in the batch, and of those that it has dropped. A batch of some 100 KiB is efficient; one larger than
// half the memtable costs a file of its own.
func (b *Batch) Size() int { return b.ops.Len() + b.dropped }

// Close discards what is in the batch and releases its memory.
func (b *Batch) Close() error { return b.ops.Close() }

// Apply writes the batch, and its end as the applied LSN, to the store and empties it. On a node
// with a Table, Table.Apply must be called instead. The error is ErrOrder, wrapped, if the batch
// begins at or before the applied LSN; any other is final for the store.
func (s *Store) Apply(b *Batch) error {
	if b.last == 0 {
		return nil
	}
	if applied := s.Applied(); b.first <= applied {
		return fmt.Errorf("apply record ending at %s, store is at %s: %w", b.first, applied, ErrOrder)
	}
	var buf [appliedSize]byte
	if err := b.ops.Set(appliedKey, appendApplied(buf[:0], b.last), nil); err != nil {
		return fmt.Errorf("apply up to %s: %w", b.last, err)
	}
	if err := b.ops.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("apply up to %s: %w", b.last, err)
	}
	s.applied.Store(uint64(b.last))
	b.ops.Reset()
	b.first, b.last, b.dropped = 0, 0, 0
	return nil
}
