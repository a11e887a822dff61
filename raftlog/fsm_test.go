package raftlog

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/longship-db/longship/syncrep"
)

// A sink keeps a snapshot in memory.
type sink struct {
	bytes.Buffer
	canceled bool
}

func (s *sink) ID() string    { return "snapshot" }
func (s *sink) Cancel() error { s.canceled = true; return nil }
func (s *sink) Close() error  { return nil }

type machine struct {
	t *testing.T
	*fsm
	index uint64
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, fsm: newFSM(func(err error) { t.Errorf("fatal: %v", err) })}
}

func (m *machine) apply(id uint64, c Command) error {
	m.t.Helper()
	encoded, err := proposal{id: id, command: c}.encode()
	if err != nil {
		m.t.Fatal(err)
	}
	m.index++
	return m.Apply(&raft.Log{Index: m.index, Data: encoded}).(answer).err()
}

func (m *machine) snapshot() *sink {
	m.t.Helper()
	s, err := m.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	var to sink
	if err := s.Persist(&to); err != nil {
		m.t.Fatal(err)
	}
	return &to
}

func (m *machine) restore(from *sink) {
	m.t.Helper()
	if err := m.Restore(io.NopCloser(bytes.NewReader(from.Bytes()))); err != nil {
		m.t.Fatal(err)
	}
}

func initCommand() *Init {
	return &Init{SystemID: 7, Member: Member{Name: "n1", ID: syncrep.ID{Node: 1, Incarnation: 1}, RaftID: "r1"}, RunID: 1, Timeline: 1}
}

// A member that got a snapshot at any index and one that applied every command have the same, then and
// from then on: the state, and the answers to what may come again.
func TestHashAcrossSnapshots(t *testing.T) {
	all := newMachine(t)
	commands := append([]Command{initCommand(), &Leave{}, &SlotCreate{Epoch: 1, Slot: Slot{Name: "s"}}, &SlotCreate{Epoch: 1, Slot: Slot{Name: "s"}}}, someCommands()...)
	var behind []*machine
	for i, c := range commands {
		late := newMachine(t)
		late.restore(all.snapshot())
		late.index = all.index
		behind = append(behind, late)
		all.apply(uint64(i), c)
		all.apply(uint64(i), c)
		for _, late := range behind {
			late.apply(uint64(i), c)
			late.apply(uint64(i), c)
			if got, want := late.current().hash(), all.current().hash(); got != want {
				t.Fatalf("after %s: the one restored has %x at %d, the other %x at %d", kindOf(c), got, late.current().Applied, want, all.current().Applied)
			}
		}
	}
}

// A proposal that comes twice has one effect, and one answer.
func TestDuplicateProposal(t *testing.T) {
	m := newMachine(t)
	m.apply(1, initCommand())
	if err := m.apply(2, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}}); err != nil {
		t.Fatal(err)
	}
	if err := m.apply(3, &SlotDrop{Epoch: 1, Name: "vault"}); err != nil {
		t.Fatal(err)
	}
	if err := m.apply(2, &SlotCreate{Epoch: 1, Slot: Slot{Name: "vault"}}); err != nil {
		t.Errorf("the answer to a slot's creation that comes again is %v", err)
	}
	if len(m.current().State.Slots) != 0 {
		t.Error("a slot is there again after its creation came again")
	}
	// What was refused is not accepted later: its author was told so.
	if err := m.apply(4, &SlotDrop{Epoch: 1, Name: "archive"}); !errors.Is(err, ErrNoSlot) {
		t.Errorf("drop of a slot that is not there: %v", err)
	}
	m.apply(5, &SlotCreate{Epoch: 1, Slot: Slot{Name: "archive"}})
	if err := m.apply(4, &SlotDrop{Epoch: 1, Name: "archive"}); !errors.Is(err, ErrNoSlot) {
		t.Errorf("the same again: %v", err)
	}
	if n := len(m.current().State.Slots); n != 1 {
		t.Errorf("%d slots, want 1", n)
	}
	for id := range uint64(2 * rememberedAnswers) {
		m.apply(100+id, &barrier{})
	}
	if n := len(m.current().Answers); n != rememberedAnswers {
		t.Errorf("%d answers are remembered, want %d", n, rememberedAnswers)
	}
}

// Who waits for an answer gets it from a snapshot too.
func TestAnswerFromSnapshot(t *testing.T) {
	leader, follower := newMachine(t), newMachine(t)
	a, b := follower.await(1), follower.await(1)
	other := follower.await(2)
	leader.apply(1, initCommand())
	_, newer := follower.watch()
	follower.restore(leader.snapshot())
	for _, w := range []<-chan answer{a, b} {
		if err := (<-w).err(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-other:
		t.Error("an answer came to what was not proposed")
	default:
	}
	follower.forget(2, other)
	if len(follower.waiting) != 0 {
		t.Errorf("%d proposals are still waited for", len(follower.waiting))
	}
	<-newer
}

// A state machine that cannot understand a command stops: the others go on from another state.
func TestUnknownCommandIsFatal(t *testing.T) {
	stopped := make(chan error, 1)
	done := make(chan struct{})
	s := newStore(nil, func(err error) { stopped <- err })
	go func() {
		defer close(done)
		newFSM(s.fatal).Apply(&raft.Log{Index: 9, Data: []byte("\x02from tomorrow")})
		t.Error("the state machine went on")
	}()
	<-done
	if _, ok := errors.AsType[*InvalidError](<-stopped); !ok {
		t.Error("it did not say why")
	}
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add([]byte(`{"version":1,"applied":3,"state":{"epoch":1},"answers":[{"id":"5","code":"conflict","text":"late"}]}`))
	f.Add([]byte(`{"version":1,"state":{"epoch":1,"settings":{"a":"1","b":"2"},"applied_settings":{"a":"1"},"settings_generation":3}}`))
	f.Add([]byte(`{"version":2,"state":{}}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readSnapshot(bytes.NewReader(b))
		if err != nil {
			return
		}
		var to sink
		if err := (snapshot{r}).Persist(&to); err != nil {
			t.Fatal(err)
		}
		again, err := readSnapshot(&to)
		if err != nil || again.hash() != r.hash() {
			t.Fatalf("%q comes back as another: %v", b, err)
		}
	})
}

// A snapshot from another version is refused, and says what it is.
func TestSnapshotOfAnotherVersion(t *testing.T) {
	const version, field = "version 2 of the format, and this program knows 1: run the same version", `unknown field "reserve": run the same version`
	for text, why := range map[string]string{
		`{"version":2,"state":{}}`: version, `{"version":2,"replicas":[]}`: version, `{}`: "version 0", `{"version":1}`: "no state",
		`{"version":1,"state":{"members":1}}`: "unmarshal", `{"version":1,"state":{"reserve":[]}}`: field, ``: "JSON",
	} {
		if err := newMachine(t).Restore(io.NopCloser(strings.NewReader(text))); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("snapshot %s: %v, want %s", text, err, why)
		}
	}
}

// A member that runs and is sent a snapshot which it cannot read stops: it would never catch up, and not say why.
func TestUnreadableSnapshotIsFatal(t *testing.T) {
	stopped := make(chan error, 1)
	done := make(chan struct{})
	s := newStore(nil, func(err error) { stopped <- err })
	go func() {
		defer close(done)
		f := newFSM(s.fatal)
		f.start()
		f.Restore(io.NopCloser(strings.NewReader(`{"version":2}`)))
		t.Error("the state machine went on")
	}()
	<-done
	if err := <-stopped; !strings.Contains(err.Error(), "version 2") {
		t.Errorf("it stopped with %v", err)
	}
}

// What an earlier build has written is read: the entries of a log, one of each kind that there was, and the
// snapshot that it made of them. Both lead to the same state, today as then. The build was that of 2026-11-21,
// before slots had a reason, rules a debt, and members could be witnesses. A change of the format that breaks this
// needs another version, and code that reads the old one.
func TestReadsWhatWasWritten(t *testing.T) {
	log, err := os.Open("testdata/written/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	replayed, kinds := newMachine(t), map[string]bool{}
	for lines := bufio.NewScanner(log); lines.Scan(); {
		line, err := strconv.Unquote(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		p, err := decodeProposal([]byte(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		kinds[kindOf(p.command)] = true
		replayed.index++
		replayed.Apply(&raft.Log{Index: replayed.index, Data: []byte(line)})
	}
	if len(kinds) != 18 {
		t.Errorf("%d kinds of commands were written, want 18", len(kinds))
	}
	written, err := os.ReadFile("testdata/written/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	restored := newMachine(t)
	if err := restored.Restore(io.NopCloser(bytes.NewReader(written))); err != nil {
		t.Fatal(err)
	}
	if got := replayed.snapshot().Bytes(); !bytes.Equal(got, written) {
		t.Errorf("the old log leads to\n%s\nand led to\n%s", got, written)
	}
	if got := restored.snapshot().Bytes(); !bytes.Equal(got, written) {
		t.Errorf("the old snapshot is read as\n%s\nand was\n%s", got, written)
	}
	s := restored.current().State
	if slot, _ := s.Slot("vault"); s.Epoch != 2 || s.Phase != Steady || slot.Restart != 0x2000 || s.Applied["wal_keep_size"] != "32MB" {
		t.Errorf("the state is %+v", s)
	}
}
