package sql

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// sharedStatements remembers statements by their text, for all sessions of a node: the same few texts come again and
// again, from pools of many connections, and each takes some kilobytes of tree and plan. A text is remembered when it
// comes the second time, as most that are made of values never do.
type sharedStatements struct {
	limit int // bytes
	seed  maphash.Seed
	seen  [1 << 10]atomic.Uint64 // hashes of texts that came once

	mu    sync.RWMutex
	byKey map[sharedKey]*parsed
	bytes int
}

// What a statement means depends on its text, on which types the client has declared, and on whether it may have parameters.
type sharedKey struct {
	text, declared string
	noParams       bool
}

// Bounds of what is shared: the length of a text, and what all of them take, in bytes.
const (
	maxSharedText  = 4 << 10
	maxSharedBytes = 16 << 20
	sharedCost     = 1 << 10 // of a statement beside its text and tokens
)

func newSharedStatements(limit int) *sharedStatements {
	return &sharedStatements{limit: limit, seed: maphash.MakeSeed(), byKey: map[sharedKey]*parsed{}}
}

func makeSharedKey(text string, declared []uint32, noParams bool) sharedKey {
	if len(declared) == 0 {
		return sharedKey{text: text, noParams: noParams}
	}
	b := make([]byte, 0, 64)
	for _, oid := range declared {
		b = append(b, byte(oid), byte(oid>>8), byte(oid>>16), byte(oid>>24))
	}
	return sharedKey{text, string(b), noParams}
}

// get returns an analyzed statement that nobody changes, or nil.
func (c *sharedStatements) get(text string, declared []uint32, noParams bool) *parsed {
	if len(text) > maxSharedText {
		return nil
	}
	key := makeSharedKey(text, declared, noParams)
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byKey[key]
}

// put remembers an analyzed statement, at the cost of others if there are too many.
func (c *sharedStatements) put(p *parsed) {
	if len(p.text) > maxSharedText || p.sharedSize() > c.limit/4 || !sharable(p.node) {
		return
	}
	key := makeSharedKey(p.text, p.declared, p.noParams)
	hash := maphash.Comparable(c.seed, key)
	if c.seen[hash%uint64(len(c.seen))].Swap(hash) != hash {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil {
		return
	}
	c.byKey[key] = p
	c.bytes += p.sharedSize()
	for other, q := range c.byKey {
		if c.bytes <= c.limit {
			break
		}
		delete(c.byKey, other)
		c.bytes -= q.sharedSize()
	}
}

func (p *parsed) sharedSize() int { return sharedCost + len(p.text) + 4*len(p.declared) + p.size }

// sharable says whether what was made of a statement is the same for all sessions. What is not, or comes rarely, has no
// plan to speak of.
func sharable(n statementNode) bool {
	switch n.(type) {
	case nil, *selectStmt, *insertStmt, *updateStmt, *deleteStmt, *transactionStmt:
		return true
	}
	return false
}
