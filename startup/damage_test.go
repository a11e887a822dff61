package startup

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// What is known to be damaged stays known until it is repaired, whatever else is written to the control file,
// and whatever the power does.
func TestDamageIsKept(t *testing.T) {
	fs := vfs.NewCrashableMem()
	p := quietPrimary(t, fs)
	p.commitFlushed(0, 100)
	faults := []wal.Fault{{From: 0x100028, Prev: 0x100000, To: 0x100100, Reason: "it was so"}}
	must(t, p.d.SetDamage(faults))
	must(t, p.checkpoint(true))
	must(t, p.checkpointer.Seal(9, p.checkpointer.Flushed.Load()))
	p.stop()
	d := DataDir{FS: fs.CrashClone(vfs.CrashCloneCfg{}), Path: p.d.Path}
	kept, err := ReadControl(d.FS, d.Global())
	if err != nil || !slices.Equal(kept.Faults(), faults) {
		t.Errorf("kept %+v, %v", kept.Faults(), err)
	}
	must(t, d.SetDamage(nil))
	if kept, err = ReadControl(d.FS, d.Global()); err != nil || kept.Damage != nil || kept.PromisedEpoch != 9 {
		t.Errorf("repaired, and kept %+v, %v", kept, err)
	}
}
