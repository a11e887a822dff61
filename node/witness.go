package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
	"github.com/longship-db/longship/walsender"
)

// A witness is a member that keeps the log and no table: it votes, has what is acknowledged, and hands
// it over when another node is to be the primary. It is a standby in all else. Its store knows only how
// far it would have applied, so that recovery, checkpoints and the removal of WAL are those of any node.

// AdminDatabase is the database under whose name a witness takes sessions: for its views and functions.
// On other nodes it is a name like any other.
const AdminDatabase = "longship_admin"

// errWitness refuses a session on a witness. The code makes clients that know several nodes go on to
// the next one, whatever they look for.
func (n *Node) errWitness() error {
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the database system is not accepting connections").
		WithDetail("Node %s is a witness: it keeps no table.", n.cfg.Name).
		WithHint("%s For the views of this node connect to database \"%s\".", n.wherePrimary(), AdminDatabase).Fatal()
}

// errNoTable refuses what takes a table.
func (n *Node) errNoTable(what string) error {
	return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "node %s is a witness, which keeps no table: %s", n.cfg.Name, what).
		WithHint("%s", n.wherePrimary())
}

func (n *Node) wherePrimary() string {
	if addr := n.primaryAddress(); addr != "" {
		return fmt.Sprintf("The primary is at %s.", addr)
	}
	return "There is no primary now; see longship status."
}

// standbyRole is what this node is while it is not the primary.
func (n *Node) standbyRole() string {
	if n.cfg.Witness {
		return roleWitness
	}
	return roleStandby
}

// witnessDefaults are defaults of a witness that differ, in MB. A checkpoint costs it next to nothing,
// and it needs no more WAL than what the slots of the other members hold.
var witnessDefaults = map[string]string{"min_wal_size": "32", "max_wal_size": "128"}

func defineForWitness(s *sql.Settings) {
	for _, def := range s.All() {
		if boot, ok := witnessDefaults[def.Name]; ok {
			def.Boot = boot
			s.Define(def)
		}
	}
}

// replayed is how far this node has applied the log to a table: 0 if it has none.
func (r *reign) replayed() wal.LSN {
	if r.node.cfg.Witness {
		return 0
	}
	return r.applied.Load()
}

// receivers are the streams from here. A witness shows no replay lag: it would grow for ever.
func (r *reign) receivers() []walsender.Stat {
	stats, s := r.sender.Stats(), r.node.raft.State()
	for i := range stats {
		if m, _ := s.Member(stats[i].ID); m.Witness {
			stats[i].ReplayLag = unknown
		}
	}
	return stats
}

// waitingCommits says that commits wait at remote_apply with a witness in the place of the member that
// would apply them, "" if none do: at all other levels a witness is as good as any.
func waitingCommits(s syncrep.Snapshot) string {
	witnesses, absent := false, []string(nil)
	for _, rule := range s.Resolved {
		for _, l := range rule.Listed {
			streams := slices.ContainsFunc(s.Streams, func(o syncrep.Stream) bool {
				return o.Standby.ID == l.ID && o.Standby.State == syncrep.Streaming && !o.Standby.Superseded
			})
			witnesses = witnesses || l.Witness
			if !l.Witness && !streams && !slices.Contains(absent, l.Name) {
				absent = append(absent, l.Name)
			}
		}
	}
	if !s.ApplyWaits || !witnesses || len(absent) == 0 {
		return ""
	}
	return fmt.Sprintf("commits at synchronous_commit = remote_apply wait for %s to apply them: a witness applies nothing; synchronous_commit = on does not wait for that",
		strings.Join(absent, " or "))
}
