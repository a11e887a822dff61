package walsender

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/wal"
)

// A client's slot keeps what its stream begins with before the stream does. Who streams without one, or is a
// member, whose slot keeps that already, waits for nothing.
func TestSlotIsReservedBeforeTheStream(t *testing.T) {
	var asked []string
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error) // of the bubble
		p := newPrimary(t, vfs.NewMem(), "data", func(cfg *Config) {
			cfg.ReserveSlot = func(_ context.Context, h *slots.Handle, name string, start wal.LSN) error {
				asked = append(asked, name+" "+start.String())
				h.Advance(start)
				return <-answer
			}
		})
		p.insert(1000)
		p.flush()
		for _, name := range []string{"s", "n2"} {
			if err := p.slots.Create(name, false, 0, 1); err != nil {
				t.Fatal(err)
			}
		}
		withSlot := strings.Replace(startCommand, "START_REPLICATION", "START_REPLICATION SLOT s", 1)
		c := p.connect(nil)
		c.query(withSlot)
		synctest.Wait()
		answer <- pgwire.Errorf(pgwire.CodeCannotConnectNow, "no majority")
		if got := c.until("Z")[0]; !strings.Contains(got, "57P03") {
			t.Errorf("the stream is refused with %s, want 57P03", got)
		}
		if slot, _ := p.slots.Get("s"); slot.PID != 0 {
			t.Errorf("after that the slot is %+v, and not free", slot)
		}
		done := make(chan struct{})
		go func() { defer close(done); c.stream(withSlot) }()
		synctest.Wait()
		select {
		case <-done:
			t.Error("the stream begins before the slot is reserved")
		default:
		}
		answer <- nil
		<-done
		p.connect(nil).stream(startCommand)
		p.connect(memberParams("n2")).stream(strings.Replace(startCommand, "START_REPLICATION", "START_REPLICATION SLOT n2", 1))
		if want := "s 0/100000, s 0/100000"; strings.Join(asked, ", ") != want {
			t.Errorf("asked for %q, want %q", asked, want)
		}
	})
}
