package kv

import (
	"hash/maphash"
	"sync"

	"github.com/longship-db/longship/wal"
)

// A memtable is the newest part of the store, in memory: what was applied since the part before it was
// written to Pebble. One goroutine inserts, in LSN order; any number read, each as of an LSN of its own.
//
// Rows are found by key through a hash index, which costs an insert a tenth of what its place in an
// ordered structure would. Their order is worked out when somebody asks for it: for a scan, and once
// in the end, to write them out.
type memtable struct {
	seed    maphash.Seed
	retired chan struct{} // closed when nothing is inserted any more

	mu       sync.RWMutex
	index    []uint32     // of keys, plus one, by hash, with linear probing; 0: free. The length is a power of two
	keys     []string     // in the order in which they came; never changes but for growing
	hashes   []uint32     // of keys
	newest   []uint32     // of each key: the version last written, in versions
	versions []memVersion // what is in it never changes: who has the slice reads it without mu
	bytes    int

	order order
}

// A memVersion is one write of one key. It never changes.
type memVersion struct {
	lsn   wal.LSN
	value []byte
	kind  Kind
	older uint32 // the version of this key before, plus one; 0: there is none
}

// A memRow is a version with its key. Both key and value are never written to again.
type memRow struct {
	key string
	memVersion
}

// memRowOverhead is about what a version costs beside its key and value, in bytes.
const memRowOverhead = 80

// memIndexSize is the size of an index, at the least.
const memIndexSize = 256

// newMemtable returns an empty memtable with room for n versions, so that the rows under way need not wait while
// it grows.
func newMemtable(n int) *memtable {
	size := memIndexSize
	for size < 2*n {
		size *= 2
	}
	return &memtable{
		seed:     maphash.MakeSeed(),
		retired:  make(chan struct{}),
		index:    make([]uint32, size),
		keys:     make([]string, 0, n),
		hashes:   make([]uint32, 0, n),
		newest:   make([]uint32, 0, n),
		versions: make([]memVersion, 0, n),
	}
}

func (m *memtable) hash(key string) uint32 { return uint32(maphash.String(m.seed, key)) }

// insertChunk is how many rows are inserted while readers wait.
const insertChunk = 128

// insert adds rows, which are later than those before.
func (m *memtable) insert(rows []memRow) {
	for len(rows) > 0 {
		n := min(len(rows), insertChunk)
		m.mu.Lock()
		for i := range rows[:n] {
			m.insertRow(&rows[i])
		}
		m.mu.Unlock()
		rows = rows[n:]
	}
}

func (m *memtable) insertRow(r *memRow) {
	hash := m.hash(r.key)
	slot := m.slot(r.key, hash)
	v := r.memVersion
	if id := m.index[slot]; id != 0 {
		v.older = m.newest[id-1] + 1
		m.newest[id-1] = uint32(len(m.versions))
	} else {
		m.keys = append(m.keys, r.key)
		m.hashes = append(m.hashes, hash)
		m.newest = append(m.newest, uint32(len(m.versions)))
		m.index[slot] = uint32(len(m.keys))
	}
	m.versions = append(m.versions, v)
	m.bytes += len(r.key) + len(v.value) + memRowOverhead
	if 2*len(m.keys) > len(m.index) {
		m.grow()
	}
}

// slot is the place of key in the index: the one that holds it, or the one that is free for it.
func (m *memtable) slot(key string, hash uint32) uint32 {
	mask := uint32(len(m.index) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		id := m.index[i]
		if id == 0 || m.hashes[id-1] == hash && m.keys[id-1] == key {
			return i
		}
	}
}

func (m *memtable) grow() {
	index := make([]uint32, 2*len(m.index))
	mask := uint32(len(index) - 1)
	for id, hash := range m.hashes {
		i := hash & mask
		for index[i] != 0 {
			i = (i + 1) & mask
		}
		index[i] = uint32(id + 1)
	}
	m.index = index
}

// get returns the newest version of key at or before lsn, if there is one.
func (m *memtable) get(key string, lsn wal.LSN) (memVersion, bool) {
	hash := m.hash(key)
	m.mu.RLock()
	id := m.index[m.slot(key, hash)]
	if id == 0 {
		m.mu.RUnlock()
		return memVersion{}, false
	}
	newest, versions := m.newest[id-1], m.versions
	m.mu.RUnlock()
	return versionAt(versions, newest, lsn)
}

// versionAt returns the newest version at or before lsn of the key whose version last written has this number. A key
// that is written all the time may have all the versions there are, and so inserts do not wait for it: what is in
// versions never changes.
func versionAt(versions []memVersion, newest uint32, lsn wal.LSN) (memVersion, bool) {
	for at := newest + 1; at != 0; {
		v := &versions[at-1]
		if v.lsn <= lsn {
			return *v, true
		}
		at = v.older
	}
	return memVersion{}, false
}

// size is about how much memory the rows take, in bytes.
func (m *memtable) size() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.bytes
}

// row is what a read finds; ok is false if the row was deleted. The value is shared with the memtable, which
// never changes it.
func (v *memVersion) row(key string) (r Row, ok bool) {
	if v.kind == Delete {
		return Row{}, false
	}
	return Row{Key: key, Value: v.value, LSN: v.lsn}, true
}
