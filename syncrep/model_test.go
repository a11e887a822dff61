package syncrep

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/longship-db/longship/wal"
)

// model is a group as its documentation tells it: nothing cached, everything judged anew by Evaluate
// after each step. It does not wait; it says what may be released.
type model struct {
	rules    []Resolved
	flushed  wal.LSN
	hold     wal.LSN
	streams  []*Standby
	released [numLevels]wal.LSN
	held     wal.LSN
}

func (m *model) judge() {
	var standbys []Standby
	for _, s := range m.streams {
		standbys = append(standbys, *s)
	}
	_, met := Evaluate(Rule{}, m.rules, standbys)
	on := min(m.flushed, met.Flush)
	m.held = max(m.held, on)
	if on < m.hold {
		return
	}
	m.hold = 0
	for level, at := range map[Level]wal.LSN{
		Local: m.flushed, RemoteWrite: max(on, min(m.flushed, met.Write)), On: on, RemoteApply: min(on, met.Apply),
	} {
		m.released[level] = max(m.released[level], at)
	}
}

// A pair is a group and its model, to which the same things happen.
type pair struct {
	group   *Group
	model   *model
	held    *wal.Position
	handles map[*Standby]*Handle
	gone    []*Handle
}

func lsn(t *rapid.T, what string) wal.LSN { return wal.LSN(rapid.IntRange(0, 12).Draw(t, what)) }

func (p *pair) pick(t *rapid.T) (*Standby, *Handle) {
	if len(p.model.streams) == 0 {
		t.Skip("no stream")
	}
	s := rapid.SampledFrom(p.model.streams).Draw(t, "stream")
	return s, p.handles[s]
}

func (p *pair) setRules(t *rapid.T) {
	var rules []Resolved
	for _, text := range rapid.SliceOfN(rapid.SampledFrom([]string{
		"0 of", "1 of a", "2 of b a r:r", "1 of a b c", "2 of a b c", "1 of a~2 b", "1 of r:r", "3 of a b c",
		"2 in 2 zones of a@x b@x c@y", "1 in 1 zones of a@x b@x", "2 in 2 zones of a@x b r:r",
	}), 1, 2).Draw(t, "rules") {
		rules = append(rules, resolved(text))
	}
	p.held = p.group.SetRules(Rule{}, rules...)
	p.model.rules, p.model.held = rules, 0
}

func (p *pair) join(t *rapid.T) {
	text := rapid.SampledFrom([]string{"a", "A~1", "a~2", "b", "c", "r", "a:r"}).Draw(t, "name")
	s := &Standby{Name: text}
	switch text {
	case "r":
	case "a:r":
		s.Name = "a"
	case "A~1": // the same disk under another name
		s.Name = "A"
		_, s.ID = disk("a")
	default:
		s.Name, s.ID = disk(text)
	}
	for _, old := range p.model.streams {
		old.Superseded = old.Superseded || old.ID == s.ID && s.ID != ID{}
	}
	p.model.streams = append(p.model.streams, s)
	p.handles[s] = p.group.Join(s.Name, s.ID)
	if rapid.Bool().Draw(t, "streams") {
		s.State = Streaming
		p.handles[s].SetState(Streaming)
	}
}

func (p *pair) report(t *rapid.T) {
	s, h := p.pick(t)
	w, f, a := lsn(t, "write"), lsn(t, "flush"), lsn(t, "apply")
	h.Report(w, f, a)
	s.Write, s.Flush, s.Apply = max(s.Write, w), max(s.Flush, f), max(s.Apply, a)
}

func (p *pair) leave(t *rapid.T) {
	s, h := p.pick(t)
	h.Leave()
	p.gone = append(p.gone, h)
	p.model.streams = slices.DeleteFunc(p.model.streams, func(o *Standby) bool { return o == s })
}

func (p *pair) reportOfThePast(t *rapid.T) {
	if len(p.gone) == 0 {
		t.Skip("nobody left")
	}
	h := rapid.SampledFrom(p.gone).Draw(t, "gone")
	h.Report(lsn(t, "write"), lsn(t, "flush"), lsn(t, "apply"))
	h.SetState(Streaming)
}

func (p *pair) compare(t *rapid.T) {
	if p.group.released != p.model.released {
		t.Fatalf("released %v, want %v", p.group.released, p.model.released)
	}
	if got := p.group.Horizon().Load(); got != p.model.released[On] {
		t.Fatalf("horizon %s, want %s", got, p.model.released[On])
	}
	if got := p.held.Load(); got != p.model.held {
		t.Fatalf("held %s, want %s", got, p.model.held)
	}
}

// A group, whatever happens to it in whatever order, releases and shows exactly what the model says.
func TestGroupAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pair{group: NewGroup(), model: &model{}, handles: map[*Standby]*Handle{}}
		steps := map[string]func(*rapid.T){
			"rules": p.setRules, "join": p.join, "leave": p.leave,
			"report": p.report, "report again": p.report, "report of the past": p.reportOfThePast,
			"flush": func(t *rapid.T) {
				l := lsn(t, "flush")
				p.group.LocalFlush(l)
				p.model.flushed = max(p.model.flushed, l)
			},
			"hold": func(t *rapid.T) {
				p.model.hold = lsn(t, "hold") / 3
				p.group.Hold(p.model.hold)
			},
			"state": func(t *rapid.T) {
				s, h := p.pick(t)
				s.State = rapid.SampledFrom([]State{Startup, Catchup, Streaming, Streaming, Stopping}).Draw(t, "state")
				h.SetState(s.State)
			},
		}
		for name, step := range steps {
			steps[name] = func(t *rapid.T) {
				step(t)
				p.model.judge()
			}
		}
		steps[""] = p.compare
		p.setRules(t)
		t.Repeat(steps)
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
