package raftlog

// A Progress is how far Raft itself is, on this node.
type Progress struct {
	Term      uint64
	Last      uint64 // index of the last entry in this node's log
	Committed uint64 // index up to which a majority has the log, as far as this node knows
	Applied   uint64 // index up to which the state holds it
}

// Progress returns how far Raft is on this node. Its numbers are not of one moment.
func (n *Node) Progress() Progress {
	return Progress{
		Term:      n.raft.CurrentTerm(),
		Last:      n.raft.LastIndex(),
		Committed: n.raft.CommitIndex(),
		Applied:   n.raft.AppliedIndex(),
	}
}
