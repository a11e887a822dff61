package waldump

import (
	"io"
	"testing"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// Whatever a record holds, it is printed: a dump is for looking at what went wrong.
func FuzzDecode(f *testing.F) {
	commit := kv.AppendCommit(nil, &kv.Commit{Ops: []kv.Op{{Kind: kv.Put, Key: "k", Value: []byte("v")}}})
	f.Add(uint8(wal.RmgrLongship), kv.InfoCommit, commit)
	f.Add(uint8(wal.RmgrXLOG), wal.XLOGCheckpointOnline, make([]byte, 88))
	f.Add(uint8(wal.RmgrXLOG), wal.XLOGEndOfRecovery, make([]byte, 16))
	f.Add(uint8(wal.RmgrXLOG), wal.XLOGOverwriteContrecord, make([]byte, 16))
	f.Add(uint8(wal.RmgrXLOG), uint8(xlogRestorePoint), restorePoint("name"))
	f.Add(uint8(wal.RmgrXact), uint8(xactCommit), make([]byte, 8))
	f.Add(uint8(255), uint8(255), []byte(nil))
	f.Fuzz(func(t *testing.T, rmgr, info uint8, data []byte) {
		e := decode(&wal.Record{Rmgr: wal.RmgrID(rmgr), Info: info, Data: data}, 1)
		for _, p := range []printer{&textPrinter{out: io.Discard}, newJSONPrinter(io.Discard)} {
			if err := p.print(&e); err != nil {
				t.Error(err)
			}
		}
		e.keepKeys("k")
	})
}
