package syncrep

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/longship-db/longship/wal"
)

// A State is what a stream is doing: pg_stat_replication.state.
type State uint8

// The states. Only a stream that is Streaming, or Stopping after it was, counts under a rule.
const (
	Startup   State = iota // connected, or between two commands
	Catchup                // streaming, and behind
	Streaming              // caught up once; never Catchup again
	Backup                 // sending a base backup
	Stopping               // sending what is left before the server ends
)

var stateNames = [...]string{"startup", "catchup", "streaming", "backup", "stopping"}

// String returns the name that pg_stat_replication shows.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// A SyncState is what a standby means to the rule: pg_stat_replication.sync_state.
type SyncState uint8

// The sync states.
const (
	Async     SyncState = iota // not in the rule, or reports no flush
	Potential                  // next in line
	Sync                       // one of those FIRST waits for
	Quorum                     // one of those ANY waits for enough of
)

var syncStateNames = [...]string{"async", "potential", "sync", "quorum"}

// String returns the name that pg_stat_replication shows.
func (s SyncState) String() string {
	if int(s) >= len(syncStateNames) {
		return fmt.Sprintf("SyncState(%d)", uint8(s))
	}
	return syncStateNames[s]
}

// A Standby is what the primary knows of one stream: a plain value.
type Standby struct {
	Slot   int    // place in the array of streams; the first free one at connect time
	Name   string // application_name
	Member bool   // of the cluster; a receiver otherwise
	// Superseded: the member has a newer stream. Acknowledgements of one disk must not count twice.
	Superseded bool
	State      State
	Write      wal.LSN // reported positions, the next byte each; 0 = never reported
	Flush      wal.LSN
	Apply      wal.LSN
}

// A Status is how the rule sees one stream, as pg_stat_replication shows it.
type Status struct {
	Priority int // sync_priority: place in the list, 1 for all under ANY, 0 if not waited for
	State    SyncState
}

// Unbounded is the position of a rule that waits for nobody.
const Unbounded = wal.LSN(math.MaxUint64)

// Released is how far enough standbys have come: what the rule says, without the primary's own
// flush. Without OK there are fewer candidates than the rule asks for, and nothing is released.
type Released struct {
	Write, Flush, Apply wal.LSN
	OK                  bool
}

// Evaluate applies a rule to the standbys of a cluster of so many members, the primary included.
// The statuses are in the order of the standbys. See the PostgreSQL 15 manual, "Multiple Synchronous
// Standbys", and SyncRepGetSyncRecPtr in syncrep.c.
func Evaluate(rule Rule, members int, standbys []Standby) ([]Status, Released) {
	statuses := make([]Status, len(standbys))
	var e evaluation
	e.begin(rule, members)
	for i, s := range standbys {
		priority := rule.priority(s.Name, s.Member)
		if priority == 0 || s.Flush == 0 || s.Superseded {
			continue
		}
		statuses[i] = Status{Priority: priority, State: Potential}
		if s.counts() {
			e.add(candidate{index: i, slot: s.Slot, priority: priority, at: s.positions()})
		}
	}
	released := e.end()
	chosen := Quorum
	if rule.Method == First {
		chosen = Sync
	}
	for _, c := range e.chosen {
		statuses[c.index].State = chosen
	}
	return statuses, released
}

// counts reports whether the stream may be a candidate, wherever the rule puts it. A flush position
// of zero means that the client does not report it, not that it has flushed nothing.
func (s *Standby) counts() bool {
	return (s.State == Streaming || s.State == Stopping) && s.Flush != 0 && !s.Superseded
}

func (s *Standby) positions() positions { return positions{s.Write, s.Flush, s.Apply} }

// positions are a standby's write, flush and apply position.
type positions [3]wal.LSN

type candidate struct {
	index, slot, priority int
	at                    positions
}

// An evaluation is one pass over the candidates. It is kept for the next one to spare the
// allocations: begin, add each candidate, end.
type evaluation struct {
	method Method
	need   int
	chosen []candidate // all candidates until end
	sorted []wal.LSN
}

func (e *evaluation) begin(rule Rule, members int) {
	e.method, e.need = rule.Method, rule.need(members)
	e.chosen = e.chosen[:0]
}

func (e *evaluation) add(c candidate) { e.chosen = append(e.chosen, c) }

// end leaves in chosen those the rule waits for, and returns the position they have reached.
func (e *evaluation) end() Released {
	if e.method == First {
		slices.SortFunc(e.chosen, func(a, b candidate) int {
			return cmp.Or(a.priority-b.priority, a.slot-b.slot)
		})
		e.chosen = e.chosen[:min(e.need, len(e.chosen))]
	}
	switch {
	case e.need == 0:
		return Released{Write: Unbounded, Flush: Unbounded, Apply: Unbounded, OK: true}
	case len(e.chosen) < e.need:
		return Released{}
	default:
		return Released{Write: e.reached(0), Flush: e.reached(1), Apply: e.reached(2), OK: true}
	}
}

// reached is the position, of one kind, that enough of the chosen have: the need-th largest. Of the
// need that FIRST chose this is the smallest.
func (e *evaluation) reached(kind int) wal.LSN {
	e.sorted = e.sorted[:0]
	for _, c := range e.chosen {
		e.sorted = append(e.sorted, c.at[kind])
	}
	slices.Sort(e.sorted)
	return e.sorted[len(e.sorted)-e.need]
}
