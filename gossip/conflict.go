package gossip

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// A conflict is two processes that pass for one, as long as it is seen again and again.
type conflict struct {
	first, last time.Time // seen
	told        bool
}

// NotifyConflict implements memberlist.ConflictDelegate: one disk speaks from two addresses. While
// the first of them may just be dying, that is nothing to talk about.
func (r *roster) NotifyConflict(existing, other *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := []string{address(existing).String(), address(other).String()}
	slices.Sort(addrs)
	r.seeLocked(fmt.Sprintf("two processes run as %s with one and the same data, at %s and %s: was the data directory copied? stop one of them",
		nodeName(existing.Name), addrs[0], addrs[1]))
}

// seeLocked notes that a conflict is there now.
func (r *roster) seeLocked(text string) {
	now := time.Now()
	c := r.conflicts[text]
	if c == nil {
		c = &conflict{first: now}
		r.conflicts[text] = c
	}
	c.last = now
}

// lasting returns the conflicts that have lasted and were not told yet, and forgets those that are over.
func (r *roster) lasting() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeNamesakesLocked()
	var texts []string
	for text, c := range r.conflicts {
		switch {
		case time.Since(c.last) > 2*r.timing.conflict:
			delete(r.conflicts, text)
		case !c.told && c.last.Sub(c.first) >= r.timing.conflict:
			c.told = true
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return texts
}

// seeNamesakesLocked notes the living that share a name but not a disk.
func (r *roster) seeNamesakesLocked() {
	disks := map[string][]string{nodeName(r.self): {r.self}} // process names by node name
	for process, h := range r.heard {
		if h.Alive {
			disks[h.Name] = append(disks[h.Name], process)
		}
	}
	for name, processes := range disks {
		slices.Sort(processes)
		for i := 1; i < len(processes); i++ {
			r.seeLocked(fmt.Sprintf("two nodes are called %s (%s and %s): names are unique, stop one of them",
				name, processes[i-1], processes[i]))
		}
	}
}
