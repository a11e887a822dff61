package walreceiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// history makes a history from pairs of a parent and the position at which it was left.
func history(tli wal.TimelineID, switches ...wal.LSN) wal.History {
	h := wal.History{Timeline: tli}
	for i := 0; i < len(switches); i += 2 {
		h.Switches = append(h.Switches, wal.Switch{Parent: wal.TimelineID(switches[i]), At: switches[i+1], Reason: "test"})
	}
	return h
}

// The way to another node's log follows from the two ancestries, never from comparing positions of
// different timelines (invariant I6).
func TestPlan(t *testing.T) {
	const none = ^wal.LSN(0)
	tests := []struct {
		name         string
		ours, theirs wal.History
		end          wal.LSN
		want         string
	}{
		{"same timeline", history(1), history(1), 50, "follow"},
		{"same later timeline", history(2, 1, 40), history(2, 1, 40), 50, "follow"},
		{"child, we are behind", history(1), history(2, 1, 100), 50, "follow to 0/64"},
		{"child, we are at the fork", history(1), history(2, 1, 100), 100, "go on 2 at 0/64"},
		{"child, we are past the fork", history(1), history(2, 1, 100), 101, "cut, go on 2 at 0/64"},
		{"grandchild, we are behind", history(1), history(3, 1, 100, 2, 200), 50, "follow to 0/64"},
		{"grandchild, we are at the first fork", history(1), history(3, 1, 100, 2, 200), 100, "go on 2 at 0/64"},
		{"a timeline without a record is passed over", history(1), history(3, 1, 100, 2, 100), 100, "go on 3 at 0/64"},
		{"their line left ours before it began", history(2, 1, 100), history(3, 1, 80), 120, "cut, go on 3 at 0/50"},
		{"their line stayed longer on the parent", history(2, 1, 100), history(3, 1, 150), 120, "cut, go on 1 at 0/64"},
		{"nothing written on our timeline yet", history(2, 1, 100), history(3, 1, 150), 100, "go on 1 at 0/64"},
		{"same number, other ancestry", history(3, 1, 100), history(3, 1, 150), 120, "cut, go on 1 at 0/64"},
		{"a copy of a timeline that came to nothing", history(3, 1, 150), history(4, 1, 100), 50, "copy"},
		{"the same, and theirs begins there", history(3, 1, 100), history(4, 1, 100), 50, "copy"},
		{"the same, and theirs begins later", history(3, 1, 100), history(4, 1, 150), 50, "copy"},
		{"a copy of a timeline that theirs came from", history(3, 1, 100), history(4, 1, 100, 3, 120), 50, "follow to 0/78"},
		{"they are behind", history(3, 1, 100), history(2, 1, 100), 120, "error"},
		{"nothing in common", history(2), history(5), 120, "error"},
	}
	for _, tt := range tests {
		r, err := plan(tt.ours, tt.theirs, tt.end)
		got := "follow"
		switch {
		case errors.Is(err, ErrUnbegun):
			got = "copy"
		case err != nil:
			got = "error"
		case r.next.Timeline != 0:
			got = fmt.Sprintf("go on %d at %s", r.next.Timeline, r.fork)
		case r.fork != none:
			got = fmt.Sprintf("follow to %s", r.fork)
		}
		if r.cut {
			got = "cut, " + got
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s (error %v)", tt.name, got, tt.want, err)
		}
	}
}

// A history that jumps back is refused before anything is decided on it.
func TestImpossibleHistoryRefused(t *testing.T) {
	for _, h := range []wal.History{history(3, 1, 100, 2, 50), history(2, 1, 0)} {
		if checkHistory(h) == nil {
			t.Errorf("accepted %+v", h)
		}
	}
}

// A stream with nothing of a timeline that came to nothing ends: no other attempt would go better.
func TestStreamOfUnbegunCopyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fork := logStart + 1000
		s := newStandby(t, vfs.NewMem(), wal.End{LSN: logStart, Timeline: 3}, history(3, 1, fork), nil)
		s.run()
		s.accept().handshake().identify(history(4, 1, fork))
		if err := <-s.done; !errors.Is(err, ErrUnbegun) {
			t.Errorf("Run() = %v, want %v", err, ErrUnbegun)
		}
	})
}

// While the stream is on it, the upstream's timeline ends: the stream answers, looks up where the log
// goes on, and ends. The next one continues on the new timeline.
func TestStreamFollowsToNewTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 5000)
		fork := log.endOf(2)
		h2 := history(2, 1, fork.LSN)
		fs := vfs.NewMem()
		s := newStandby(t, fs, emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().stream(logStart)
		c.sendLog(log, logStart, fork.LSN)
		lastReport(t, c, fork.LSN, fork.LSN, 0)
		c.send(copyDone)
		<-c.read
		if !c.copyDone {
			t.Error("the end of the timeline was not answered")
		}
		c.resultSet("START_STREAMING", []any{2, fork.LSN})
		c.rows("START_REPLICATION")
		c.identify(h2)
		switched, ok := errors.AsType[*SwitchError](<-s.done)
		fork.Timeline = 2
		if !ok || switched.End != fork || switched.Cut || switched.History.Timeline != 2 || len(s.cuts) != 0 {
			t.Fatalf("got %+v, cuts %v", switched, s.cuts)
		}

		onward := extendLog(t, log, fork, 300, 9000)
		next := newStandby(t, fs, switched.End, switched.History, nil)
		if h, err := next.dir.ReadHistory(2); err != nil || h.Switches[0].At != fork.LSN {
			t.Errorf("history file: %+v, %v", h, err)
		}
		next.run()
		c = next.accept().handshake()
		c.identify(h2)
		c.startCopy(fork.LSN, 2)
		c.sendLog(onward, fork.LSN, onward.end())
		lastReport(t, c, onward.end(), onward.end(), 0)
		if got := readLog(t, next.dir, h2, onward.end()); !bytes.Equal(got, onward.bytes) {
			t.Error("the log differs from the primary's")
		}
		next.stop()
	})
}

// A standby that was behind the fork takes in the rest of its timeline first, and nothing beyond the
// fork even if it is sent.
func TestStreamStopsAtFork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 5000, 100)
		fork := log.endOf(2)
		h2 := history(2, 1, fork.LSN)
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		c := s.accept().handshake()
		c.identify(h2)
		c.startCopy(logStart, 1)
		c.sendLog(log, logStart, log.ends[0])
		c.sendLog(log, log.ends[0], log.end())
		lastReport(t, c, fork.LSN, fork.LSN, 0)
		c.send(copyDone)
		<-c.read
		c.resultSet("START_STREAMING", []any{2, fork.LSN})
		c.rows("START_REPLICATION")
		c.identify(h2)
		fork.Timeline = 2
		if switched, ok := errors.AsType[*SwitchError](<-s.done); !ok || switched.End != fork {
			t.Errorf("got %+v", switched)
		}
		if got := s.content(1); !bytes.Equal(got, log.bytes[:fork.LSN-logStart]) {
			t.Error("the old timeline's log is not the primary's up to the fork")
		}
	})
}

// A standby whose log is past the fork has it cut before it asks for anything or reports anything.
func TestStreamCutsBeforeAnyReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100, 100)
		fs := vfs.NewMem()
		first := newStandby(t, fs, emptyEnd, timeline1, nil)
		first.run()
		c := first.accept().stream(logStart)
		c.sendLog(log, logStart, log.end())
		lastReport(t, c, log.end(), log.end(), 0)
		first.stop()

		fork := log.ends[0]
		s := newStandby(t, fs, log.endOf(2), timeline1, nil)
		s.run()
		c = s.accept().handshake()
		c.identify(history(2, 1, fork))
		err := <-s.done
		switched, ok := errors.AsType[*SwitchError](err)
		want := wal.End{LSN: fork, Timeline: 2}
		if !ok || !switched.Cut || switched.End != want || len(s.cuts) != 1 || s.cuts[0] != fork {
			t.Fatalf("Run() = %+v, cuts %v", err, s.cuts)
		}
		if msg, err := c.be.Receive(); err == nil {
			t.Errorf("the stream sent %+v before the log was reopened", msg)
		}
		head := readLog(t, s.dir, history(2, 1, fork), fork)
		if !bytes.Equal(head, log.bytes[:len(head)]) {
			t.Error("the new timeline's segment does not begin with the old one's bytes")
		}
	})
}

// If the cut fails, nothing has been switched, and the stream tries again.
func TestStreamCutFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := makeLog(t, 100, 100)
		s := newStandby(t, vfs.NewMem(), log.endOf(1), timeline1, nil)
		tries := 0
		s.cut = func(context.Context, wal.LSN) error {
			if tries++; tries == 1 {
				return errors.New("not now")
			}
			return s.dir.Allocate(1, 1)
		}
		s.run()
		for range 2 {
			s.accept().handshake().identify(history(2, 1, log.ends[0]))
		}
		if _, ok := errors.AsType[*SwitchError](<-s.done); !ok || tries != 2 {
			t.Errorf("%d tries", tries)
		}
	})
}

// A standby at the end of a historic timeline is told so instead of being streamed to.
func TestStreamNothingLeftOnTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandby(t, vfs.NewMem(), emptyEnd, timeline1, nil)
		s.run()
		for range 2 {
			c := s.accept().handshake()
			c.identify(timeline1)
			c.expect("START_REPLICATION")
			c.rows("START_REPLICATION", []any{2, logStart})
		}
		c := s.accept().handshake()
		c.identify(timeline1)
		c.startCopy(logStart, 1)
		s.stop()
	})
}

// A stream of a timeline may begin before the timeline does, with the pages of its ancestors.
func TestVerifierAcrossTimelines(t *testing.T) {
	log := makeLog(t, 100, 9000, 100)
	fork := log.endOf(2)
	fork.Timeline = 2
	onward := extendLog(t, log, fork, 300, 9000, 20000)
	for _, portion := range []int{1, 13, 8192, 1 << 20} {
		v := newVerifier(testFormat, history(2, 1, fork.LSN), mark{End: wal.End{LSN: logStart, Timeline: 2}})
		for part := range slices.Chunk(onward.bytes, portion) {
			if _, err := v.add(part); err != nil {
				t.Fatal(err)
			}
		}
		if v.end.LSN != onward.end() || v.end.Timeline != 2 {
			t.Errorf("ended at %+v, want %s", v.end, onward.end())
		}
	}
	// The log of the timeline left behind is not ours beyond the fork.
	stray := extendLog(t, log, log.endOf(2), 300, 9000, 20000)
	v := newVerifier(testFormat, history(2, 1, fork.LSN), mark{End: wal.End{LSN: logStart, Timeline: 2}})
	for part := range slices.Chunk(stray.bytes, wal.PageSize) {
		if _, err := v.add(part); err != nil {
			return
		}
	}
	t.Error("took pages of the old timeline for the new one's")
}

// A copy that begins at a segment's start begins inside a record.
func TestVerifierBeginsInsideRecord(t *testing.T) {
	log := makeLog(t, int(testSegSize)-10000, 30000, 100)
	begin := wal.LSN(2 * testSegSize)
	v := newVerifier(testFormat, timeline1, mark{End: wal.End{LSN: begin, Timeline: 1}})
	ready, err := v.add(log.slice(begin, log.end()))
	if err != nil || len(ready) != int(log.end()-begin) {
		t.Errorf("got %d bytes, %v; want %d", len(ready), err, log.end()-begin)
	}
}
