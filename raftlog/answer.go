package raftlog

import (
	"fmt"
	"time"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// An Answer is what a sealed node says of itself, after it has promised durably, closed its streams,
// and flushed or dropped what it had written (invariant I3).
type Answer struct {
	ID        syncrep.ID    `json:"id"`
	Name      string        `json:"name"`
	RunID     uint64        `json:"run_id,string"` // of the process that answered: no other one may take office
	Promised  uint64        `json:"promised"`      // it acknowledges nothing of an older epoch
	Position  Position      `json:"position"`      // of its last flushed record, and its end
	LeaseLeft time.Duration `json:"lease_left"`    // how long the read leases it granted may still run
	Priority  int           `json:"failover_priority"`

	// Damaged is where the last segment of its log ends that it cannot read throughout, and has not repaired yet;
	// 0: there is none. It has flushed all up to Position all the same, which is what an answer proves.
	// Lacking says that some of that lies behind the position at which its recovery begins: its table need not
	// hold what was committed there. Otherwise it is others that may miss it.
	Damaged wal.LSN `json:"damaged,omitzero"`
	Lacking bool    `json:"lacking,omitzero"`
}

// String prints the position as people read it: 0/3000 of epoch 2.
func (p Position) String() string { return fmt.Sprintf("%s of epoch %d", p.LSN, p.Epoch) }
