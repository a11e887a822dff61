package raftlog

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// rememberedAnswers is how many answers are remembered. A command that was proposed twice since its
// first outcome was unknown comes again within seconds.
const rememberedAnswers = 256

// An answer is what the state machine said to a proposal, the same on every member.
type answer struct {
	ID   uint64 `json:"id,string"`
	Code string `json:"code,omitempty"` // as EncodeError makes it
	Text string `json:"text,omitempty"`
}

func (a answer) err() error { return DecodeError(a.Code, a.Text) }

// replica is all that a member has of what was agreed on. It is immutable, and it is what a snapshot
// holds, as JSON.
type replica struct {
	Version int      `json:"version"` // of the format
	Applied uint64   `json:"applied"` // index of the last command, refused or not
	State   *State   `json:"state"`
	Answers []answer `json:"answers,omitempty"` // the last ones, oldest first
}

const (
	snapshotVersion = 1
	maxSnapshot     = 256 << 20
)

// step applies a proposal. One that was answered already has no effect, and gets the same answer.
func (r *replica) step(index uint64, p proposal) (*replica, answer) {
	if i := slices.IndexFunc(r.Answers, func(a answer) bool { return a.ID == p.id }); i >= 0 {
		next := *r
		next.Applied = index
		return &next, r.Answers[i]
	}
	next := &replica{Version: snapshotVersion, Applied: index, State: r.State}
	state, err := r.State.Apply(index, p.command)
	if err == nil {
		next.State = state
	}
	a := answer{ID: p.id}
	a.Code, a.Text = EncodeError(err)
	from := max(0, len(r.Answers)+1-rememberedAnswers)
	next.Answers = append(slices.Clone(r.Answers[from:]), a)
	return next, a
}

func (r *replica) hash() [sha256.Size]byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("raftlog: state cannot be encoded: %v", err)) // nothing in it can fail
	}
	return sha256.Sum256(b)
}

// fsm is the state machine as hashicorp/raft calls it, from one goroutine, and the place where others
// wait for what it does.
type fsm struct {
	fatal func(error) // does not return: a member that cannot follow the others must not go on

	mu      sync.Mutex
	started bool  // Raft runs: nobody hears an error that Restore returns
	refused error // the last one before that: hashicorp/raft keeps it to itself
	replica *replica
	changed chan struct{}            // closed when replica.State is replaced
	waiting map[uint64][]chan answer // by proposal, each with room for one
}

func newFSM(fatal func(error)) *fsm {
	return &fsm{
		fatal:   fatal,
		replica: &replica{Version: snapshotVersion, State: &State{}},
		changed: make(chan struct{}),
		waiting: make(map[uint64][]chan answer),
	}
}

// Apply carries out a command that a majority has in its log. What it returns is an answer.
func (f *fsm) Apply(l *raft.Log) any {
	p, err := decodeProposal(l.Data)
	if err != nil {
		f.fatal(fmt.Errorf("entry %d of raft: %w", l.Index, err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next, a := f.replica.step(l.Index, p)
	f.publishLocked(next)
	f.tellLocked(a)
	return a
}

func (f *fsm) publishLocked(next *replica) {
	newer := next.State != f.replica.State
	f.replica = next
	if newer {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// Snapshot returns at once: what it will write does not change any more.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return snapshot{f.replica}, nil
}

type snapshot struct{ replica *replica }

// Persist writes the snapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(s.replica); err != nil {
		sink.Cancel()
		return fmt.Errorf("write Raft snapshot: %w", err)
	}
	return sink.Close()
}

// Release does nothing.
func (s snapshot) Release() {}

// Restore replaces everything by what a snapshot holds, the answers that are waited for too.
func (f *fsm) Restore(source io.ReadCloser) error {
	next, err := readSnapshot(source)
	if err != nil {
		return f.refuse(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publishLocked(next)
	for _, a := range next.Answers {
		f.tellLocked(a)
	}
	return nil
}

// refuse is the end of a member that cannot read a snapshot: at the start whoever starts it is told why.
func (f *fsm) refuse(err error) error {
	f.mu.Lock()
	f.refused = err
	started := f.started
	f.mu.Unlock()
	if started {
		f.fatal(err)
	}
	return err
}

// start is called once Raft runs.
func (f *fsm) start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started = true
}

func readSnapshot(r io.Reader) (*replica, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err != nil {
		return nil, fmt.Errorf("read Raft snapshot: %w", err)
	}
	if len(b) > maxSnapshot {
		return nil, fmt.Errorf("read Raft snapshot: more than %d bytes", maxSnapshot)
	}
	var head struct{ Version int } // first: a later version may have anything else
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("read Raft snapshot: %w", err)
	}
	if head.Version != snapshotVersion {
		return nil, fmt.Errorf("read Raft snapshot: it has version %d of the format, and this program knows %d: %s", head.Version, snapshotVersion, sameVersion)
	}
	var next replica
	if err := decodeStrictly(b, &next); err != nil {
		return nil, fmt.Errorf("read Raft snapshot: %w: %s", err, sameVersion)
	}
	if next.State == nil {
		return nil, errors.New("read Raft snapshot: it holds no state")
	}
	return &next, nil
}

// tellLocked gives an answer to those who wait for it, once.
func (f *fsm) tellLocked(a answer) {
	for _, w := range f.waiting[a.ID] {
		w <- a
	}
	delete(f.waiting, a.ID)
}

// await announces that the answer to a proposal is waited for. Forget ends that.
func (f *fsm) await(id uint64) <-chan answer {
	w := make(chan answer, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting[id] = append(f.waiting[id], w)
	return w
}

func (f *fsm) forget(id uint64, w <-chan answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := slices.DeleteFunc(f.waiting[id], func(o chan answer) bool { return o == w })
	if len(left) == 0 {
		delete(f.waiting, id)
	} else {
		f.waiting[id] = left
	}
}

// watch returns the state, and a channel that is closed once there is a newer one.
func (f *fsm) watch() (*State, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replica.State, f.changed
}

func (f *fsm) current() *replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replica
}
