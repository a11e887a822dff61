package node

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/slots"
	"github.com/longship-db/longship/sql"
	"github.com/longship-db/longship/wal"
)

// Version is Longship's own.
const Version = "0.1"

// serverVersion is what clients see: PostgreSQL's number first, which decides the dialect they
// speak.
var serverVersion = fmt.Sprintf("%s (Longship %s)", wal.PG15.Server, Version)

// Settings lists the server settings that can be given at start: those a node obeys, and for which
// there is no flag of another name.
func Settings() []sql.Setting {
	return slices.DeleteFunc(sql.NewSettings().All(), func(s sql.Setting) bool {
		switch s.Name {
		case "port", "listen_addresses", "cluster_name", "data_directory", "application_name":
			return true
		case "synchronous_commit", "wal_sender_timeout", "commit_siblings", "statement_timeout",
			"idle_session_timeout", "idle_in_transaction_session_timeout":
			return false
		}
		return s.Context == sql.ContextInternal || s.Context == sql.ContextUser
	})
}

// newSettings returns the server's settings with the values the node was started with.
func newSettings(cfg Config) (*sql.Settings, error) {
	s := sql.NewSettings()
	if cfg.Witness {
		defineForWitness(s)
	}
	for name, value := range cfg.Settings {
		if err := s.Set(name, value, "command line"); err != nil {
			return nil, fmt.Errorf("--%s: %w", strings.ReplaceAll(name, "_", "-"), err)
		}
	}
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"data_directory": cfg.DataDir,
		"cluster_name":   cfg.Name,
		"port":           port,
		"server_version": serverVersion,
	} {
		if err := s.Set(name, value, "override"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// standbyNames is synchronous_standby_names as it is wanted.
func (n *Node) standbyNames() string { return n.settings.String(rulesSetting) }

// fallback is what synchronous_mode and what belongs to it say.
func (n *Node) fallback() raftlog.Fallback {
	mode := n.settings.String("synchronous_mode")
	f := raftlog.Fallback{Degrade: mode != "required", After: n.settings.Duration("degrade_after")}
	if mode == "bounded" {
		f.Limit = wal.LSN(n.settings.Bytes("max_degraded_wal_size"))
	}
	return f
}

// retention is how much WAL is kept, as the settings are now.
func (n *Node) retention() wal.Retention {
	return wal.Retention{
		SegmentSize:          n.identity().SegmentSize,
		MinWALSize:           n.settings.Bytes("min_wal_size"),
		MaxWALSize:           n.settings.Bytes("max_wal_size"),
		KeepSize:             n.settings.Bytes("wal_keep_size"),
		MaxSlotKeepSize:      n.settings.Bytes("max_slot_wal_keep_size"),
		CheckpointCompletion: n.settings.Real("checkpoint_completion_target"),
	}
}

// slotLimits are the settings that decide on a slot's wal_status.
func (n *Node) slotLimits() slots.Limits {
	r := n.retention()
	return slots.Limits{
		SegmentSize:        r.SegmentSize,
		MaxWALSize:         r.MaxWALSize,
		MaxSlotWALKeepSize: r.MaxSlotKeepSize,
		WALKeepSize:        r.KeepSize,
		IdleTimeout:        n.settings.Duration(idleTimeoutSetting),
	}
}

func (n *Node) checkpointTimeout() time.Duration { return n.settings.Duration("checkpoint_timeout") }

// senderTimeout is wal_sender_timeout, and a channel that is closed when a setting changes.
func (n *Node) senderTimeout() (time.Duration, <-chan struct{}) {
	changed := n.settings.Changed()
	return n.settings.Duration("wal_sender_timeout"), changed
}

// setting returns what reads a setting that is a time, whenever it is asked.
func (n *Node) setting(name string) func() time.Duration { return n.settings.DurationFunc(name) }
