package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Ledger remembers what became of every commit: acknowledged, unknown (it may or may not have
// happened) or refused (it did not). It is safe for concurrent use.
//
// A key is written by one writer, in order, with growing values. After an unknown outcome it is
// never written again: the commit may still happen later, and a later one would hide it. So the
// value of a key must be the last acknowledged one, or the unknown one that came after it.
type Ledger struct {
	mu        sync.Mutex
	keys      map[string]entry
	totals    Totals
	latencies []time.Duration // of acknowledged commits, since the last Recent
	first     chan struct{}   // closed at the first acknowledgement
}

// An entry is the fate of a key. Values are positive; 0 stands for none.
type entry struct {
	acknowledged int64 // the last value acknowledged
	unknown      int64 // a later one whose commit may have happened
}

// Totals count commits by outcome.
type Totals struct{ Acknowledged, Unknown, Refused int64 }

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{keys: map[string]entry{}, first: make(chan struct{})}
}

// Acknowledged notes that the commit of value to key was acknowledged.
func (l *Ledger) Acknowledged(key string, value int64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key] = entry{acknowledged: value}
	if l.totals.Acknowledged == 0 {
		close(l.first)
	}
	l.totals.Acknowledged++
	l.latencies = append(l.latencies, took)
}

// Unknown notes that nobody knows whether value was committed to key. The key must not be written
// again.
func (l *Ledger) Unknown(key string, value int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[key] = entry{acknowledged: l.keys[key].acknowledged, unknown: value}
	l.totals.Unknown++
}

// Refused notes a commit that did not happen.
func (l *Ledger) Refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.totals.Refused++
}

// Totals returns the counts so far.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals
}

// Recent returns how long the commits took that were acknowledged since it was last called, sorted.
func (l *Ledger) Recent() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := l.latencies
	l.latencies = nil
	slices.Sort(recent)
	return recent
}

func (l *Ledger) waitFirst(ctx context.Context) error {
	select {
	case <-l.first:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A Loss is an acknowledged value that is not there.
type Loss struct {
	Key          string
	Acknowledged int64
	Found        string // "" if there is no row
}

func (l Loss) String() string {
	found := "no row"
	if l.Found != "" {
		found = l.Found
	}
	return fmt.Sprintf("%s: %d was acknowledged, found %s", l.Key, l.Acknowledged, found)
}

// Check compares rows, all of a node, with what was acknowledged. It returns how many keys had an
// acknowledged value and which of them have lost it, in order.
func (l *Ledger) Check(rows map[string]string) (checked int, lost []Loss) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.keys {
		if e.acknowledged == 0 {
			continue
		}
		checked++
		found := rows[key]
		if found != fmt.Sprint(e.acknowledged) && (e.unknown == 0 || found != fmt.Sprint(e.unknown)) {
			lost = append(lost, Loss{Key: key, Acknowledged: e.acknowledged, Found: found})
		}
	}
	slices.SortFunc(lost, func(a, b Loss) int { return int(a.Acknowledged - b.Acknowledged) })
	return checked, lost
}
