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
	RowCacheSize int          // memory for rows that were read from there, in bytes; default 32 MiB
	MemTableSize int          // what is collected in memory before it is written to a file, in bytes; default 16 MiB
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
	o.RowCacheSize = cmp.Or(o.RowCacheSize, 32<<20)
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
// In front of Pebble are one or two memtables, newest first:
//
//	| memtable | retired: being written to Pebble | Pebble |
//	| ≤ applied                         ≤ retired |  ≤ base |
//
// Pebble has memtables of its own, but they are skip lists: an insert looks for its place in order, which
// costs three microseconds on each node where ours costs a few tenths. It gets whole memtables, in order. Rows that
// were read from it by key stay in a rowCache.
//
// One goroutine applies (NewBatch, Apply). The other methods may be called by any.
type Store struct {
	db     *pebble.DB
	logger *slog.Logger
	bare   bool // operations are dropped
	limit  int  // size of a memtable that is retired, in bytes

	applying sync.Mutex    // held while a batch is inserted, or a memtable retired
	applied  atomic.Uint64 // a wal.LSN; moved by Apply

	mu      sync.RWMutex // guards what follows; taken after applying, and never held over I/O
	memory  *memtable
	retired *memtable // nil if there is none
	base    *base
	tables  []*Table // whose transactions read the store: one that is open, others only until these have ended

	cache *rowCache

	written wal.Position // what Pebble has been given
	wanted  wal.Position // what somebody wants it to be given
	kick    chan struct{}
	stop    chan struct{}
	ended   chan struct{} // closed when the writer has ended

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
	s := &Store{
		logger: opts.Logger,
		bare:   opts.Positions,
		limit:  opts.MemTableSize,
		memory: newMemtable(0),
		cache:  newRowCache(opts.RowCacheSize),
		kick:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
		fatal:  opts.Fatal,
		broken: make(chan struct{}),
	}
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
	s.written.Advance(applied)
	s.base = newBase(db, 0)
	go s.write()
	return s, nil
}

func (s *Store) pebbleOptions(fs vfs.FS, opts StoreOptions) *pebble.Options {
	memtable := max(64<<10, opts.MemTableSize/16) // for what is written before one of ours is full
	o := &pebble.Options{
		FS:                          pacedFS{vfs.OnDiskFull(markerFS{fs}, s.awaitRoom), s.pacer},
		DisableWAL:                  true,
		FormatMajorVersion:          storeFormat,
		CacheSize:                   opts.CacheSize,
		MemTableSize:                uint64(memtable),
		MemTableStopWritesThreshold: max(4, 4*opts.MemTableSize/memtable), // times that: four of ours
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
	if err := s.writeOut(ctx, refused); err != nil {
		return err
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("flush store: %w", err)
	}
	return s.awaitFlush(ctx, refused, flushed)
}

// awaitFlush waits until done is closed, the store is broken, the disk is full, or ctx ends.
func (s *Store) awaitFlush(ctx context.Context, refused *refusal, done <-chan struct{}) error {
	select {
	case <-done:
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

// Size is how much the table takes, in bytes: its files, compressed, and what is not written to one yet.
func (s *Store) Size() int64 {
	total := s.db.Metrics().Total()
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := total.TablesSize + int64(s.memory.size())
	if s.retired != nil {
		n += int64(s.retired.size())
	}
	return n
}

// Close flushes, as Pebble's own Close does not, and closes the store. Every Table on it must be
// closed before. A store that broke is not closed: its goroutines still fail and the process ends.
func (s *Store) Close() error {
	if err := s.Flush(context.Background()); err != nil {
		return err
	}
	close(s.stop)
	<-s.ended
	s.base.release()
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
