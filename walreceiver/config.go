package walreceiver

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/longship-db/longship/wal"
)

// A Config says which upstream to follow, as whom, and with which settings. Settings carry
// PostgreSQL's names and meaning.
type Config struct {
	Primary string // host:port of the upstream's clients
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)

	Name        string // of this node: its application_name
	Address     string // under which clients reach this node
	NodeID      uint64
	Incarnation uint64
	SystemID    uint64 // of the cluster; 0 if not known yet

	Timeout        time.Duration // wal_receiver_timeout; 0: none
	StatusInterval time.Duration // wal_receiver_status_interval; 0: no periodic reports
	RetryInterval  time.Duration // wal_retrieve_retry_interval, the longest pause between attempts; default 5 s

	// ApplyInterval is the least pause between two reports that only say how far replay is, for
	// commits that wait with synchronous_commit = remote_apply. Default 1 ms.
	ApplyInterval time.Duration

	SyncMethod wal.SyncMethod // wal_sync_method; default fdatasync
	Slot       string         // primary_slot_name; may be empty

	// Promise is called with the epoch of the upstream when a stream begins, before any of it is
	// written or acknowledged. The node promises durably to follow nothing older, or refuses with
	// an error. May be nil.
	Promise func(ctx context.Context, epoch uint64) error

	Logger *slog.Logger

	// Fatal is called when a write or a sync of the log has failed: the process has to end.
	Fatal func(error)
}

const (
	defaultRetryInterval = 5 * time.Second
	defaultApplyInterval = time.Millisecond
	dialTimeout          = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.RetryInterval == 0 {
		c.RetryInterval = defaultRetryInterval
	}
	if c.ApplyInterval == 0 {
		c.ApplyInterval = defaultApplyInterval
	}
	if c.SyncMethod == "" {
		c.SyncMethod = wal.SyncFdatasync
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		c.Fatal = func(error) {}
	}
	return c
}

// parameters is the start-up packet: a native replication connection of this node, or a plain one if
// this node is nobody yet.
func (c *Config) parameters() map[string]string {
	if c.NodeID == 0 {
		return map[string]string{"user": "longship", "database": "replication", "replication": "true", "application_name": c.Name}
	}
	return map[string]string{
		"user":                 "longship",
		"database":             "replication",
		"replication":          "true",
		"application_name":     c.Name,
		"_pq_.longship":        "1",
		"longship.node_id":     strconv.FormatUint(c.NodeID, 16),
		"longship.incarnation": strconv.FormatUint(c.Incarnation, 16),
		"longship.address":     c.Address,
		"longship.system_id":   strconv.FormatUint(c.SystemID, 10),
	}
}
