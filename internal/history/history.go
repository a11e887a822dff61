// Package history tells whether what clients did and were told can have happened in a strictly serializable
// database: every transaction at one moment between its call and its return, one after the other.
//
// Transactions append numbers, each used once, to lists under keys, and read lists (Kingsbury and Alvaro,
// "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020). What a list reads tells
// the order of all appends to it, and so who must have come before whom:
//
//	ww  one appended right behind the other
//	wr  one read what the other appended last
//	rw  one did not yet see what the other appended
//	rt  one returned before the other was called
//
// A cycle is an anomaly, which has a name by the kinds of its edges (Adya, "Weak Consistency", 1999): see
// [Check]. The package knows of no database: a unit test, a drill and the integration tests feed it.
package history

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// A Kind is what an Op does.
type Kind string

const (
	Append Kind = "append" // Value to the list of Key
	Read   Kind = "read"   // the list of Key, which is List
	Range  Kind = "range"  // all lists of keys in [Key, Hi), which are Lists
)

// An Op is an operation of a transaction, and what it found.
type Op struct {
	Kind  Kind
	Key   string
	Hi    string           // of a Range
	Value int              // of an Append
	List  []int            // of a Read; empty if there was no row
	Lists map[string][]int // of a Range
}

func (o Op) String() string {
	switch o.Kind {
	case Append:
		return fmt.Sprintf("append %s %d", o.Key, o.Value)
	case Read:
		return fmt.Sprintf("read %s %v", o.Key, o.List)
	}
	return fmt.Sprintf("range %s-%s %v", o.Key, o.Hi, o.Lists)
}

// An Outcome is what the client knows of a transaction's end.
type Outcome string

const (
	Unknown   Outcome = "unknown" // perhaps committed, perhaps to be committed yet
	Committed Outcome = "committed"
	Aborted   Outcome = "aborted" // and never to be committed
)

// A Txn is a transaction as its client knows it.
type Txn struct {
	Client  int // whose transactions follow one another
	Ops     []Op
	Outcome Outcome

	// Call and Return are times in any unit, from one clock. Return says nothing if the outcome is unknown.
	Call, Return int64

	// Stale: it may have read an older state than that of its call, as on a standby. Its client must still
	// see what it has seen and done before.
	Stale bool
}

func (t *Txn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d, %d to %d, %s", t.Client, t.Call, t.Return, t.Outcome)
	if t.Stale {
		b.WriteString(", stale")
	}
	for _, o := range t.Ops {
		fmt.Fprintf(&b, "; %s", o)
	}
	return b.String()
}

// A Recorder collects the transactions of clients that run at the same time.
type Recorder struct {
	mu   sync.Mutex
	txns []*Txn
}

// Add notes a transaction that has ended.
func (r *Recorder) Add(t *Txn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.txns = append(r.txns, t)
}

// Txns returns what was collected, in the order of Add.
func (r *Recorder) Txns() []*Txn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.txns
}

// ParseList reads a list as it is stored: numbers with blanks between them, so that to append is to add
// " 7" to the text.
func ParseList(text string) ([]int, error) {
	var list []int
	for _, field := range strings.Fields(text) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list %.100q: %w", text, err)
		}
		list = append(list, n)
	}
	return list, nil
}

// Item is what Append adds to the text of a list.
func (o Op) Item() string { return " " + strconv.Itoa(o.Value) }
