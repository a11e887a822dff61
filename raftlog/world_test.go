package raftlog

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// maxDisks is the most members a world has.
const maxDisks = 5

// A journal is the log of one disk: the epochs of its records, four bits each, the first one lowest.
// Two records of one epoch at one place are the same record.
type journal uint32

func (j journal) len() int             { return (bits.Len32(uint32(j)) + 3) / 4 }
func (j journal) prefix(n int) journal { return j & (1<<(4*n) - 1) }
func (j journal) has(p journal) bool   { return j.prefix(p.len()) == p }

func (j journal) add(epoch uint64) journal { return j | journal(epoch)<<(4*j.len()) }

// position is where the journal ends. Its LSN is the number of records.
func (j journal) position() Position {
	n := j.len()
	if n == 0 {
		return Position{}
	}
	return Position{Epoch: uint64(j>>(4*(n-1))) & 15, LSN: wal.LSN(n)}
}

// unjudged is the log of nobody.
const unjudged = ^journal(0)

// shared is as much of the journal as another one has too.
func (j journal) shared(o journal) journal {
	return j.prefix(min(j.len(), o.len(), bits.TrailingZeros32(uint32(j^o))/4))
}

// A world is a cluster at a moment: what Raft holds, what is on the disks, and what must not be lost.
type world struct {
	state *State
	disks [maxDisks]journal // flushed; of member i+1
	zones string            // a letter for each member: the zone it is in; "" if there are none
	wiped int8              // the disk that was replaced by an empty one, of incarnation 2; -1 if none was
	acked journal           // the longest log that was acknowledged
}

// id is the identity that disk i has now.
func (w *world) id(i int) syncrep.ID {
	if i == int(w.wiped) {
		return syncrep.ID{Node: uint64(i + 1), Incarnation: 2}
	}
	return diskID(i)
}

// zoneIn is where disk i is.
func zoneIn(zones string, i int) string {
	if zones == "" {
		return ""
	}
	return zones[i : i+1]
}

// diskID is the identity that disk i had in the beginning.
func diskID(i int) syncrep.ID { return syncrep.ID{Node: uint64(i + 1), Incarnation: 1} }

func diskName(i int) string { return string(rune('A' + i)) }

// String prints the world, for a test that failed.
func (w *world) String() string {
	var b strings.Builder
	s := w.state
	fmt.Fprintf(&b, "%s epoch %d of %s, steady %d of %s, rule %s", s.Phase, s.Epoch, s.Primary.Name,
		s.SteadyEpoch, diskName(int(s.SteadyPrimary.Node-1)), resolvedText(s.Rule.Resolved))
	if s.Joint != nil {
		fmt.Fprintf(&b, " + %s", resolvedText(s.Joint.Resolved))
	}
	if s.Opening != nil {
		fmt.Fprintf(&b, ", opening under %s", resolvedText(s.Opening.Resolved))
	}
	for i, j := range w.disks {
		fmt.Fprintf(&b, "; %s [%x]", diskName(i), uint32(j))
	}
	fmt.Fprintf(&b, "; wiped %d; acknowledged [%x]", w.wiped, uint32(w.acked))
	return b.String()
}

// A key is the same for worlds that differ in the names of their members alone.
type key struct {
	disks [maxDisks]uint64
	rules [3]int16 // how many each rule waits for, in how many zones
	acked journal
	phase Phase
}

// key tells worlds of n members apart as far as anything that still happens can.
func (w *world) key(n int) key {
	s := w.state
	k := key{acked: w.acked, phase: s.Phase, rules: [3]int16{waitsFor(&s.Rule), waitsFor(s.Joint), waitsFor(s.Opening)}}
	for i := range n {
		k.disks[i] = w.trait(i)
	}
	slices.Sort(k.disks[:n])
	return k
}

// trait is all there is to tell of disk i but its name.
func (w *world) trait(i int) uint64 {
	var zone uint64
	if w.zones != "" {
		zone = uint64(w.zones[i])
	}
	return uint64(w.disks[i])<<32 | zone<<24 | uint64(w.state.roles(w.id(i)))<<12 | uint64(w.state.roles(diskID(i)))
}

func waitsFor(r *Rule) int16 {
	if r == nil {
		return -1
	}
	return int16(r.Zones<<8 | r.K<<4 | len(r.Listed))
}

// roles is what Raft holds of a disk, a bit for each thing, up to 12.
func (s *State) roles(id syncrep.ID) (roles uint16) {
	m, member := s.Member(id)
	for i, is := range [...]bool{
		member, m.Counted, m.Leaving, m.Witness, id == s.Primary.ID, id == s.SteadyPrimary,
		s.Rule.Lists(id), s.Joint != nil && s.Joint.Lists(id), s.Opening != nil && s.Opening.Lists(id),
	} {
		if is {
			roles |= 1 << i
		}
	}
	return roles
}

// released is how much of the primary's journal its rules let go: the longest prefix that it has
// flushed itself and that as many of the listed disks have as each rule wants, in as many zones. A
// receiver that a rule lists has everything at once: that is the worst case, since it cannot be sealed.
func (w *world) released(primary int, log journal, rules []syncrep.Resolved) journal {
	for n := w.disks[primary].len(); n > 0; n-- {
		if p := log.prefix(n); w.held(p, rules) {
			return p
		}
	}
	return 0
}

func (w *world) held(p journal, rules []syncrep.Resolved) bool {
	for _, r := range rules {
		have, zones := 0, make(map[string]bool, 4)
		for _, l := range r.Listed {
			i := int(l.ID.Node) - 1
			if i < 0 || w.id(i) == l.ID && w.disks[i].has(p) {
				have++
				if r.Zones > 0 {
					zones[l.Zone] = true
				}
			}
		}
		if have < r.K || len(zones) < r.Zones {
			return false
		}
	}
	return true
}
