package pgwire

import "sync/atomic"

// A Memory is the account of what the connections of a server make it hold together, in bytes: large messages,
// prepared statements and portals, and what their statements hold of rows and of writes that are yet to be committed.
// Go's heap has no limit that a session could be refused at, so what can grow is counted before it does.
type Memory struct {
	limit   func() int64 // 0: none
	used    atomic.Int64
	refused atomic.Int64
}

// NewMemory makes an account. limit may change; 0 is none.
func NewMemory(limit func() int64) *Memory { return &Memory{limit: limit} }

// Used is what is held now, in bytes.
func (m *Memory) Used() int64 { return m.used.Load() }

// Refused counts how often more was asked for than there was.
func (m *Memory) Refused() int64 { return m.refused.Load() }

// take reserves n bytes, if there are so many left.
func (m *Memory) take(n int64) bool {
	limit := m.limit()
	for {
		used := m.used.Load()
		if limit > 0 && n > limit-used { // who is refused takes nothing from others, not for a moment
			m.refused.Add(1)
			return false
		}
		if m.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

const (
	// shareFree is what every connection may hold uncounted: so ordinary statements go on whatever others do.
	shareFree = 64 << 10
	// shareStep is how much is taken from the account at once.
	shareStep = 64 << 10
)

// A share is what one connection holds. One goroutine uses it. nil holds anything.
type share struct {
	memory *Memory
	held   int64
	taken  int64 // from memory: held, without what is free, in whole steps
}

// hold counts n more bytes, or less if n is negative. The error is a 53200, and then nothing more is counted.
func (s *share) hold(n int) error {
	if s == nil {
		return nil
	}
	s.held += int64(n)
	if n >= 0 && s.held <= s.taken+shareFree || n < 0 && s.taken == 0 {
		return nil
	}
	return s.settle(n)
}

// settle takes from the account what hold needs, or gives back what is not held any more.
func (s *share) settle(n int) error {
	want := max(s.held-shareFree+shareStep-1, 0) / shareStep * shareStep
	switch {
	case want > s.taken && !s.memory.take(want-s.taken):
		s.held -= int64(n)
		return s.memory.refusal(n)
	case want < s.taken:
		s.memory.used.Add(want - s.taken)
	}
	s.taken = want
	return nil
}

// release gives everything back.
func (s *share) release() {
	s.held = 0
	_ = s.settle(0) // gives back, which cannot fail
}

func (m *Memory) refusal(n int) *Error {
	return Errorf(CodeOutOfMemory, "out of memory").
		WithDetail("All sessions together may hold %d MB (max_total_backend_memory); another %d bytes would be more.", m.limit()>>20, n).
		WithHint("Send, sort or write less at a time; sorting by key needs no memory. If there is more memory, raise max_total_backend_memory.")
}

// Hold counts n more bytes that a statement, cursor or transaction holds, or less if n is negative. The error is a
// 53200, and then nothing more is counted. It is for the connection's goroutine.
func (c *Conn) Hold(n int) error { return c.share.hold(n) }
