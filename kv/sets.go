package kv

import (
	"slices"
	"strings"
)

// A Range is the keys from Lo up to, not including, Hi; up to the last one if Unbounded.
type Range struct {
	Lo, Hi    string
	Unbounded bool
}

func (r Range) isEmpty() bool { return !r.Unbounded && r.Hi <= r.Lo }

// size is about how much memory it takes to remember the range, in bytes.
func (r *Range) size() int { return readRangeSize + len(r.Lo) + len(r.Hi) }

// below reports whether key is below the end of the range.
func (r Range) below(key string) bool { return r.Unbounded || key < r.Hi }

// smallSet is the number of keys up to which looking at each is faster than a map.
const smallSet = 8

// A readSet is what a transaction has read: keys and ranges, whether rows were there or not.
type readSet struct {
	keys   []string
	index  map[string]struct{} // of keys, once there are more than smallSet
	ranges []Range             // disjoint and in order
	bytes  int                 // about how much memory all that takes
}

// What a key and a range take beside their texts, in bytes.
const (
	readKeySize   = 48
	readRangeSize = 96
)

func (s *readSet) empty() bool { return len(s.keys) == 0 && len(s.ranges) == 0 }

// addKey adds a key, or a copy of it.
func (s *readSet) addKey(key string, clone bool) {
	if s.hasKey(key) {
		return
	}
	if clone {
		key = strings.Clone(key)
	}
	s.bytes += readKeySize + len(key)
	if s.index != nil {
		s.index[key] = struct{}{}
		return
	}
	s.keys = append(s.keys, key)
	if len(s.keys) > smallSet {
		s.index = make(map[string]struct{}, 4*smallSet)
		for _, k := range s.keys {
			s.index[k] = struct{}{}
		}
	}
}

func (s *readSet) hasKey(key string) bool {
	if s.index != nil {
		_, ok := s.index[key]
		return ok
	}
	return slices.Contains(s.keys, key)
}

// addRange merges r with the ranges that it overlaps or touches:
//
//	ranges  |---|   |---|     |---|
//	r              |-------|
//	then    |---|  |-------|  |---|
//
// Its texts are copied if clone is set.
func (s *readSet) addRange(r Range, clone bool) {
	if r.isEmpty() {
		return
	}
	if clone {
		r.Lo, r.Hi = strings.Clone(r.Lo), strings.Clone(r.Hi)
	}
	// The first that does not end before r begins, and the first that begins after r has ended.
	from, _ := slices.BinarySearchFunc(s.ranges, r.Lo, func(x Range, lo string) int {
		if x.Unbounded || x.Hi >= lo {
			return 1
		}
		return -1
	})
	to := from
	for ; to < len(s.ranges) && (r.Unbounded || s.ranges[to].Lo <= r.Hi); to++ {
		x := s.ranges[to]
		s.bytes -= x.size()
		r.Lo = min(r.Lo, x.Lo)
		if x.Unbounded || !r.Unbounded && x.Hi > r.Hi {
			r.Hi, r.Unbounded = x.Hi, x.Unbounded
		}
	}
	s.ranges = slices.Replace(s.ranges, from, to, r)
	s.bytes += r.size()
}

// contains reports whether the key, or a range around it, was read.
func (s *readSet) contains(key string) bool {
	if s.hasKey(key) {
		return true
	}
	// The last range that begins at or before key.
	i, found := slices.BinarySearchFunc(s.ranges, key, func(x Range, key string) int {
		return strings.Compare(x.Lo, key)
	})
	return found || i > 0 && s.ranges[i-1].below(key)
}

// A writeSet is what a transaction has written: one operation a key, the last one.
type writeSet struct {
	ops   []Op
	index map[string]int // into ops, once there are more than smallSet
	size  int            // of the encoded commit without its header, in bytes

	// While there are savepoints: what ops were before, latest last, and the size of that.
	marked   bool
	undo     []undone
	undoSize int
}

// An undone is what was at a place of ops before something was written there.
type undone struct {
	at      int
	old     Op
	existed bool
}

// find returns the operation on key, nil if there is none. It is valid until the next add.
func (s *writeSet) find(key string) *Op {
	if i := s.indexOf(key); i >= 0 {
		return &s.ops[i]
	}
	return nil
}

func (s *writeSet) indexOf(key string) int {
	if s.index != nil {
		if i, ok := s.index[key]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(s.ops, func(o Op) bool { return o.Key == key })
}

// add notes the operation in place of an earlier one on its key. The error is a *LimitError if the
// commit grows too large; then nothing is noted.
func (s *writeSet) add(op Op) error {
	i := s.indexOf(op.Key)
	size := s.size + op.size()
	if i >= 0 {
		size -= s.ops[i].size()
	}
	if total := commitHeaderSize + size + s.undoSize; total > MaxCommitSize {
		return &LimitError{What: "commit", Size: total, Max: MaxCommitSize}
	}
	if s.marked {
		s.remember(i)
	}
	s.size = size
	if i >= 0 {
		s.ops[i] = op
		return nil
	}
	s.ops = append(s.ops, op)
	switch {
	case s.index != nil:
		s.index[op.Key] = len(s.ops) - 1
	case len(s.ops) > smallSet:
		s.index = make(map[string]int, 4*smallSet)
		for i := range s.ops {
			s.index[s.ops[i].Key] = i
		}
	}
	return nil
}

// remember notes what is at a place, −1 for the end, before it is written to. What is remembered counts
// towards the limit of the commit: it is memory all the same.
func (s *writeSet) remember(at int) {
	if at < 0 {
		s.undo = append(s.undo, undone{at: len(s.ops)})
		return
	}
	s.undo = append(s.undo, undone{at: at, old: s.ops[at], existed: true})
	s.undoSize += s.ops[at].size()
}

// undoTo takes back everything but the first n of what is remembered.
func (s *writeSet) undoTo(n int) {
	for len(s.undo) > n {
		u := s.undo[len(s.undo)-1]
		s.undo = s.undo[:len(s.undo)-1]
		s.size -= s.ops[u.at].size()
		if u.existed {
			s.size += u.old.size()
			s.undoSize -= u.old.size()
			s.ops[u.at] = u.old
			continue
		}
		if s.index != nil { // the last of ops: what came after it has been taken back
			delete(s.index, s.ops[u.at].Key)
		}
		s.ops = s.ops[:u.at]
	}
}

// inRange returns copies of the operations on keys of r, in the order of their keys.
func (s *writeSet) inRange(r Range) []Op {
	var ops []Op
	for _, op := range s.ops {
		if op.Key >= r.Lo && r.below(op.Key) {
			ops = append(ops, op)
		}
	}
	slices.SortFunc(ops, func(a, b Op) int { return strings.Compare(a.Key, b.Key) })
	return ops
}

// row is the row that the operation leaves to its own transaction.
func (o *Op) row() Row {
	if o.Kind == Delete {
		return Row{}
	}
	return Row{Key: o.Key, Value: o.Value}
}
