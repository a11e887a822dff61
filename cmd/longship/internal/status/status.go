// Package status asks a node what the cluster looks like and shows the answer, for people and as
// JSON.
package status

import (
	"context"
	"fmt"
	"slices"

	"github.com/longship-db/longship/syncrep"
)

// A Snapshot is the cluster as one node knows it. Its JSON form is a contract: names stay, and
// fields are only added.
type Snapshot struct {
	Cluster     Row      `json:"cluster"`     // longship_cluster
	Members     []Row    `json:"members"`     // longship_members
	Replication []Row    `json:"replication"` // pg_stat_replication
	Slots       []Row    `json:"slots"`       // pg_replication_slots, and pinned_bytes
	Receiver    Row      `json:"receiver"`    // pg_stat_wal_receiver; null on a primary
	RuleMet     *bool    `json:"rule_met"`    // enough standbys stream for commits to be acknowledged; null on a standby
	WhatIf      []WhatIf `json:"what_if"`     // empty on a standby, which does not know the rule
}

// A Source answers simple queries: a node.
type Source interface {
	// Query sends statements and returns the rows of each.
	Query(ctx context.Context, statements ...string) ([][]Row, error)
}

// Collect asks the node behind src.
func Collect(ctx context.Context, src Source) (*Snapshot, error) {
	rows, err := src.Query(ctx,
		"SELECT * FROM longship_cluster",
		"SELECT * FROM longship_members",
		"SELECT * FROM pg_stat_replication",
		"SELECT * FROM pg_replication_slots",
		"SELECT * FROM pg_stat_wal_receiver",
	)
	if err != nil {
		return nil, err
	}
	if len(rows[0]) != 1 {
		return nil, fmt.Errorf("longship_cluster has %d rows, want 1", len(rows[0]))
	}
	s := &Snapshot{Cluster: rows[0][0], Members: rows[1], Replication: rows[2], Slots: rows[3]}
	if len(rows[4]) > 0 {
		s.Receiver = rows[4][0]
	}
	s.addPinned()
	err = s.foresee()
	for _, list := range []*[]Row{&s.Members, &s.Replication, &s.Slots} {
		if *list == nil {
			*list = []Row{} // [] and not null
		}
	}
	return s, err
}

// Primary reports whether the node that was asked is the primary.
func (s *Snapshot) Primary() bool { return s.Cluster.Text("role") == "primary" }

// self is the member that was asked.
func (s *Snapshot) self() Row {
	i := slices.IndexFunc(s.Members, func(m Row) bool { return m.Text("name") == s.Cluster.Text("node") })
	if i < 0 {
		return nil
	}
	return s.Members[i]
}

// addPinned adds to each slot how much of the log it keeps from being removed.
func (s *Snapshot) addPinned() {
	end, known := s.self().LSN("flush_lsn")
	for i, slot := range s.Slots {
		var pinned any
		if restart, ok := slot.LSN("restart_lsn"); ok && known && restart <= end {
			pinned = int64(end - restart)
		}
		s.Slots[i] = append(slot, Field{"pinned_bytes", pinned})
	}
}

// foresee fills in what follows from the rule, which only the primary knows.
func (s *Snapshot) foresee() error {
	s.WhatIf = []WhatIf{}
	if !s.Primary() {
		return nil
	}
	rule, err := syncrep.ParseRule(s.Cluster.Text("rule"))
	if err != nil {
		return fmt.Errorf("rule %q: %w", s.Cluster.Text("rule"), err)
	}
	nodes, streams := s.nodes(), s.streams()
	s.RuleMet = new(met(rule, nodes, streams))
	s.WhatIf = Foresee(rule, nodes, streams)
	return nil
}

func (s *Snapshot) nodes() []Node {
	var nodes []Node
	for _, m := range s.Members {
		nodes = append(nodes, Node{
			Name:    m.Text("name"),
			Primary: m.Text("role") == "primary",
			Up:      m.Text("state") != "down",
			Joining: !m.bool("counted"),
		})
	}
	return nodes
}

// streams are the primary's standbys and receivers as the rule sees them.
func (s *Snapshot) streams() []syncrep.Standby {
	var streams []syncrep.Standby
	for i, r := range s.Replication {
		name := r.Text("application_name")
		flush, _ := r.LSN("flush_lsn")
		streams = append(streams, syncrep.Standby{
			Slot:   i,
			Name:   name,
			Member: slices.ContainsFunc(s.Members, func(m Row) bool { return m.Text("name") == name }),
			State:  parseState(r.Text("state")),
			Flush:  flush,
		})
	}
	return streams
}

// parseState undoes syncrep.State.String.
func parseState(s string) syncrep.State {
	for state := syncrep.Startup; state <= syncrep.Stopping; state++ {
		if state.String() == s {
			return state
		}
	}
	return syncrep.Startup
}
