package raftlog

import (
	"fmt"
	"time"

	"github.com/longship-db/longship/syncrep"
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
}

// String prints the position as people read it: 0/3000 of epoch 2.
func (p Position) String() string { return fmt.Sprintf("%s of epoch %d", p.LSN, p.Epoch) }
