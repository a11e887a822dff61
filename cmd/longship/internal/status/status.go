// Package status asks a node what the cluster looks like and shows the answer, for people and as
// JSON.
package status

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// A Snapshot is the cluster as one node knows it. Its JSON form is a contract: names stay, and
// fields are only added.
type Snapshot struct {
	Cluster     Row      `json:"cluster"`       // longship_cluster
	Members     []Row    `json:"members"`       // longship_members
	Replication []Row    `json:"replication"`   // pg_stat_replication
	Slots       []Row    `json:"slots"`         // longship_slots
	Receiver    Row      `json:"receiver"`      // pg_stat_wal_receiver; null on a primary
	RuleMet     *bool    `json:"rule_met"`      // of longship_cluster: those who stream satisfy the rule; null on a standby
	WhatIf      []WhatIf `json:"what_if"`       // longship_what_if
	WhatIfError *string  `json:"what_if_error"` // why the node cannot say; null: it can
	History     []Row    `json:"history"`       // longship_history, the last reigns, newest first
	Warnings    []string `json:"warnings"`      // what an operator should look at, the worst first
	Orphans     []Row    `json:"orphans"`       // longship_orphans: what was cut off the log of the node that was asked
}

// A WhatIf says what the loss of nodes would mean.
type WhatIf struct {
	Lose      []string `json:"lose"`
	Then      string   `json:"then"`
	Primary   *string  `json:"primary"`    // afterwards; null: there would be none
	LostBytes int64    `json:"lost_bytes"` // of acknowledged commits
	Writes    bool     `json:"writes"`     // commits are acknowledged then, by itself
}

// A Source answers simple queries: a node.
type Source interface {
	// Query sends statements and returns the rows of each.
	Query(ctx context.Context, statements ...string) ([][]Row, error)
}

// whatIfTimeout limits the wait for longship_what_if, which the Raft leader answers: a cluster
// without one has a status, too.
const whatIfTimeout = 3 * time.Second

// Collect asks the node behind src.
func Collect(ctx context.Context, src Source) (*Snapshot, error) {
	rows, err := src.Query(ctx,
		"SELECT * FROM longship_cluster",
		"SELECT * FROM longship_members",
		"SELECT * FROM pg_stat_replication",
		"SELECT * FROM longship_slots",
		"SELECT * FROM pg_stat_wal_receiver",
		"SELECT * FROM longship_history ORDER BY epoch DESC LIMIT 100",
		"SELECT * FROM longship_orphans",
	)
	if err != nil {
		return nil, err
	}
	if len(rows[0]) != 1 {
		return nil, fmt.Errorf("longship_cluster has %d rows, want 1", len(rows[0]))
	}
	s := &Snapshot{Cluster: rows[0][0], Members: rows[1], Replication: rows[2], Slots: rows[3], History: rows[5], Orphans: rows[6]}
	if len(rows[4]) > 0 {
		s.Receiver = rows[4][0]
	}
	if met, known := s.Cluster.get("rule_met").(bool); known {
		s.RuleMet = &met
	}
	s.addLate()
	s.foresee(ctx, src)
	s.warn()
	for _, list := range []*[]Row{&s.Members, &s.Replication, &s.Slots, &s.History, &s.Orphans} {
		if *list == nil {
			*list = []Row{} // [] and not null
		}
	}
	return s, nil
}

// foresee asks what if. Not to be told is no failure: it is worth knowing.
func (s *Snapshot) foresee(ctx context.Context, src Source) {
	s.WhatIf = []WhatIf{}
	ctx, cancel := context.WithTimeout(ctx, whatIfTimeout)
	defer cancel()
	rows, err := src.Query(ctx, "SELECT * FROM longship_what_if")
	if err != nil {
		s.WhatIfError = new(err.Error())
		return
	}
	for _, r := range rows[0] {
		w := WhatIf{Lose: strings.Split(r.Text("lose"), ","), Then: r.Text("then"), Writes: r.bool("writes")}
		if name := r.Text("primary"); name != "" {
			w.Primary = &name
		}
		w.LostBytes, _ = r.int("lost_bytes")
		s.WhatIf = append(s.WhatIf, w)
	}
}

// Primary reports whether the node that was asked is the primary.
func (s *Snapshot) Primary() bool { return s.Cluster.Text("role") == "primary" }

// logEnd is how far the log is flushed: on the primary, or else where it is longest.
func logEnd(members []Row) (end wal.LSN, known bool) {
	for _, m := range members {
		flushed, ok := m.LSN("flush_lsn")
		if !ok {
			continue
		}
		if m.Text("role") == "primary" {
			return flushed, true
		}
		end, known = max(end, flushed), true
	}
	return end, known
}
