package node

import (
	"context"
	"crypto/subtle"
	"strconv"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// Start-up parameters by which a member says who it is.
const (
	paramNodeID      = "longship.node_id"
	paramIncarnation = "longship.incarnation"
	paramSystemID    = "longship.system_id" // 0: it has no data yet
	paramSecret      = "longship.secret"
)

// memberOf is who a member's connection says it is.
func memberOf(c *pgwire.Conn) (syncrep.ID, error) {
	node, errNode := strconv.ParseUint(c.Params[paramNodeID], 16, 64)
	incarnation, errIncarnation := strconv.ParseUint(c.Params[paramIncarnation], 16, 64)
	if errNode != nil || errIncarnation != nil || !namePattern.MatchString(c.Params["application_name"]) {
		return syncrep.ID{}, pgwire.Errorf(pgwire.CodeProtocolViolation, "a member must say who it is: application_name %q, %s %q, %s %q",
			c.Params["application_name"], paramNodeID, c.Params[paramNodeID], paramIncarnation, c.Params[paramIncarnation]).Fatal()
	}
	return syncrep.ID{Node: node, Incarnation: incarnation}, nil
}

// A memberSession answers another node: the commands of package election, in whatever role this node
// is, and those of replication, which its role answers. It implements pgwire.Replication.
type memberSession struct {
	node  *Node
	conn  *pgwire.Conn
	id    syncrep.ID
	inner pgwire.Replication // of the reign it came to; nil before the first command for that
}

// connectMember begins a session for a member that knows the cluster's secret.
func (n *Node) connectMember(c *pgwire.Conn) (pgwire.Replication, error) {
	if subtle.ConstantTimeCompare([]byte(c.Params[paramSecret]), []byte(n.cfg.ClusterSecret)) != 1 {
		return nil, pgwire.Errorf(pgwire.CodeInvalidAuthorization, "this node does not know the cluster's secret").
			WithHint("Start all nodes of a cluster with the same --cluster-secret, or LONGSHIP_CLUSTER_SECRET.").Fatal()
	}
	id, err := memberOf(c)
	if err != nil {
		return nil, err
	}
	return &memberSession{node: n, conn: c, id: id}, nil
}

// memberCommandTimeout bounds what another node asks for.
const memberCommandTimeout = 75 * time.Second

// Command implements pgwire.Replication.
func (s *memberSession) Command(ctx context.Context, text string) error {
	if election.IsCommand(text) {
		if !s.ours() {
			return pgwire.Errorf(pgwire.CodeDuplicateObject, "node %s belongs to another cluster: system identifier %d, not %s", s.node.cfg.Name, s.node.identity().SystemID, s.conn.Params[paramSystemID]).
				WithHint("Join a node of the same cluster, or start with an empty data directory.")
		}
		// Who asked may have gone, which nobody notices before the answer.
		ctx, cancel := context.WithTimeout(ctx, memberCommandTimeout)
		defer cancel()
		reply, err := election.Serve(ctx, s.node, text)
		if err != nil {
			return clientError(err)
		}
		return s.reply(reply)
	}
	if s.inner == nil {
		if err := s.enter(ctx); err != nil {
			return err
		}
	}
	return s.inner.Command(ctx, text)
}

const textOID = 25

// reply sends one row with one text.
func (s *memberSession) reply(text []byte) error {
	s.conn.SendRowDescription([]pgwire.Column{{Name: "reply", Type: textOID, Size: -1, Mod: -1}})
	s.conn.SendTextRow(text)
	s.conn.SendCommandComplete("LONGSHIP")
	return nil
}

// enter gives the connection to the present reign. On a primary a member of this cluster has its slot
// before it asks for anything. A node of another cluster finds out from IDENTIFY_SYSTEM that it is in
// the wrong place.
func (s *memberSession) enter(ctx context.Context) error {
	r, _ := s.node.present.load()
	if r == nil {
		return errStartingUp()
	}
	var err error
	if !s.node.present.enter(r, func() { err = s.connect(ctx, r) }) {
		return errStartingUp()
	}
	return err
}

func (s *memberSession) connect(ctx context.Context, r *reign) (err error) {
	if _, known := s.node.raft.State().Member(s.id); known && r.primary != nil && s.ours() {
		if err := r.admit(s.conn.Params["application_name"], s.id); err != nil {
			return err
		}
	}
	s.inner, err = r.sender.Connect(ctx, s.conn)
	return err
}

// ours reports whether the system identifier, as the member sent it, is this cluster's or none yet.
func (s *memberSession) ours() bool {
	id := s.conn.Params[paramSystemID]
	own := s.node.identity().SystemID
	return own == 0 || id == "" || id == "0" || id == strconv.FormatUint(own, 10)
}

// Close implements pgwire.Replication.
func (s *memberSession) Close() {
	if s.inner != nil {
		s.inner.Close()
	}
}
