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
	Secret      string // that members show each other; empty: none is shown

	// These may change: they are asked for each time. nil: the default.
	Timeout        func() time.Duration // wal_receiver_timeout; 0, the default: none
	StatusInterval func() time.Duration // wal_receiver_status_interval; 0, the default: no periodic reports
	RetryInterval  func() time.Duration // wal_retrieve_retry_interval, the longest pause between attempts; default 5 s

	// ApplyInterval is the least pause between two reports that only say how far replay is, for
	// commits that wait with synchronous_commit = remote_apply. Default 1 ms.
	ApplyInterval time.Duration

	SyncMethod wal.SyncMethod // wal_sync_method; default fdatasync
	Slot       string         // primary_slot_name; may be empty

	// Promise is called with the epoch of the upstream on each connection, before anything is done
	// for its sake: before the log is cut, moved to another timeline, written or acknowledged
	// (invariant I3). The node promises durably to follow nothing older, or refuses with an error.
	// May be nil.
	Promise func(ctx context.Context, epoch uint64) error

	// Leases are the node's promises to primaries. nil: none are given.
	Leases *Leases

	// Bare has BaseCopy leave out the table, for a node that keeps none.
	Bare bool

	// Log has BaseCopy bring the log, too, from where it must be replayed to what the upstream has flushed.
	Log bool

	// Fetch gets the log of a node that is sealed, up to its last byte, instead of following a
	// primary. Nothing is promised to that node, what it is told acknowledges nothing, and no slot
	// is used there. Run does not end by itself when everything is there: Flushed tells.
	Fetch bool

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
	for _, d := range []struct {
		setting *func() time.Duration
		value   time.Duration
	}{{&c.Timeout, 0}, {&c.StatusInterval, 0}, {&c.RetryInterval, defaultRetryInterval}} {
		if *d.setting == nil {
			*d.setting = func() time.Duration { return d.value }
		}
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
	p := map[string]string{"user": "longship", "database": "replication", "replication": "true", "application_name": c.Name}
	if c.NodeID == 0 {
		return p
	}
	p["_pq_.longship"] = "1"
	p["longship.node_id"] = strconv.FormatUint(c.NodeID, 16)
	p["longship.incarnation"] = strconv.FormatUint(c.Incarnation, 16)
	p["longship.address"] = c.Address
	p["longship.system_id"] = strconv.FormatUint(c.SystemID, 10)
	if c.Secret != "" {
		p["longship.secret"] = c.Secret
	}
	if c.Fetch {
		p["longship.fetch"] = "on"
	}
	return p
}
