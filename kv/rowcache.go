package kv

import (
	"hash/maphash"
	"strings"
	"sync"
)

// A rowCache keeps rows that were read from Pebble, in memory: one that is found there costs a tenth of a read
// through Pebble's files. What it holds is what Pebble holds, so memtables are asked before it.
//
// A base is Pebble at one time, and has a number. A row that was read from base n is the same in every later base
// until a write of its key gets into Pebble, and then it is taken out, before the base that has the write is there
// to be read (advance, drop). So what is found may be given to who reads base n or a later one.
type rowCache struct {
	seed   maphash.Seed
	limit  int // of one shard, in bytes
	shards [rowCacheShards]rowCacheShard
}

const (
	rowCacheShards = 16

	// rowCacheLargest is the size of a row, in bytes, above which it is not worth its place: most of what it
	// costs to read it is to copy it.
	rowCacheLargest = 4 << 10

	// cachedRowOverhead is about what a row costs beside its key and value, in bytes.
	cachedRowOverhead = 160
)

type rowCacheShard struct {
	mu    sync.RWMutex
	base  uint64 // the newest base whose rows may be put here
	rows  map[string]cachedRow
	bytes int
}

// A cachedRow is a row as it was in this base.
type cachedRow struct {
	Row
	base uint64
}

func (r *cachedRow) size() int { return len(r.Key) + len(r.Value) + cachedRowOverhead }

// newRowCache returns an empty cache for so many bytes.
func newRowCache(limit int) *rowCache {
	c := &rowCache{seed: maphash.MakeSeed(), limit: limit / rowCacheShards}
	for i := range c.shards {
		c.shards[i].rows = map[string]cachedRow{}
	}
	return c
}

func (c *rowCache) shard(key string) *rowCacheShard {
	return &c.shards[maphash.String(c.seed, key)%rowCacheShards]
}

// get returns the row of key as it is in base, if it is there.
func (c *rowCache) get(key string, base uint64) (Row, bool) {
	s := c.shard(key)
	s.mu.RLock()
	r, ok := s.rows[key]
	s.mu.RUnlock()
	return r.Row, ok && r.base <= base
}

// put keeps a row that was read from base, unless that is not the newest any more: what has been written since
// is not known to it. If there is no room, any other makes it.
func (c *rowCache) put(row Row, base uint64) {
	row.Key = strings.Clone(row.Key) // it may be a part of a long statement
	r := cachedRow{row, base}
	if r.size() > min(c.limit, rowCacheLargest) {
		return
	}
	s := c.shard(row.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base != base {
		return
	}
	s.drop(row.Key)
	for key := range s.rows { // in an order that Go makes up
		if s.bytes+r.size() <= c.limit {
			break
		}
		s.drop(key)
	}
	s.rows[row.Key] = r
	s.bytes += r.size()
}

// advance says that another base will be the newest, with other rows for keys. Until it is called nobody may read
// that base.
func (c *rowCache) advance(base uint64, keys []string) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.base = base
		s.mu.Unlock()
	}
	for _, key := range keys {
		s := c.shard(key)
		s.mu.Lock()
		s.drop(key)
		s.mu.Unlock()
	}
}

func (s *rowCacheShard) drop(key string) {
	if r, ok := s.rows[key]; ok {
		s.bytes -= r.size()
		delete(s.rows, key)
	}
}
