package simulation

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/wal"
)

const (
	journalName     = "journal"
	snapshotsToKeep = 2
)

// A raftStore is Raft's store on a simulated file system, as durable as the one of bbolt: each write is in a
// journal, and synced, when it returns. In memory it is raft.InmemStore.
//
// The journal is a list of records: CRC-32C and length, 4 bytes each, little endian, and a change in JSON. One
// that is torn is the last, and so are zeros, which a crash may leave. Opening it writes it anew, without what
// is not needed any more.
type raftStore struct {
	*raft.InmemStore
	keys map[string][]byte // all of InmemStore's, which cannot list them
	file vfs.File

	mu        sync.Mutex
	snapshots []snapshot
}

// A change is a record of the journal.
type change struct {
	Key         string
	Value       []byte
	Logs        []*raft.Log
	First, Last uint64 // to be deleted
	Snapshot    *snapshot
}

type snapshot struct {
	Meta raft.SnapshotMeta
	Data []byte
}

// openRaft returns the raftlog.OpenStorage of a file system.
func openRaft(fs vfs.FS) raftlog.OpenStorage {
	return func(dir string) (raftlog.Storage, error) {
		s := &raftStore{InmemStore: raft.NewInmemStore(), keys: map[string][]byte{}}
		b, err := wal.ReadFile(fs, path.Join(dir, journalName), 64<<20)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err := s.replay(b); err != nil {
			return nil, err
		}
		if err := fs.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := wal.SyncDir(fs, path.Dir(dir)); err != nil {
			return nil, err
		}
		if err := wal.WriteFileDurably(fs, dir, journalName, s.dump()); err != nil {
			return nil, err
		}
		s.file, err = reopen(fs, path.Join(dir, journalName))
		return s, err
	}
}

// reopen opens a file to write behind its end.
func reopen(fs vfs.FS, name string) (vfs.File, error) {
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, f)
	return f, err
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func encode(c change) []byte {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // it is all numbers and bytes
	}
	b := binary.LittleEndian.AppendUint32(nil, crc32.Checksum(body, crcTable))
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(body))), body...)
}

// replay applies a journal up to its end.
func (s *raftStore) replay(b []byte) error {
	for len(b) >= 8 {
		sum, n := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint32(b[4:]))
		if n == 0 || n > len(b)-8 || crc32.Checksum(b[8:8+n], crcTable) != sum {
			return nil
		}
		var c change
		if err := json.Unmarshal(b[8:8+n], &c); err != nil {
			return fmt.Errorf("journal of raft: %w", err)
		}
		if err := s.apply(c); err != nil {
			return err
		}
		b = b[8+n:]
	}
	return nil
}

func (s *raftStore) apply(c change) (err error) {
	switch {
	case c.Key != "":
		s.keys[c.Key] = c.Value
		if len(c.Value) == 8 {
			err = s.InmemStore.SetUint64([]byte(c.Key), binary.BigEndian.Uint64(c.Value))
		}
		err = errors.Join(err, s.InmemStore.Set([]byte(c.Key), c.Value))
	case c.Logs != nil:
		err = s.InmemStore.StoreLogs(c.Logs)
	case c.Snapshot != nil:
		s.snapshots = append(s.snapshots, *c.Snapshot)
		s.snapshots = s.snapshots[max(0, len(s.snapshots)-snapshotsToKeep):]
	default:
		err = s.InmemStore.DeleteRange(c.First, c.Last)
	}
	return err
}

// dump is a journal that makes what there is.
func (s *raftStore) dump() []byte {
	var b []byte
	for key, value := range s.keys {
		b = append(b, encode(change{Key: key, Value: value})...)
	}
	for i := range s.snapshots {
		b = append(b, encode(change{Snapshot: &s.snapshots[i]})...)
	}
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	for i := max(first, 1); i <= last; i++ {
		var l raft.Log
		if s.GetLog(i, &l) == nil {
			b = append(b, encode(change{Logs: []*raft.Log{&l}})...)
		}
	}
	return b
}

// write makes a change durable, and then makes it.
func (s *raftStore) write(c change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.Write(encode(c)); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return s.apply(c)
}

func (s *raftStore) StoreLog(l *raft.Log) error       { return s.StoreLogs([]*raft.Log{l}) }
func (s *raftStore) StoreLogs(logs []*raft.Log) error { return s.write(change{Logs: logs}) }
func (s *raftStore) DeleteRange(first, last uint64) error {
	return s.write(change{First: first, Last: last})
}
func (s *raftStore) Set(key, value []byte) error {
	return s.write(change{Key: string(key), Value: value})
}

func (s *raftStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (s *raftStore) Close() error { return s.file.Close() }

// Snapshots implements raftlog.Storage.
func (s *raftStore) Snapshots(hclog.Logger) (raft.SnapshotStore, error) {
	return (*raftSnapshots)(s), nil
}

// raftSnapshots are the snapshots in a raftStore.
type raftSnapshots raftStore

// Create implements raft.SnapshotStore.
func (s *raftSnapshots) Create(
	v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	return &raftSink{store: (*raftStore)(s), meta: raft.SnapshotMeta{
		Version: v, ID: fmt.Sprintf("%d-%d", term, index),
		Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}, nil
}

// List implements raft.SnapshotStore: the latest first.
func (s *raftSnapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*raft.SnapshotMeta
	for _, snap := range slices.Backward(s.snapshots) {
		list = append(list, &snap.Meta)
	}
	return list, nil
}

// Open implements raft.SnapshotStore.
func (s *raftSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, snap := range slices.Backward(s.snapshots) {
		if snap.Meta.ID == id {
			return &snap.Meta, io.NopCloser(bytes.NewReader(snap.Data)), nil
		}
	}
	return nil, nil, os.ErrNotExist
}

// A raftSink is a snapshot that is being written.
type raftSink struct {
	bytes.Buffer
	store *raftStore
	meta  raft.SnapshotMeta
}

func (s *raftSink) ID() string    { return s.meta.ID }
func (s *raftSink) Cancel() error { return nil }

// Close implements raft.SnapshotSink.
func (s *raftSink) Close() error {
	s.meta.Size = int64(s.Len())
	return s.store.write(change{Snapshot: &snapshot{Meta: s.meta, Data: s.Bytes()}})
}
