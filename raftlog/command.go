package raftlog

import (
	"time"

	"github.com/longship-db/longship/syncrep"
)

// A Promote names the primary of epoch Target. The state machine judges it by its answers
// (CheckPromotion), whatever the coordinator that proposed it thought.
type Promote struct {
	Epoch  uint64 `json:"epoch"`  // the state's, which is sealing
	Target uint64 `json:"target"` // the state's

	Answers    []Answer      `json:"answers"`
	Winner     syncrep.ID    `json:"winner"`
	Position   Position      `json:"position"` // where the new epoch starts
	Rule       Rule          `json:"rule"`     // of the new epoch
	LeaseWait  time.Duration `json:"lease_wait"`
	AcceptLoss bool          `json:"accept_loss,omitempty"` // somebody said so
	LostBytes  uint64        `json:"lost_bytes,omitempty"`  // at most

	Cause string    `json:"cause"`
	By    string    `json:"by"`
	Time  time.Time `json:"time"`
}
