package kv

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/btree"

	"github.com/longship-db/longship/wal"
)

// A version is one write of one key by a pending commit. It never changes.
type version struct {
	key   string
	lsn   wal.LSN // end of the commit's record
	kind  Kind
	value []byte
}

func (v *version) row() Row { return Row{Key: v.key, Value: v.value, LSN: v.lsn} }

// A versionTree holds versions by key, those of one key newest first, so that "the newest of key up
// to lsn" is the first at or after (key, lsn).
type versionTree = btree.BTreeG[*version]

func newVersionTree() *versionTree {
	return btree.NewG(32, func(a, b *version) bool {
		if c := strings.Compare(a.key, b.key); c != 0 {
			return c < 0
		}
		return a.lsn > b.lsn
	})
}

// versionOverhead is about what a version costs beside its key and value, in bytes.
const versionOverhead = 128

// A commit is what the table remembers of one transaction in the log: its versions while it is
// pending, then only its keys, for as long as a transaction may have to be checked against them.
type commit struct {
	end      wal.LSN
	keys     []string
	versions []version // nil once the store holds them
	bytes    int       // of versions
	keyBytes int
}

// newCommit makes the commit of ops, to be placed in the log. Values are shared with ops; keys are copied, all into one
// string: they stay for long, and may be parts of statements that are much longer.
func newCommit(ops []Op) *commit {
	c := &commit{keys: make([]string, len(ops)), versions: make([]version, len(ops))}
	var all strings.Builder
	size := 0
	for i := range ops {
		size += len(ops[i].Key)
	}
	all.Grow(size)
	for i := range ops {
		op := &ops[i]
		all.WriteString(op.Key)
		key := all.String()[all.Len()-len(op.Key):]
		c.keys[i] = key
		c.versions[i] = version{key: key, kind: op.Kind, value: op.Value}
		c.keyBytes += len(op.Key) + 16
		c.bytes += len(op.Key) + len(op.Value) + versionOverhead
	}
	return c
}

// pendingLog is the commits of the log that matter to transactions, in memory. Its owner guards it.
//
//	log: |-- in the store: keys only --|-- pending: in tree --|
//	     0                             stored            len(log)
type pendingLog struct {
	log    []*commit // in LSN order; elements are replaced never, so slices of it stay valid
	stored int
	tree   *versionTree

	historyBytes int     // of log[:stored]
	forgotten    wal.LSN // end of the last commit dropped although a transaction might need it
}

// add appends a commit whose record ended at end.
func (p *pendingLog) add(c *commit, end wal.LSN) {
	c.end = end
	for i := range c.versions {
		c.versions[i].lsn = end
		p.tree.ReplaceOrInsert(&c.versions[i]) // replaces if a commit writes a key twice
	}
	p.log = append(p.log, c)
}

// trim takes what the store holds out of the tree, and returns how many bytes that was. The keys of
// commits after needed stay, up to limit bytes of them.
func (p *pendingLog) trim(applied, needed wal.LSN, limit int) (freed int) {
	for ; p.stored < len(p.log) && p.log[p.stored].end <= applied; p.stored++ {
		c := p.log[p.stored]
		for i := range c.versions {
			p.tree.Delete(&c.versions[i])
		}
		c.versions = nil
		freed += c.bytes
		p.historyBytes += c.keyBytes
	}
	n := 0
	for ; n < p.stored; n++ {
		c := p.log[n]
		if c.end > needed {
			if p.historyBytes <= limit {
				break
			}
			p.forgotten = c.end
		}
		p.historyBytes -= c.keyBytes
	}
	p.log = p.log[n:]
	p.stored -= n
	return freed
}

// since returns the commits after lsn, oldest first. ok is false if some are forgotten.
func (p *pendingLog) since(lsn wal.LSN) (commits []*commit, ok bool) {
	if lsn < p.forgotten {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(p.log, lsn, func(c *commit, lsn wal.LSN) int {
		return cmp.Compare(c.end, lsn)
	})
	if found {
		i++
	}
	return slices.Clip(p.log[i:]), true
}
