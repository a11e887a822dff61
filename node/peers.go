package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/wal"
)

// membersFile in the folder global remembers who the members were, and where: a node whose Raft store
// is lost, or whose address has changed, finds the others by it. Nothing else believes it.
const membersFile = "members.json"

// knownPeers is what the file says. A file that cannot be read is as good as none.
func (n *Node) knownPeers() []raftlog.Member {
	b, err := wal.ReadFile(n.dir.FS, n.dir.FS.PathJoin(n.dir.Global(), membersFile), 1<<20)
	var members []raftlog.Member
	if err == nil {
		err = json.Unmarshal(b, &members)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.log.Warn("cannot read the list of known members", "err", err)
	}
	return members
}

// rememberPeers keeps the file as Raft says.
func (n *Node) rememberPeers(ctx context.Context) error {
	var written []raftlog.Member
	for {
		s, changed := n.raft.Watch()
		if len(s.Members) > 0 && !slices.Equal(written, s.Members) {
			b, err := json.MarshalIndent(s.Members, "", "  ")
			if err == nil {
				err = wal.WriteFileDurably(n.dir.FS, n.dir.Global(), membersFile, append(b, '\n'))
			}
			if err != nil {
				n.log.Warn("cannot write the list of known members", "err", err)
			}
			written = s.Members
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// refuseCopy finds out whether this directory is the copy of another node's that runs: where that node
// was last known to be, somebody answers with our identity (invariant I9).
func (n *Node) refuseCopy(ctx context.Context) error {
	me := n.memberID()
	for _, m := range n.knownPeers() {
		if m.ID != me || m.Address == n.address {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		h, err := n.peers.Probe(ctx, m.Address, election.ProbeRequest{})
		cancel()
		if err == nil && h.ID == me {
			return pgwire.Errorf(pgwire.CodeObjectInUse, "this data directory is a copy of that of node %s, which runs at %s: start it with an empty directory, another --name and --join %s", m.Name, m.Address, m.Address)
		}
	}
	return nil
}

// newPeers makes the connections to other members.
func (n *Node) newPeers() *election.Client {
	return election.NewClient(election.ClientConfig{
		ID:       n.memberID,
		Name:     n.cfg.Name,
		Address:  n.address,
		SystemID: func() uint64 { return n.identity().SystemID },
		Secret:   n.cfg.ClusterSecret,
		Dial:     n.dialer(faults.Commands),
	})
}

// primaryAddress is where clients find the primary, as far as this node knows; "" if there is none.
func (n *Node) primaryAddress() string {
	s := n.raft.State()
	m, _ := s.Member(s.Primary.ID)
	return m.Address
}

// awaitPrimary returns the primary that a new copy of the data can be taken from. Its epoch need not be steady: this
// node may be the only one that it can be opened with, in the place of one whose disk is lost. Should the epoch come to
// nothing another copy is taken (walreceiver.ErrUnbegun). But this node must be a member: of one that has been replaced
// meanwhile the data would be a removed member's.
func (n *Node) awaitPrimary(ctx context.Context) (raftlog.Member, error) {
	for {
		s, changed := n.raft.Watch()
		_, member := s.Member(n.memberID())
		if m, ok := s.Member(s.Primary.ID); ok && member && m.ID != n.memberID() && s.Phase != raftlog.Sealing {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return raftlog.Member{}, context.Cause(ctx)
		}
	}
}
