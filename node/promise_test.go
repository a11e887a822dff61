package node

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A standby that cannot tell what its disk holds of a promise ends: an attempt after a failed sync would prove
// nothing. Where there is no room nothing has changed, and an epoch that cannot be is the upstream's fault.
func TestPromiseToPrimary(t *testing.T) {
	for _, test := range []struct {
		name  string
		kind  errorfs.OpKind // which operation on the control file's next version fails
		err   error
		epoch uint64
		ends  bool
	}{
		{"the sync fails", errorfs.OpFileSync, syscall.EIO, 7, true},
		{"it cannot be renamed", errorfs.OpRename, syscall.EIO, 7, true},
		{"no room", errorfs.OpFileWrite, syscall.ENOSPC, 7, false},
		{"a later epoch was promised", errorfs.OpFileSync, nil, 0, false},
		{"no such epoch", errorfs.OpFileSync, nil, 1 << 32, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var broken atomic.Bool
			d := startup.DataDir{Path: "data", FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && op.Kind == test.kind && strings.HasSuffix(op.Path, "control.tmp") {
					return test.err
				}
				return nil
			}))}
			if err := d.FS.MkdirAll(d.Path, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := d.NewCluster(startup.Identity{SystemID: 1, SegmentSize: wal.MinSegmentSize}); err != nil {
				t.Fatal(err)
			}
			control, err := startup.ReadControl(d.FS, d.Global())
			if err != nil {
				t.Fatal(err)
			}
			n := &Node{fatal: make(chan error, 1), log: slog.New(slog.DiscardHandler)}
			r := &reign{node: n, checkpointer: startup.NewCheckpointer(control)}
			r.checkpointer.DataDir = d
			broken.Store(true)
			if err := r.promise(t.Context(), test.epoch); err == nil || n.promised.Load() != 0 {
				t.Errorf("promised %d, %v", n.promised.Load(), err)
			}
			if err := n.failed(); (err != nil) != test.ends || err != nil && !IsFatal(err) {
				t.Errorf("the node fails with %v", err)
			}
		})
	}
}
