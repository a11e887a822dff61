package raftlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// A Config is what a Node is made of.
type Config struct {
	Dir       string       // of Raft's store and snapshots
	ID        string       // of the Raft server, from LoadID
	Listener  net.Listener // for the Raft of others; the node closes it
	Advertise string       // host:port under which others reach the listener
	Dial      DialFunc     // connects to the Raft of others
	Storage   OpenStorage  // of Dir; nil: files of the operating system

	Heartbeat time.Duration // without one for so long a follower asks for an election; default 500 ms
	Election  time.Duration // an election without a winner is repeated; default 500 ms
	Lease     time.Duration // a leader that reaches no majority for so long is none; default 250 ms

	Logger *slog.Logger

	// Fatal is called, once, when what the node keeps on disk cannot be trusted any more, or when it
	// cannot follow the others. The node is cut off already. The process must end.
	Fatal func(error)

	// Forward has a leader propose an encoded command, with ProposeEncoded, and returns its error as
	// EncodeError and DecodeError carry it.
	Forward func(ctx context.Context, leader Member, command []byte) error
}

const (
	defaultHeartbeat = 500 * time.Millisecond
	defaultElection  = 500 * time.Millisecond
	defaultLease     = 250 * time.Millisecond

	// Commands are few and the state is small: a snapshot is a few kilobytes.
	snapshotThreshold = 1024
	snapshotInterval  = 30 * time.Second
	trailingLogs      = 1024

	pooledConns = 3 // to each other member
)

// complete checks what has no default, and fills in the rest.
func (c Config) complete() (Config, error) {
	switch {
	case c.Dir == "" || c.ID == "" || c.Advertise == "":
		return c, errors.New("raft: no directory, identity or address")
	case c.Listener == nil || c.Dial == nil || c.Fatal == nil || c.Logger == nil:
		return c, errors.New("raft: no listener, dialer, logger or handler of fatal errors")
	}
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.Election = cmp.Or(c.Election, defaultElection)
	c.Lease = cmp.Or(c.Lease, defaultLease)
	return c, nil
}

// attempt is how long an unanswered attempt at anything is waited for before it is repeated, and the
// deadline of one call between Raft servers.
func (c Config) attempt() time.Duration { return max(2*c.Election, time.Second) }

// raftConfig is the configuration of hashicorp/raft. Pre-vote is on: a node that was cut off does not
// disturb the others when it is back.
func (c Config) raftConfig(notify chan<- bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.HeartbeatTimeout = c.Heartbeat
	rc.ElectionTimeout = c.Election
	rc.LeaderLeaseTimeout = c.Lease
	rc.SnapshotThreshold = snapshotThreshold
	rc.SnapshotInterval = snapshotInterval
	rc.TrailingLogs = trailingLogs
	rc.NotifyCh = notify
	rc.ShutdownOnRemove = false // who is removed sees it in the state, and closes the node itself
	rc.NoLegacyTelemetry = true
	rc.Logger = &raftLogger{to: c.Logger}
	return rc
}

// Bootstrap makes the store in cfg.Dir that of the first and only server of a new Raft cluster. Of all
// nodes exactly one does that, before its first Open. It may be repeated: what has begun is not begun
// again. Only Dir, Storage, ID and
// Advertise are looked at.
func Bootstrap(cfg Config) (err error) {
	db, err := cfg.Storage.In(cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if last, err := db.LastIndex(); err != nil || last > 0 {
		return err
	}
	if term, err := db.GetUint64(keyTerm); err == nil && term > 1 {
		return nil // its log is in a snapshot
	}
	first := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(cfg.ID), Address: raft.ServerAddress(cfg.Advertise),
	}}}
	// As raft.BootstrapCluster does, which refuses to go on where a crash has ended it.
	if err := db.SetUint64(keyTerm, 1); err != nil {
		return fmt.Errorf("begin Raft log in %s: %w", cfg.Dir, err)
	}
	entry := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(first)}
	if err := db.StoreLog(entry); err != nil {
		return fmt.Errorf("begin Raft log in %s: %w", cfg.Dir, err)
	}
	return nil
}
