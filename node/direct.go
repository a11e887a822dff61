package node

import "github.com/longship-db/longship/wal"

// useDirect has the log written past the page cache, where that is wanted and can be done (debug_io_direct).
func (n *Node) useDirect(dir *wal.Dir) {
	method := wal.SyncMethod(n.settings.String("wal_sync_method"))
	if method != wal.SyncFdatasync || n.settings.String("debug_io_direct") == "" {
		return
	}
	if err := dir.UseDirect(); err != nil {
		n.log.Info("WAL is written through the page cache", "because", err)
	}
}
