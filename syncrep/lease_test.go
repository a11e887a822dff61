package syncrep

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/longship-db/longship/internal/slow"
)

// others are the members beside the primary, and sets of them bit sets.
var others = []Listed{member("a"), member("b"), member("c"), member("d")}

func member(name string) Listed {
	_, id := disk(name)
	return Listed{ID: id, Name: name}
}

// A cut is a rule as sets see it: k of the members listed and of so many receivers, in so many zones.
type cut struct {
	listed       uint
	receivers, k int
	zones        int
	in           string // a letter for the zone of each member; receivers are in zone ""
}

func (c cut) resolved() Resolved {
	r := Resolved{K: c.k, Zones: c.zones}
	for i, o := range others {
		if c.listed&(1<<i) != 0 {
			if c.zones > 0 {
				o.Zone = c.in[i : i+1]
			}
			r.Listed = append(r.Listed, o)
		}
	}
	for range c.receivers {
		r.Listed = append(r.Listed, Listed{Name: "vault"})
	}
	return r
}

// sealed reports whether a failover may go by these (I4): N-k+1 of the names, or so many that the others
// are in too few zones. A receiver counts in N, and is never among them.
func (c cut) sealed(set uint) bool {
	if c.k > 0 && c.zones > 0 {
		outside := map[byte]bool{}
		for i := range others {
			if c.listed&^set&(1<<i) != 0 {
				outside[c.in[i]] = true
			}
		}
		if c.receivers > 0 {
			outside[0] = true
		}
		if len(outside) < c.zones {
			return true
		}
	}
	return ones(set&c.listed) >= ones(c.listed)+c.receivers-c.k+1
}

func ones(set uint) (n int) {
	for ; set != 0; set &= set - 1 {
		n++
	}
	return n
}

// cuts is all rules of n members and so many receivers. With few members some zones look alike: once is enough.
func cuts(n, maxReceivers int) (all []cut) {
	var zones []string
	for _, in := range []string{"aabb", "aabc", "abac", "abcd"} {
		if !slices.Contains(zones, in[:n]) {
			zones = append(zones, in[:n])
		}
	}
	for listed := range uint(1) << n {
		for receivers := range maxReceivers + 1 {
			for k := range ones(listed) + receivers + 1 {
				all = append(all, cut{listed: listed, receivers: receivers, k: k})
				for least := 1; least <= k; least++ {
					for _, in := range zones {
						all = append(all, cut{listed, receivers, k, least, in})
					}
				}
			}
		}
	}
	return all
}

// lessee is the primary of a cluster with n others.
func lessee(n int) *Group {
	g := NewGroup()
	primary := ID{Node: 1, Incarnation: 1}
	counted := []ID{primary}
	for _, o := range others[:n] {
		counted = append(counted, o.ID)
	}
	g.SetMembers(counted, primary)
	return g
}

// leased reports whether the primary has a lease by promises of a set.
func leased(g *Group, promised uint) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.lease.promises)
	for i, o := range others {
		if promised&(1<<i) != 0 {
			g.lease.promises[o.ID] = time.Hour
		}
	}
	g.renewLease()
	return g.lease.left() > 0
}

// Whoever is asked in a failover without the primary, somebody among them has promised: whether they are
// enough by the rule alone, or by the majority of the members alone. All clusters of up to five.
func TestLeaseMeetsEverySeal(t *testing.T) {
	slow.Test(t)
	for n := range len(others) + 1 {
		g := lessee(n)
		for _, rule := range cuts(n, 2) {
			g.SetRules(Rule{}, rule.resolved())
			for promised := range uint(1) << n {
				if !leased(g, promised) {
					continue
				}
				for sealed := range uint(1) << n {
					majority := ones(sealed) > (n+1)/2
					if (rule.sealed(sealed) || majority) && sealed&promised == 0 {
						t.Fatalf("%d others, rule %+v: lease by %04b, yet %04b are enough to seal", n, rule, promised, sealed)
					}
				}
			}
		}
	}
}

// While a rule changes the lease meets the seals under either: a failover may go by the new one alone
// before the primary knows that it does.
func TestLeaseMeetsEverySealOfJointRules(t *testing.T) {
	slow.Test(t)
	n := 3
	g := lessee(n)
	for _, old := range cuts(n, 1) {
		for _, new := range cuts(n, 1) {
			g.SetRules(Rule{}, old.resolved(), new.resolved())
			for promised := range uint(1) << n {
				if !leased(g, promised) {
					continue
				}
				for sealed := range uint(1) << n {
					if (old.sealed(sealed) || new.sealed(sealed)) && sealed&promised == 0 {
						t.Fatalf("rules %+v and %+v: lease by %04b, yet %04b are enough to seal", old, new, promised, sealed)
					}
				}
			}
		}
	}
}

// Somebody sets the clock. No lease gets longer or shorter by that.
func TestLeaseIsMonotonic(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		g, handles := newGroup("1 of a")
		g.SetMembers([]ID{{}, handles[0].id}, ID{})
		sent := time.Now()
		setClock(&g.lease.base, -step) // as if it had been set since
		handles[0].Promise(sent.Add(time.Minute))
		if left := g.lease.left(); left <= 0 || left > time.Minute {
			t.Errorf("clock set by %v: lease of %v left, want a minute", step, left)
		}
		if err := g.WaitLease(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// setClock shifts what t says of the wall clock, and leaves its monotonic reading alone.
func setClock(t *time.Time, by time.Duration) {
	before := *t
	const second = 1 << 30 // in the first word: 1 bit, 33 bits of seconds, 30 bits of nanoseconds
	*(*uint64)(unsafe.Pointer(t)) += uint64(by/time.Second) * second
	if shifted := t.Round(0).Sub(before.Round(0)); shifted != by || t.Sub(before) != 0 {
		panic("time.Time is not what it was")
	}
}

// Readers, and standbys that promise next to nothing when they are asked: who is let through has begun
// before the lease ended.
func TestReadUnderFire(t *testing.T) {
	g, handles := newGroup("1 of a b")
	var counted []ID
	for _, h := range handles {
		counted = append(counted, h.id)
	}
	g.SetMembers(append(counted, ID{1, 1}), ID{1, 1})
	ctx, cancel := context.WithCancel(t.Context())
	var standbys, readers sync.WaitGroup
	for _, h := range handles {
		standbys.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-h.LeaseWanted():
					h.Promise(time.Now().Add(20 * time.Millisecond))
				}
			}
		})
	}
	for range 16 {
		readers.Go(func() {
			for begun := time.Now(); time.Since(begun) < 500*time.Millisecond; {
				invoked := time.Now()
				if err := g.WaitLease(ctx); err != nil {
					t.Error(err)
				}
				if lease := g.Lease(); lease.Before(invoked) {
					t.Errorf("read invoked at %v under a lease until %v", invoked, lease)
				}
			}
		})
	}
	readers.Wait()
	cancel()
	standbys.Wait()
}

// What a receiver promises is nobody's promise.
func TestReceiverPromisesNothing(t *testing.T) {
	g := NewGroup()
	g.Join("vault", ID{}).Promise(time.Now().Add(time.Hour))
	if len(g.lease.promises) != 0 {
		t.Errorf("promises: %v", g.lease.promises)
	}
}

// The usual read costs next to nothing.
func TestLeaseAllocatesNothing(t *testing.T) {
	g, handles := newGroup("1 of a")
	g.SetMembers([]ID{{}, handles[0].id}, ID{})
	handles[0].Promise(time.Now().Add(time.Hour))
	if n := testing.AllocsPerRun(1000, func() { _ = g.WaitLease(t.Context()) }); n >= 1 {
		t.Errorf("WaitLease: %v allocations", n)
	}
}

func BenchmarkWaitLease(b *testing.B) {
	g, handles := newGroup("1 of a")
	g.SetMembers([]ID{{}, handles[0].id}, ID{})
	handles[0].Promise(time.Now().Add(time.Hour))
	ctx := b.Context()
	for b.Loop() {
		_ = g.WaitLease(ctx)
	}
}

func BenchmarkPromise(b *testing.B) {
	g, handles := newGroup("1 of a b")
	g.SetMembers([]ID{{}, handles[0].id, handles[1].id}, ID{})
	at := time.Now()
	for b.Loop() {
		at = at.Add(1)
		handles[0].Promise(at)
	}
}
