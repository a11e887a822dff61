package syncrep

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

// model is a group as its documentation tells it: nothing cached, every question answered by
// Evaluate. It does not wait; it says what may be released.
type model struct {
	rule     Rule
	members  int
	flushed  wal.LSN
	hold     wal.LSN
	streams  []*Standby // by slot; nil = free
	met      Released
	takeover bool
	released [numLevels]wal.LSN
}

func (m *model) evaluate() Released {
	var standbys []Standby
	for _, s := range m.streams {
		if s != nil {
			standbys = append(standbys, *s)
		}
	}
	_, released := Evaluate(m.rule, m.members, standbys)
	return released
}

func (m *model) candidate(s *Standby) bool {
	return m.rule.priority(s.Name, s.Member) > 0 && s.counts()
}

// met anew, and all it releases.
func (m *model) judge() {
	m.met, m.takeover = m.evaluate(), false
	m.release()
}

// met, at most what it was.
func (m *model) stopsCounting() {
	now := m.evaluate()
	m.met.Write, m.met.Flush = min(m.met.Write, now.Write), min(m.met.Flush, now.Flush)
	m.met.Apply, m.takeover = min(m.met.Apply, now.Apply), true
}

func (m *model) release() {
	on := min(m.flushed, m.met.Flush)
	if on < m.hold {
		return
	}
	m.hold = 0
	for level, at := range map[Level]wal.LSN{
		Local: m.flushed, RemoteWrite: max(on, min(m.flushed, m.met.Write)), On: on, RemoteApply: min(on, m.met.Apply),
	} {
		m.released[level] = max(m.released[level], at)
	}
}

// A group, whatever happens to it in whatever order, releases and shows exactly what the model says.
func TestGroupAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, m := NewGroup(), &model{}
		handles := map[*Standby]*Handle{}
		var gone []*Handle
		lsn := func(what string) wal.LSN { return wal.LSN(rapid.IntRange(0, 12).Draw(t, what)) }
		pick := func() (*Standby, *Handle) {
			var all []*Standby
			for _, s := range m.streams {
				if s != nil {
					all = append(all, s)
				}
			}
			if len(all) == 0 {
				t.Skip("no stream")
			}
			s := rapid.SampledFrom(all).Draw(t, "stream")
			return s, handles[s]
		}
		setRule := func(t *rapid.T) {
			text := rapid.SampledFrom([]string{
				"", "a", "FIRST 2 (b, a, r)", "ANY 1 (*)", "ANY 2 (a, b, r)", "ANY MAJORITY (*)", "FIRST 1 (*)",
			}).Draw(t, "rule")
			m.rule, _ = ParseRule(text)
			m.members = rapid.IntRange(1, 5).Draw(t, "members")
			g.SetRule(m.rule, m.members)
			m.judge()
		}
		report := func() {
			s, h := pick()
			w, f, a := lsn("write"), lsn("flush"), lsn("apply")
			h.Report(w, f, a)
			moved := w > s.Write || f > s.Flush || a > s.Apply
			s.Write, s.Flush, s.Apply = max(s.Write, w), max(s.Flush, f), max(s.Apply, a)
			if (moved || m.takeover) && m.candidate(s) {
				m.judge()
			}
		}
		setRule(t)
		t.Repeat(map[string]func(*rapid.T){
			"rule": setRule,
			"flush": func(t *rapid.T) {
				l := lsn("flush")
				g.LocalFlush(l)
				if l > m.flushed {
					m.flushed = l
					m.release()
				}
			},
			"hold": func(t *rapid.T) {
				m.hold = lsn("hold") / 3
				g.Hold(m.hold)
				m.release()
			},
			"join": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b", "c", "r"}).Draw(t, "name")
				s := &Standby{Name: name, Member: name != "r"}
				for s.Slot < len(m.streams) && m.streams[s.Slot] != nil {
					s.Slot++
				}
				if s.Slot == len(m.streams) {
					m.streams = append(m.streams, nil)
				}
				for _, old := range m.streams {
					if old != nil && s.Member && old.Name == name && !old.Superseded {
						old.Superseded = true
						m.stopsCounting()
					}
				}
				m.streams[s.Slot] = s
				handles[s] = g.Join(name, s.Member)
				if rapid.Bool().Draw(t, "streams") {
					s.State = Streaming
					handles[s].SetState(Streaming)
				}
			},
			"state": func(t *rapid.T) {
				s, h := pick()
				before := m.candidate(s)
				s.State = rapid.SampledFrom([]State{Startup, Catchup, Streaming, Streaming, Stopping}).Draw(t, "state")
				h.SetState(s.State)
				if after := m.candidate(s); after && !before {
					m.judge()
				} else if before && !after {
					m.stopsCounting()
				}
			},
			"report":       func(t *rapid.T) { report() },
			"report again": func(t *rapid.T) { report() },
			"report of the past": func(t *rapid.T) {
				if len(gone) == 0 {
					t.Skip("nobody left")
				}
				rapid.SampledFrom(gone).Draw(t, "gone").Report(lsn("write"), lsn("flush"), lsn("apply"))
			},
			"leave": func(t *rapid.T) {
				s, h := pick()
				h.Leave()
				gone = append(gone, h)
				m.streams[s.Slot] = nil
				if m.candidate(s) {
					m.stopsCounting()
				}
			},
			"": func(t *rapid.T) {
				if g.released != m.released {
					t.Fatalf("released %v, want %v", g.released, m.released)
				}
				if got := g.Horizon().Load(); got != m.released[On] {
					t.Fatalf("horizon %s, want %s", got, m.released[On])
				}
			},
		})
	})
}

// Waiters leave a queue in LSN order, whatever order they came in and whoever went before.
func TestQueueKeepsLSNOrder(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var q queue
		var in []*waiter
		for range 1 + rng.IntN(20) {
			w := &waiter{lsn: wal.LSN(rng.IntN(10)), done: make(chan struct{}, 1)}
			q.insert(w)
			if in = append(in, w); rng.IntN(3) == 0 {
				i := rng.IntN(len(in))
				q.remove(in[i])
				in = append(in[:i], in[i+1:]...)
			}
		}
		upTo := wal.LSN(rng.IntN(11))
		forward, backward := 0, 0
		for w := q.first; w != nil; w = w.next {
			if forward++; w.next != nil && w.lsn > w.next.lsn {
				t.Fatalf("seed %d: %s before %s", seed, w.lsn, w.next.lsn)
			}
		}
		for w := q.last; w != nil; w = w.prev {
			backward++
		}
		if forward != len(in) || backward != len(in) {
			t.Fatalf("seed %d: %d forward, %d backward, want %d", seed, forward, backward, len(in))
		}
		q.release(upTo)
		for _, w := range in {
			if woken := len(w.done) == 1; woken != (w.lsn <= upTo) || woken == w.queued {
				t.Fatalf("seed %d: release(%s): waiter for %s: woken %v, queued %v", seed, upTo, w.lsn, woken, w.queued)
			}
		}
	}
}
