package faults

import (
	"net"
	"os"
	"sync"
	"time"
)

// laneRoom is how many bytes are on their way in one direction of a connection, at most: what the
// kernel's buffers hold.
const laneRoom = 256 << 10

// A lane is one way of a connection: what is put in at one end comes out at the other, in order, when the
// weather lets it. One goroutine puts and one takes at a time.
type lane struct {
	table *Table
	link  link
	way   Direction

	mu      sync.Mutex
	queue   []parcel
	queued  int           // bytes in queue
	last    error         // comes out once the queue is empty; nothing is put in any more
	changed chan struct{} // closed when any of the above has changed

	ready time.Time // nothing more before that, by the limit; owned by who takes
	hit   *entry    // counted already for what is being held back; owned by who takes
}

// A parcel is a part of what was put in.
type parcel struct {
	due time.Time
	b   []byte
}

func newLane(t *Table, l link, way Direction) *lane {
	return &lane{table: t, link: l, way: way, changed: make(chan struct{})}
}

// A patience says when to stop waiting.
type patience struct {
	until *deadline       // nil: never
	shut  <-chan struct{} // closed with the connection; nil: never
}

// wait returns nil when one of two things has happened or time is over, and an error if patience is.
func (p patience) wait(one, other <-chan struct{}, d time.Duration) error {
	var expired <-chan struct{}
	if p.until != nil {
		expired = p.until.passed()
	}
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-one:
	case <-other:
	case <-over:
	case <-expired:
		return os.ErrDeadlineExceeded
	case <-p.shut:
		return net.ErrClosed
	}
	return nil
}

// lost returns the error of a patience that has ended already.
func (p patience) lost() error {
	select {
	case <-p.shut:
		return net.ErrClosed
	default:
	}
	if p.until == nil {
		return nil
	}
	select {
	case <-p.until.passed():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// put takes a copy of b, as there is room. It returns how much it took.
func (l *lane) put(b []byte, p patience) (n int, err error) {
	for n < len(b) {
		if err := p.lost(); err != nil {
			return n, err
		}
		delay := l.table.weather(l.link, l.way).delay
		l.mu.Lock()
		last, changed := l.last, l.changed
		part := b[n:min(len(b), n+laneRoom-l.queued)]
		if last == nil && len(part) > 0 {
			l.queue = append(l.queue, parcel{time.Now().Add(delay), append([]byte(nil), part...)})
			l.queued += len(part)
			n += len(part)
			l.signal()
		}
		l.mu.Unlock()
		switch {
		case last != nil:
			return n, last
		case len(part) > 0:
			continue
		}
		if err := p.wait(changed, nil, 0); err != nil {
			return n, err
		}
	}
	return n, nil
}

// end lets nothing more be put in: after what is in, err comes out. The first end is the last.
func (l *lane) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = err
		l.signal()
	}
}

// signal has those who wait look again. l.mu is held.
func (l *lane) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// take fills a part of b with what has arrived, and waits for that.
func (l *lane) take(b []byte, p patience) (int, error) {
	for {
		if err := p.lost(); err != nil {
			return 0, err
		}
		w := l.weather()
		l.mu.Lock()
		changed := l.changed
		empty, last := len(l.queue) == 0, l.last
		var due time.Time
		if !empty {
			due = l.queue[0].due
		}
		l.mu.Unlock()
		var pause time.Duration
		switch {
		case empty && last == nil:
		case w.cut != nil:
			l.count(w.cut)
		case empty:
			return 0, last
		default:
			if pause = time.Until(later(due, l.ready)); pause <= 0 {
				return l.deliver(b, w), nil
			}
		}
		if err := p.wait(changed, w.changed, pause); err != nil {
			return 0, err
		}
	}
}

// unconfirmed is for how long TCP goes on sending while nobody confirms it: after that it only repeats
// (RFC 6298; Linux's least retransmission timeout).
const unconfirmed = 200 * time.Millisecond

// weather is what holds for what is taken now. Where one way is cut, TCP stops on the other, too.
func (l *lane) weather() weather {
	w := l.table.weather(l.link, l.way)
	if w.cut == nil {
		if back := l.table.weather(l.link, l.way.opposite()); back.cut != nil && time.Since(back.cut.since) >= unconfirmed {
			w.cut = back.cut
		}
	}
	return w
}

// count notes that a fault holds something back, once for each time.
func (l *lane) count(e *entry) {
	if l.hit != e {
		l.hit = e
		e.hits.Add(1)
	}
}

// deliver hands out of the first parcel what fits into b, and no more than a tenth of a second's worth under a limit.
func (l *lane) deliver(b []byte, w weather) int {
	l.hit = nil
	if w.delayed != nil {
		w.delayed.hits.Add(1)
	}
	if w.rate > 0 {
		b = b[:min(int64(len(b)), max(w.rate/10, 1))]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	first := &l.queue[0]
	n := copy(b, first.b)
	if first.b = first.b[n:]; len(first.b) == 0 {
		l.queue = l.queue[1:]
	}
	l.queued -= n
	l.signal()
	if w.rate > 0 {
		w.limited.hits.Add(1)
		l.ready = time.Now().Add(time.Duration(float64(n) / float64(w.rate) * float64(time.Second)))
	}
	return n
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
