package node

import (
	"cmp"
	"context"
	"io"
	"net"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/gossip"
	"github.com/longship-db/longship/raftlog"
)

// A Machine is what a node runs on: all of the world outside the process that it uses to store anything, or
// to talk to anybody. A field that is nil is that of the operating system.
type Machine struct {
	FS   vfs.FS              // has the data directory
	Raft raftlog.OpenStorage // opens the store of Raft, in the data directory

	// Lock keeps other processes out of a data directory. It makes the directory if there is none, and says
	// in it at which address this node is, or fails and says who has it.
	Lock func(dir, address string) (io.Closer, error)

	Listen func(network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)

	// Gossip opens what tells of the other members. It is not made of Listen and Dial: half of it is UDP.
	Gossip func(gossip.Config) (Gossip, error)
}

// Gossip says who is out there; *gossip.Gossip is one.
type Gossip interface {
	Address() string
	Members() []gossip.Member
	Run(ctx context.Context)
	Cut()
	Close() error
}

// complete has the operating system do what nobody else does.
func (m Machine) complete() Machine {
	m.FS = cmp.Or(m.FS, vfs.Default)
	if m.Lock == nil {
		m.Lock = lockDataDir
	}
	if m.Listen == nil {
		m.Listen = net.Listen
	}
	if m.Dial == nil {
		m.Dial = new(net.Dialer).DialContext
	}
	if m.Gossip == nil {
		m.Gossip = func(cfg gossip.Config) (Gossip, error) { return gossip.Open(cfg) }
	}
	return m
}
