package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/walreceiver"
)

// clusterColumns are those of longship_cluster: one row, the cluster as this node knows it. Times are
// in seconds.
var clusterColumns = []sql.Column{
	{Name: "node", Type: sql.Text}, {Name: "role", Type: sql.Text}, {Name: "system_identifier", Type: sql.Text},
	{Name: "epoch", Type: sql.Int8}, {Name: "timeline", Type: sql.Int4}, {Name: "phase", Type: sql.Text},
	{Name: "primary", Type: sql.Text}, {Name: "primary_address", Type: sql.Text}, {Name: "rule", Type: sql.Text},
	{Name: "horizon", Type: sql.PgLSN}, {Name: "version", Type: sql.Text}, {Name: "started", Type: sql.Timestamptz},
	{Name: "waiting", Type: sql.Text}, {Name: "raft_leader", Type: sql.Text},
	{Name: "waiting_age", Type: sql.Float8}, {Name: "heartbeat_interval", Type: sql.Float8},
	{Name: "debt_since", Type: sql.Timestamptz}, {Name: "debt_bytes", Type: sql.Int8}, {Name: "debt_commits", Type: sql.Int8},
	{Name: "rule_met", Type: sql.Bool}, {Name: "rule_wanted", Type: sql.Text},
}

func (r *reign) viewCluster(context.Context) ([][]sql.Value, error) {
	n := r.node
	s := n.raft.State()
	leader, _ := n.raft.Leader()
	owed := r.owed(s)
	return [][]sql.Value{{
		sql.TextValue(n.cfg.Name), sql.TextValue(r.role()), sql.TextValue(strconv.FormatUint(n.identity().SystemID, 10)),
		sql.Int8Value(int64(s.Epoch)), sql.Int4Value(int32(r.found.End.Timeline)), textOrNull(string(s.Phase)),
		textOrNull(s.Primary.Name), textOrNull(n.primaryAddress()), orNull(s.Initialised(), sql.TextValue(ruleText(s))),
		sql.LSNOrNull(r.horizon.Load()), sql.TextValue(Version), sql.TimeValue(n.started),
		textOrNull(n.waitingFor(r)), textOrNull(leader.Name),
		secondsOrNull(r.waitingAge()), sql.Float8Value(n.settings.Duration("heartbeat_interval").Seconds()),
		owed.since, owed.bytes, owed.commits,
		r.ruleMet(s), r.ruleWanted(s),
	}}, nil
}

// ruleMet is whether those who stream satisfy the rule as it was written, in its number and its zones. Only
// the primary knows.
func (r *reign) ruleMet(s *raftlog.State) sql.Value {
	if r.primary == nil {
		return sql.Value{}
	}
	return sql.BoolValue(r.primary.group.Snapshot().Released.OK && s.Debt() == nil)
}

// ruleWanted is what synchronous_standby_names says, if that is not what binds: it comes into force once enough
// of those it lists stream. Only the primary knows.
func (r *reign) ruleWanted(s *raftlog.State) sql.Value {
	wanted := r.node.standbyNames()
	return orNull(r.primary != nil && s.Initialised() && wanted != ruleText(s), sql.TextValue(wanted))
}

// waitingAge is how long the oldest record that is not within the horizon yet has waited for that; on
// a standby, and if there is none, it is unknown.
func (r *reign) waitingAge() time.Duration {
	if r.primary == nil {
		return unknown
	}
	if d, ok := r.primary.ages.waiting(r.horizon.Load(), time.Now()); ok {
		return d
	}
	return unknown
}

// owed is the durability debt, NULL if there is none; how much it is only the primary knows.
type owed struct{ since, bytes, commits sql.Value }

func (r *reign) owed(s *raftlog.State) owed {
	d := s.Debt()
	if d == nil {
		return owed{}
	}
	o := owed{since: sql.TimeValue(d.Since)}
	if r.primary != nil {
		debt, _ := r.primary.group.Debt()
		o.bytes, o.commits = sql.Int8Value(int64(debt.Bytes)), sql.Int8Value(int64(debt.Commits))
	}
	return o
}

func textOrNull(s string) sql.Value { return orNull(s != "", sql.TextValue(s)) }

// ruleText is the rule that binds now.
func ruleText(s *raftlog.State) string {
	if s.Opening != nil {
		return s.Opening.Text
	}
	return s.Rule.Text
}

// waitingFor says why this node cannot do its work now, as far as it knows; "" if it can.
func (n *Node) waitingFor(r *reign) string {
	select {
	case <-r.opened:
	default:
		return "for the first record of the epoch to be acknowledged under the rule"
	}
	if r.primary != nil {
		return waitingCommits(r.primary.group.Snapshot())
	}
	if r.stream != nil && r.stream.Status().State == walreceiver.StateStreaming {
		return ""
	}
	if _, ok := n.raft.Leader(); !ok {
		return "for a Raft leader: a majority of the nodes must be up and reach one another"
	}
	if r.stream != nil {
		return fmt.Sprintf("for an answer of the primary, %s at %s", r.upstream.Name, r.upstream.Address)
	}
	if n.raft.IsLeader() {
		if lines := n.coordinator.Report().Lines; len(lines) > 0 {
			return "for a primary: " + strings.Join(lines, "; ")
		}
	}
	return "for a primary to be named; EXPLAIN FAILOVER says what is missing"
}

// memberColumns are those of longship_members. counted says whether majorities count the member. The
// ages are in seconds: how old the newest is that the member has, on the primary of each member that
// has streamed, on a standby its own.
var memberColumns = []sql.Column{
	{Name: "name", Type: sql.Text}, {Name: "role", Type: sql.Text}, {Name: "state", Type: sql.Text},
	{Name: "address", Type: sql.Text}, {Name: "zone", Type: sql.Text}, {Name: "node_id", Type: sql.Text},
	{Name: "incarnation", Type: sql.Text}, {Name: "write_lsn", Type: sql.PgLSN}, {Name: "flush_lsn", Type: sql.PgLSN},
	{Name: "replay_lsn", Type: sql.PgLSN}, {Name: "counted", Type: sql.Bool}, {Name: "voter", Type: sql.Bool},
	{Name: "leaving", Type: sql.Bool}, {Name: "raft_address", Type: sql.Text}, {Name: "gossip_address", Type: sql.Text},
	{Name: "failover_priority", Type: sql.Int4},
	{Name: "write_age", Type: sql.Float8}, {Name: "flush_age", Type: sql.Float8}, {Name: "replay_age", Type: sql.Float8},
	{Name: "disk_free", Type: sql.Int8}, {Name: "disk_size", Type: sql.Int8}, {Name: "raft_leader", Type: sql.Bool},
	{Name: "damaged_lsn", Type: sql.PgLSN},
}

// scrubColumns are those of longship_wal_scrub: one row, what this node has found in the closed segments of its
// log since it was started, but for what it knew to be damaged before.
var scrubColumns = []sql.Column{
	{Name: "segment", Type: sql.Text}, {Name: "checked_bytes", Type: sql.Int8}, {Name: "passes", Type: sql.Int8},
	{Name: "last_pass", Type: sql.Timestamptz}, {Name: "found", Type: sql.Int8}, {Name: "repaired", Type: sql.Int8},
	{Name: "damaged", Type: sql.Int8}, {Name: "damaged_lsn", Type: sql.PgLSN}, {Name: "last_event", Type: sql.Text},
}

func (r *reign) viewScrub(context.Context) ([][]sql.Value, error) {
	s := &r.node.scrubbing
	to, _ := r.node.damage(&r.found)
	s.mu.Lock()
	defer s.mu.Unlock()
	size := r.found.Dir.Format.SegmentSize
	return [][]sql.Value{{
		orNull(s.segno != 0, sql.TextValue(size.FileName(r.found.History.FileTimeline(s.segno, size), s.segno))),
		sql.Int8Value(s.checked), sql.Int8Value(s.passes), timeOrNull(s.passed), sql.Int8Value(s.found), sql.Int8Value(s.repaired),
		sql.Int8Value(int64(len(s.faults))), sql.LSNOrNull(to), textOrNull(s.event),
	}}, nil
}

func (r *reign) viewMembers(ctx context.Context) ([][]sql.Value, error) {
	s := r.node.raft.State()
	known := r.memberStates()
	leader, _ := r.node.raft.Leader()
	var rows [][]sql.Value
	for _, m := range s.Members {
		role, at := "standby", known[m.Name]
		switch {
		case m.ID == s.Primary.ID:
			role = "primary"
		case m.Witness:
			role = "witness"
		}
		rows = append(rows, []sql.Value{
			sql.TextValue(m.Name), sql.TextValue(role), sql.TextValue(at.state), sql.TextValue(m.Address), sql.TextValue(m.Zone),
			sql.TextValue(hex(m.ID.Node)), sql.TextValue(hex(m.ID.Incarnation)),
			sql.LSNOrNull(at.write), sql.LSNOrNull(at.flush), sql.LSNOrNull(at.apply),
			sql.BoolValue(m.Counted), sql.BoolValue(m.Voter), sql.BoolValue(m.Leaving),
			sql.TextValue(m.RaftAddress), sql.TextValue(m.GossipAddress), sql.Int4Value(int32(m.Priority)),
			secondsOrNull(at.writeAge), secondsOrNull(at.flushAge), secondsOrNull(at.applyAge),
			orNull(at.diskSize != 0, sql.Int8Value(int64(at.diskFree))), orNull(at.diskSize != 0, sql.Int8Value(int64(at.diskSize))),
			sql.BoolValue(m.ID == leader.ID), sql.LSNOrNull(at.damaged),
		})
	}
	return rows, nil
}

// secondsOrNull is NULL for unknown.
func secondsOrNull(d time.Duration) sql.Value {
	return orNull(d != unknown, sql.Float8Value(d.Round(time.Millisecond).Seconds()))
}

// historyColumns are those of longship_history: a row for each epoch.
var historyColumns = []sql.Column{
	{Name: "epoch", Type: sql.Int8}, {Name: "parent", Type: sql.Int8}, {Name: "timeline", Type: sql.Int4},
	{Name: "start_lsn", Type: sql.PgLSN}, {Name: "steady", Type: sql.Bool}, {Name: "primary", Type: sql.Text},
	{Name: "cause", Type: sql.Text}, {Name: "decided_by", Type: sql.Text}, {Name: "time", Type: sql.Timestamptz},
	{Name: "lost_bytes", Type: sql.Int8},
}

func (n *Node) viewHistory(context.Context) ([][]sql.Value, error) {
	var rows [][]sql.Value
	for _, h := range n.raft.State().History {
		rows = append(rows, []sql.Value{
			sql.Int8Value(int64(h.Epoch)), orNull(h.Parent != 0, sql.Int8Value(int64(h.Parent))), sql.Int4Value(int32(h.Timeline)),
			sql.LSNValue(h.Start), sql.BoolValue(h.Steady), sql.TextValue(h.Primary),
			sql.TextValue(h.Cause), sql.TextValue(h.DecidedBy), sql.TimeValue(h.Time), sql.Int8Value(int64(h.LostBytes)),
		})
	}
	return rows, nil
}

// orphanColumns are those of longship_orphans: a row for each tail that was cut off this node's log.
var orphanColumns = []sql.Column{
	{Name: "folder", Type: sql.Text}, {Name: "epoch", Type: sql.Int8}, {Name: "start_lsn", Type: sql.PgLSN},
	{Name: "end_lsn", Type: sql.PgLSN}, {Name: "time", Type: sql.Timestamptz}, {Name: "transactions", Type: sql.Int8},
	{Name: "keys", Type: sql.Text},
}

func (n *Node) viewOrphans(context.Context) ([][]sql.Value, error) {
	orphans, err := n.dir.Orphans()
	if err != nil {
		return nil, err
	}
	var rows [][]sql.Value
	for _, o := range orphans {
		rows = append(rows, []sql.Value{
			sql.TextValue(o.Path), sql.Int8Value(int64(o.Epoch)), sql.LSNOrNull(o.Fork), sql.LSNOrNull(o.End),
			timeOrNull(o.Time), sql.Int8Value(int64(o.Transactions)), sql.TextValue(orphanKeys(o)),
		})
	}
	return rows, nil
}

// shownKeys is how many keys of an orphan a view shows; the others are in its summary.
const shownKeys = 20

// orphanKeys lists the keys that an orphan's transactions wrote.
func orphanKeys(o startup.Orphan) string {
	var keys []string
	for _, op := range o.Operations {
		if !slices.Contains(keys, op.Key) {
			keys = append(keys, op.Key)
		}
		if len(keys) > shownKeys {
			keys[shownKeys] = "…"
			break
		}
	}
	return strings.Join(keys, ", ")
}

// whatIfColumns are those of longship_what_if: what follows if some nodes are lost.
var whatIfColumns = []sql.Column{
	{Name: "lose", Type: sql.Text}, {Name: "then", Type: sql.Text}, {Name: "primary", Type: sql.Text}, {Name: "lost_bytes", Type: sql.Int8},
	{Name: "writes", Type: sql.Bool},
}

// viewWhatIf shows what the Raft leader finds, if there is one, or else what this node does.
func (n *Node) viewWhatIf(ctx context.Context) ([][]sql.Value, error) {
	e, err := n.Explain(ctx, election.ExplainRequest{})
	if err != nil {
		return nil, clientError(err)
	}
	var rows [][]sql.Value
	for _, o := range e.WhatIf {
		rows = append(rows, []sql.Value{
			sql.TextValue(strings.Join(o.Lose, ",")), sql.TextValue(o.Then), textOrNull(o.Primary), sql.Int8Value(int64(o.LostBytes)),
			sql.BoolValue(o.Writes),
		})
	}
	return rows, nil
}

// ExplainFailover implements sql.Explainer: one line per node, why it is a candidate or not.
func (s *session) ExplainFailover(ctx context.Context) ([]string, error) {
	e, err := s.node.Explain(ctx, election.ExplainRequest{})
	if err != nil {
		return nil, clientError(err)
	}
	if len(e.Lines) == 0 {
		return []string{"missing: this node has heard nothing of the cluster since it was started: a majority of the nodes must be up and reach one another"}, nil
	}
	var lines []string
	for _, l := range e.Lines {
		lines = append(lines, raftlog.Line(l).String())
	}
	return lines, nil
}

func hex(v uint64) string { return startup.Hex64(v).String() }
