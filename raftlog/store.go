package raftlog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const (
	storeFile       = "raft.db"
	storeLock       = 5 * time.Second // how long another process may still hold the file
	snapshotsToKeep = 2
)

// keyID is where the store keeps the ID of its Raft server. It is in the same file as the votes, so
// whoever loses one loses both: a server that forgot its votes is another server.
var keyID = []byte("longship-raft-id")

// keyTerm is where hashicorp/raft keeps its term (keyCurrentTerm in its api.go).
var keyTerm = []byte("CurrentTerm")

// LoadID returns the ID of the Raft server whose store is in dir, and makes both if there are none:
// then fresh is true, and nobody knows this server yet. Open is as in Config.
func LoadID(dir string, open OpenStorage) (id string, fresh bool, err error) {
	db, err := open.In(dir)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b, err := db.Get(keyID)
	if err == nil {
		return string(b), false, nil
	}
	if !isNotFound(err) {
		return "", false, fmt.Errorf("read identity of Raft store in %s: %w", dir, err)
	}
	id = rand.Text()
	if err := db.Set(keyID, []byte(id)); err != nil {
		return "", false, fmt.Errorf("write identity of Raft store in %s: %w", dir, err)
	}
	return id, true, nil
}

// Storage is what a Raft server keeps: its log, its votes, its ID and its snapshots. A write is durable when
// it returns. What is not there is an error whose text is "not found", as hashicorp/raft wants it.
type Storage interface {
	raft.LogStore
	raft.StableStore
	io.Closer
	Snapshots(hclog.Logger) (raft.SnapshotStore, error)
}

// OpenStorage opens what the Raft server whose folder is dir keeps, and makes it if there is none: durably,
// directory included. Nil: the file raft.db of bbolt, and snapshots in files.
type OpenStorage func(dir string) (Storage, error)

// In opens it.
func (open OpenStorage) In(dir string) (Storage, error) {
	if open == nil {
		open = openBolt
	}
	return open(dir)
}

// boltStorage is Storage in files of the operating system.
type boltStorage struct {
	*raftboltdb.BoltStore
	dir string
}

// Snapshots opens the folder of the snapshots.
func (s boltStorage) Snapshots(logger hclog.Logger) (raft.SnapshotStore, error) {
	return raft.NewFileSnapshotStoreWithLogger(s.dir, snapshotsToKeep, logger)
}

func openBolt(dir string) (Storage, error) {
	_, err := os.Stat(filepath.Join(dir, storeFile))
	isNew := errors.Is(err, os.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make Raft store: %w", err)
	}
	db, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, storeFile),
		BoltOptions: &bbolt.Options{Timeout: storeLock},
	})
	if err != nil {
		return nil, fmt.Errorf("open Raft store in %s: %w", dir, err)
	}
	reserve(filepath.Join(dir, storeFile))
	if !isNew {
		return boltStorage{db, dir}, nil
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			db.Close()
			return nil, fmt.Errorf("make Raft store: %w", err)
		}
	}
	return boltStorage{db, dir}, nil
}

// storeReserve is the room that the store has in any case, in bytes: many times what trailingLogs take.
const storeReserve = 4 << 20

// reserve gives the store room beyond its end, so that it goes on when WAL fills the disk: a write of it that
// fails ends the process. Where there is no room, or a file system that cannot do it, the store gets along
// without.
func reserve(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, storeReserve)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A store is Raft's log, its votes and its snapshots on disk. A write that fails is the last one: it
// is reported, and the goroutine that asked for it ends there, since what the disk holds is not known
// any more and must neither be built upon nor be written again.
type store struct {
	db    Storage
	fatal func(error) // does not return

	mu     sync.Mutex
	last   uint64
	writes map[uint64]time.Time // those in flight, by when they began
	failed bool
}

func newStore(db Storage, report func(error)) *store {
	s := &store{db: db, writes: make(map[uint64]time.Time)}
	s.fatal = func(err error) {
		s.mu.Lock()
		first := !s.failed
		s.failed = true
		s.mu.Unlock()
		if first {
			report(err)
		}
		runtime.Goexit() // an error returned would be retried, or be a panic in setCurrentTerm
	}
	return s
}

// write does one write, with a clock running, and never returns if it or an earlier one fails.
func (s *store) write(what string, do func() error) {
	s.mu.Lock()
	if s.failed {
		s.mu.Unlock()
		runtime.Goexit()
	}
	s.last++
	n := s.last
	s.writes[n] = time.Now()
	s.mu.Unlock()
	err := do()
	s.mu.Lock()
	delete(s.writes, n)
	s.mu.Unlock()
	if err != nil {
		s.fatal(fmt.Errorf("write Raft store: %s: %w", what, err))
	}
}

// stalled is how long the oldest write has been in flight, 0 if there is none.
func (s *store) stalled() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, began := range s.writes {
		longest = max(longest, time.Since(began), 1)
	}
	return longest
}

func (s *store) FirstIndex() (uint64, error)            { return s.db.FirstIndex() }
func (s *store) LastIndex() (uint64, error)             { return s.db.LastIndex() }
func (s *store) GetLog(index uint64, l *raft.Log) error { return s.db.GetLog(index, l) }
func (s *store) Get(key []byte) ([]byte, error)         { return s.db.Get(key) }
func (s *store) GetUint64(key []byte) (uint64, error)   { return s.db.GetUint64(key) }
func (s *store) StoreLog(l *raft.Log) error             { return s.StoreLogs([]*raft.Log{l}) }

func (s *store) StoreLogs(logs []*raft.Log) error {
	s.write("log", func() error { return s.db.StoreLogs(logs) })
	return nil
}

func (s *store) DeleteRange(first, last uint64) error {
	s.write("deletion", func() error { return s.db.DeleteRange(first, last) })
	return nil
}

func (s *store) Set(key, value []byte) error {
	s.write("vote", func() error { return s.db.Set(key, value) })
	return nil
}

// SetUint64 writes what is not there yet. Raft writes its term again whenever it starts, from the
// goroutine of whoever starts it.
func (s *store) SetUint64(key []byte, value uint64) error {
	if old, err := s.db.GetUint64(key); err == nil && old == value || isNotFound(err) && value == 0 {
		return nil
	}
	s.write("term", func() error { return s.db.SetUint64(key, value) })
	return nil
}

// lastCommand is the index of the last command in a log, 0 if there is none.
func lastCommand(log raft.LogStore) (uint64, error) {
	first, err := log.FirstIndex()
	if err != nil {
		return 0, err
	}
	last, err := log.LastIndex()
	for entry := (raft.Log{}); err == nil && last > 0 && last >= first; last-- {
		if err = log.GetLog(last, &entry); err == nil && entry.Type == raft.LogCommand {
			return last, nil
		}
	}
	return 0, err
}

// isNotFound tells by the text, as hashicorp/raft does: stores have errors of their own.
func isNotFound(err error) bool { return err != nil && err.Error() == "not found" }

// snapshots are the store's snapshots: writes to them fail as those to the log do.
type snapshots struct {
	raft.SnapshotStore
	store *store
}

// Create begins a snapshot.
func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	var sink raft.SnapshotSink
	s.store.write("snapshot", func() (err error) {
		sink, err = s.SnapshotStore.Create(v, index, term, c, ci, t)
		return err
	})
	return snapshotSink{sink, s.store}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *store
}

// Write writes a part of the snapshot.
func (s snapshotSink) Write(b []byte) (n int, err error) {
	s.store.write("snapshot", func() error {
		n, err = s.SnapshotSink.Write(b)
		return err
	})
	return n, nil
}

// Close makes the snapshot durable.
func (s snapshotSink) Close() error {
	s.store.write("snapshot", s.SnapshotSink.Close)
	return nil
}
