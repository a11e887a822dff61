package walsender

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// I9: an acknowledgement counts for the disk that a rule lists, whatever the name.
func TestAcknowledgementsCountByDisk(t *testing.T) {
	bubble(t, nil, func(t *testing.T, p *testPrimary) {
		p.setRule("ANY 1 (n2)")
		for _, name := range []string{"n3", "n2"} {
			params := memberParams(name)
			params["application_name"] = "n2"
			p.insert(100)
			end := p.flush()
			c := p.connect(params)
			c.stream(startCommand)
			stream := c.next().XLogData.Stream
			synctest.Wait()
			c.status(pgwire.StatusUpdate{Write: end, Flush: end, Native: true, Stream: stream})
			synctest.Wait()
			if released := p.log.Horizon.Load() == end; released != (name == "n2") {
				t.Errorf("an acknowledgement by the disk of %s moved the horizon to %s of %s", name, p.log.Horizon.Load(), end)
			}
			c.close()
		}
	})
}

// The set of members that stream has those that have caught up, as long as they do, and each change of
// it is told once it shows.
func TestStreamingMembers(t *testing.T) {
	var kicks atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		var p *testPrimary
		var seen []int // how many streamed at each kick
		p = newPrimary(t, vfs.NewMem(), "data", func(cfg *Config) {
			cfg.CaughtUp = func() { kicks.Add(1); seen = append(seen, len(p.sender.Streaming())) }
		})
		p.insert(1000)
		p.flush()
		receiver := p.connect(map[string]string{"application_name": "archive"})
		receiver.stream(startCommand)
		receiver.next()
		c := p.connect(memberParams("n2"))
		synctest.Wait()
		if got := p.sender.Streaming(); len(got) != 0 || kicks.Load() != 0 {
			t.Errorf("before anybody has caught up %v stream, told %d times", got, kicks.Load())
		}
		c.stream(startCommand)
		synctest.Wait() // the first message is on its way: not caught up
		if got := p.sender.Streaming(); len(got) != 0 {
			t.Errorf("%v stream, but have not been sent everything", got)
		}
		c.next()
		synctest.Wait()
		want := []syncrep.ID{memberIDs["n2"]}
		if got := p.sender.Streaming(); !slices.Equal(got, want) || kicks.Load() != 1 {
			t.Errorf("%v stream, told %d times, want %v and once", got, kicks.Load(), want)
		}
		c.close()
		synctest.Wait()
		if got := p.sender.Streaming(); len(got) != 0 || !slices.Equal(seen, []int{1, 0}) {
			t.Errorf("%v stream after the stream's end, seen at each kick: %v", got, seen)
		}
	})
}

// A receiver may count when it has been sent everything, and has reported a flush position, whichever comes
// last: that is told once, and so is its end. One that reports none is not worth a word.
func TestReceiverThatCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kicks atomic.Int64
		p := newPrimary(t, vfs.NewMem(), "data", func(cfg *Config) { cfg.CaughtUp = func() { kicks.Add(1) } })
		end := p.insert(1000)
		p.flush()
		p.log.Horizon.Advance(end)
		told := func(want int64, when string) {
			t.Helper()
			synctest.Wait()
			if got := kicks.Swap(0); got != want {
				t.Errorf("%s: told %d times, want %d", when, got, want)
			}
		}
		silent := p.connect(map[string]string{"application_name": "silent"})
		silent.stream(startCommand)
		silent.wal(segmentStart, end)
		silent.status(pgwire.StatusUpdate{Write: end})
		silent.close()
		told(0, "a receiver that reports no flush")

		c := p.connect(map[string]string{"application_name": "vault"})
		c.stream(startCommand)
		c.status(pgwire.StatusUpdate{Write: segmentStart, Flush: segmentStart})
		told(0, "before it has caught up")
		c.wal(segmentStart, end)
		told(1, "once it has")
		c.status(pgwire.StatusUpdate{Write: end, Flush: end})
		told(0, "at another report")
		c.close()
		told(1, "at its end")

		late := p.connect(map[string]string{"application_name": "vault"})
		late.stream(startCommand)
		late.wal(segmentStart, end)
		told(0, "one that has caught up, and has not reported")
		late.status(pgwire.StatusUpdate{Write: end, Flush: end})
		told(1, "when it reports")
		late.close()
		told(1, "at the end of that")
	})
}

// A sealed standby hands out all it holds to a member that fetches, and to nobody else.
func TestFetchFromSealedStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flushed, horizon wal.Position
		var sealed atomic.Bool
		p := newPrimary(t, vfs.NewMem(), "data", func(cfg *Config) {
			cfg.Primary, cfg.Sync, cfg.Log.Buffer = false, nil, nil
			cfg.Log.Flushing, cfg.Log.Flushed, cfg.Log.Horizon = &flushed, &flushed, &horizon
			cfg.Sealed = sealed.Load
		})
		first := p.insert(100)
		second := p.insert(100)
		p.flush()
		horizon.Advance(first)
		flushed.Advance(second)
		params := memberParams("n3")
		params["longship.fetch"] = "on"
		const refused = "E ERROR 55000 this node is not sealed"

		fetcher, receiver := p.connect(params), p.connect(map[string]string{"longship.fetch": "on"})
		if got := fetcher.do(startCommand); !strings.HasPrefix(got[0], refused) {
			t.Errorf("a node that is not sealed answers %q", got)
		}
		sealed.Store(true)
		receiver.stream(startCommand)
		receiver.wal(segmentStart, first)
		fetcher.stream(startCommand)
		if got := fetcher.wal(segmentStart, second); !bytes.Equal(got, p.bytes(segmentStart, second)) {
			t.Error("WAL differs")
		}
		member := p.connect(memberParams("n2"))
		member.stream(startCommand)
		member.wal(segmentStart, first)
		synctest.Wait()
		for _, s := range p.sender.Stats() {
			if s.Name != "n3" && s.Sent != first {
				t.Errorf("%q was sent up to %s, the horizon is %s", s.Name, s.Sent, first)
			}
		}

		// Sealed no more: the log may move, and be cut again.
		sealed.Store(false)
		third := p.insert(100)
		p.flush()
		flushed.Advance(third)
		lines := fetcher.until("Z")
		if got := lines[len(lines)-2]; !strings.HasPrefix(got, refused) {
			t.Errorf("the fetch ends with %q", lines)
		}
	})
}

// What a member is told before it streams is of the log that it would be streamed, whatever the node
// itself shows.
func TestShowOfTheLog(t *testing.T) {
	for _, primary := range []bool{true, false} {
		bubble(t, func(cfg *Config) {
			cfg.Primary = primary
			cfg.Show = func(string) (string, bool) { return "of the node", true }
		}, func(t *testing.T, p *testPrimary) {
			standby := `D "on"`
			if primary {
				standby = `D "off"`
			}
			told, err := p.sender.Connect(t.Context(), &pgwire.Conn{Params: map[string]string{}})
			if err != nil {
				t.Fatal(err)
			}
			if got := told.(pgwire.Reporter).Parameters()["in_hot_standby"]; `D "`+got+`"` != standby {
				t.Errorf("primary %t: a client is told in_hot_standby = %s at the start", primary, got)
			}
			c := p.connect(memberParams("n2"))
			for name, want := range map[string]string{"longship.epoch": `D "3"`, "in_hot_standby": standby, "x": `D "of the node"`} {
				if got := c.do("SHOW " + name)[1]; got != want {
					t.Errorf("primary %t: %s is %q, want %q", primary, name, got, want)
				}
			}
		})
	}
}

// What a member refuses is looked into. Nobody else is listened to.
func TestRefusedWAL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused []wal.LSN
		p := newPrimary(t, vfs.NewMem(), "data", func(cfg *Config) {
			cfg.Refused = func(at wal.LSN) { refused = append(refused, at) }
		})
		end := p.insert(100)
		p.flush()
		for _, c := range []*client{p.connect(map[string]string{"application_name": "vault"}), p.connect(memberParams("n2")), p.connect(memberParams("n3"))} {
			c.stream(startCommand)
			c.wal(segmentStart, end)
			c.tell(pgwire.RefuseWAL(segmentStart+40, "it is garbled"))
			c.close()
			synctest.Wait()
		}
		if want := []wal.LSN{segmentStart + 40, segmentStart + 40}; !slices.Equal(refused, want) {
			t.Errorf("refused %v, want %v", refused, want)
		}
	})
}
