package syncrep

import (
	"fmt"
	"math"

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
	Async     SyncState = iota // not waited for, or reports no flush
	Potential                  // the rule's text has it: it may be listed yet, or is and does not count now
	Sync                       // listed, under FIRST: all of them are waited for
	Quorum                     // listed, under ANY: enough of them are waited for
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
	Name string // application_name
	ID   ID     // of the member; zero: a receiver
	// Superseded: the member has a newer stream. Acknowledgements of one disk must not count twice.
	Superseded bool
	State      State
	Write      wal.LSN // reported positions, the next byte each; 0 = never reported
	Flush      wal.LSN
	Apply      wal.LSN
}

// A Status is how the rule sees one stream, as pg_stat_replication shows it.
type Status struct {
	Priority int // sync_priority: see [Rule.Matches]
	State    SyncState
}

// Unbounded is the position of a rule that waits for nobody.
const Unbounded = wal.LSN(math.MaxUint64)

// Released is how far enough standbys have come: what the rules say, without the primary's own flush.
// Without OK some rule lists more to wait for than there are, and nothing is released. Witnesses never
// apply: Apply is how far so many have applied as a rule waits for, or, if it lists fewer that keep a
// table, all of those.
type Released struct {
	Write, Flush, Apply wal.LSN
	OK                  bool
}

// Evaluate judges standbys by the rules in force, all of which must be met: two while a rule changes.
// Without any, nothing is. The statuses are in the order of the standbys; view is the text that they
// are shown for. Compare the PostgreSQL 15 manual, "Multiple Synchronous Standbys", and
// SyncRepGetSyncRecPtr in syncrep.c.
func Evaluate(view Rule, rules []Resolved, standbys []Standby) ([]Status, Released) {
	chosen := Quorum
	if view.Method == First {
		chosen = Sync
	}
	statuses := make([]Status, len(standbys))
	e := newEvaluation(rules)
	e.begin()
	for i, s := range standbys {
		if s.Flush == 0 || s.Superseded {
			continue
		}
		statuses[i].Priority = view.Matches(s.Name, !s.ID.IsZero())
		places := find(rules, s.Name, s.ID)
		switch {
		case places.listed() && counts(s.State, s.Flush, s.Superseded):
			statuses[i].State = chosen
			e.add(places, s.positions())
		case places.listed() || statuses[i].Priority > 0:
			statuses[i].State = Potential
		}
	}
	return statuses, e.end()
}

// counts reports whether a stream may count, wherever the rules have it. A flush position of zero means
// that the client does not report it, not that it has flushed nothing.
func counts(state State, flush wal.LSN, superseded bool) bool {
	return (state == Streaming || state == Stopping) && flush != 0 && !superseded
}

func (s *Standby) positions() positions { return positions{s.Write, s.Flush, s.Apply} }

// positions are a standby's write, flush and apply position.
type positions [3]wal.LSN

const flush = 1 // index of the flush position

// places are where each of the rules lists a standby: an index, or -1.
type places []int

func find(rules []Resolved, name string, id ID) places {
	p := make(places, len(rules))
	for i, r := range rules {
		p[i] = r.entry(name, id)
	}
	return p
}

// listed reports whether any of the rules lists it.
func (p places) listed() bool {
	for _, place := range p {
		if place >= 0 {
			return true
		}
	}
	return false
}

// An evaluation is one pass over the standbys under fixed rules. It is kept for the next pass to spare
// the allocations: begin, add each standby that counts, end.
type evaluation []tally // by rule

func newEvaluation(rules []Resolved) evaluation {
	e := make(evaluation, len(rules))
	for i, r := range rules {
		e[i] = newTally(r)
	}
	return e
}

func (e evaluation) begin() {
	for i := range e {
		clear(e[i].at)
	}
}

func (e evaluation) add(p places, at positions) {
	for i, place := range p {
		if place >= 0 {
			e[i].add(place, at)
		}
	}
}

// end returns the position under all of the rules.
func (e evaluation) end() Released {
	if len(e) == 0 {
		return Released{}
	}
	least := e[0].end()
	for i := range e[1:] {
		least = least.min(e[1+i].end())
	}
	return least
}

func (r Released) min(o Released) Released {
	return Released{
		Write: min(r.Write, o.Write),
		Flush: min(r.Flush, o.Flush),
		Apply: min(r.Apply, o.Apply),
		OK:    r.OK && o.OK,
	}
}

// A tally is the part of one rule. Each that is listed counts once, or a seal of the others could miss
// what was acknowledged.
type tally struct {
	quorum quorum[wal.LSN]
	apply  quorum[wal.LSN] // of those that keep a table
	tables []int           // their places
	at     []positions     // by place in the list; zeros: nobody counts for it
}

func newTally(r Resolved) tally {
	applying, places := r.applying()
	return tally{
		quorum: newQuorum[wal.LSN](r), apply: newQuorum[wal.LSN](applying),
		tables: places, at: make([]positions, len(r.Listed)),
	}
}

// add takes what counts for a place; of a receiver, there may be several of that name.
func (t *tally) add(place int, at positions) {
	for kind, was := range t.at[place] {
		t.at[place][kind] = max(was, at[kind])
	}
}

// end returns the positions that enough of the listed have. Who counts has flushed something: if enough
// count, the flush position is none but zero.
func (t *tally) end() Released {
	if t.quorum.need == 0 {
		return Released{Write: Unbounded, Flush: Unbounded, Apply: Unbounded, OK: true}
	}
	r := Released{Flush: t.reached(flush)}
	if r.Flush == 0 {
		return Released{}
	}
	r.Write, r.Apply, r.OK = t.reached(0), t.applied(), true
	return r
}

// reached is the position, of one kind, that enough of the listed have.
func (t *tally) reached(kind int) wal.LSN {
	for i := range t.at {
		t.quorum.at[i] = t.at[i][kind]
	}
	return t.quorum.reached()
}

// applied is the apply position that enough of those have that apply at all.
func (t *tally) applied() wal.LSN {
	if t.apply.need == 0 {
		return Unbounded
	}
	for i, place := range t.tables {
		t.apply.at[i] = t.at[place][2]
	}
	return t.apply.reached()
}
