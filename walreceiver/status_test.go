package walreceiver

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// A stream is behind while it receives, and much of what is released is still to come.
func TestBehind(t *testing.T) {
	s := New(testConfig(t), Log{Dir: newDir(t, vfs.NewMem()), End: emptyEnd, History: timeline1, Applied: new(wal.Position), Horizon: new(wal.Position), Wanted: new(wal.Position)})
	at := s.Written().Load()
	for _, test := range []struct {
		state   State
		latest  wal.LSN
		horizon wal.LSN // in this order: it moves forward only
		want    bool
	}{
		{StateStreaming, at + muchBehind + 1, at, false},
		{StateStreaming, at + muchBehind + 1, at + muchBehind, false},
		{StateStreaming, at + muchBehind + 1, at + muchBehind + 1, true},
		{StateStreaming, at + muchBehind, at + muchBehind + 1, false},
		{StateStreaming, 0, at + muchBehind + 1, false},
		{StateWaiting, at + muchBehind + 1, at + muchBehind + 1, false},
		{StateStopped, at + muchBehind + 1, at + muchBehind + 1, false},
	} {
		s.horizon.Advance(test.horizon)
		s.status.State, s.status.LatestEndLSN = test.state, test.latest
		if got := s.Behind(); got != test.want {
			t.Errorf("%s, the upstream's log ends at %s, the horizon is %s: %v", test.state, test.latest, test.horizon, got)
		}
	}
}
