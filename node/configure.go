package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/wal"
)

// settingsFile in the folder global remembers the cluster's settings as this node went by them last: it
// starts with them, whether it finds the others or not. Raft has the last word.
const settingsFile = "settings.json"

// maxSettingsFile bounds the file: a state has no more settings than that, escaped.
const maxSettingsFile = 6 * raftlog.MaxSettings * (raftlog.MaxSettingName + raftlog.MaxSettingValue)

// settingTimeout is how long a change of settings waits for a majority.
const settingTimeout = 5 * time.Second

// A configured is what a node goes by of the cluster's settings.
type configured struct {
	mu         sync.Mutex        // held while they are changed
	Generation uint64            `json:"generation"` // of raftlog.State
	Settings   map[string]string `json:"settings"`
	used       time.Time         // since when
}

// loaded is when the node began to go by its settings as they are.
func (c *configured) loaded() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// recallSettings begins with the settings of the last time. A file that cannot be read is as good as none.
func (n *Node) recallSettings() {
	c := &n.configured
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := wal.ReadFile(n.dir.FS, n.dir.FS.PathJoin(n.dir.Global(), settingsFile), maxSettingsFile)
	if err == nil {
		err = json.Unmarshal(b, c)
	}
	if err != nil {
		c.Generation, c.Settings = 0, nil
		if !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("cannot read the cluster's settings of the last time", "err", err)
		}
		return
	}
	n.useLocked(true)
}

// useLocked has everybody go by the settings.
func (n *Node) useLocked(starting bool) {
	n.configured.used = time.Now()
	for _, problem := range n.settings.Configure(n.configured.Settings, starting) {
		n.log.Warn("setting of the cluster ignored", "err", problem)
	}
}

// followSettings goes by what applies in the cluster, as it changes.
func (n *Node) followSettings(ctx context.Context) error {
	for {
		s, changed := n.raft.Watch()
		n.applySettings(s)
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// applySettings goes by what applies in a state, unless that is old: Raft comes up with a snapshot, and
// this node may have seen more.
func (n *Node) applySettings(s *raftlog.State) {
	c := &n.configured
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Generation <= c.Generation {
		return
	}
	c.Generation, c.Settings = s.Generation, maps.Clone(s.Applied)
	n.useLocked(false)
	n.log.Info("the cluster's settings have changed", "generation", c.Generation, "settings", c.Settings)
	if r, _ := n.present.load(); r != nil && r.primary != nil {
		r.primary.keeper.Kick()
	}
}

// rememberSettings keeps the file as what this node goes by.
//
//	crash before it is written: the node starts with the settings before, until it hears of these again
func (n *Node) rememberSettings(ctx context.Context) error {
	var written uint64
	for {
		s, changed := n.raft.Watch()
		n.applySettings(s)
		if b, generation := n.configured.encode(); generation != written {
			if err := wal.WriteFileDurably(n.dir.FS, n.dir.Global(), settingsFile, b); err != nil {
				n.log.Warn("cannot write the cluster's settings: the next start begins with older ones", "err", err)
			}
			written = generation
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *configured) encode() (b []byte, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("node: settings cannot be encoded: %v", err)) // nothing in them can fail
	}
	return append(b, '\n'), c.Generation
}

// Reload has all nodes go by what ALTER SYSTEM has written. It is pg_reload_conf(), and SIGHUP.
func (n *Node) Reload(ctx context.Context) error {
	if !n.connected.Load() {
		return errStartingUp()
	}
	return n.changeSettings(ctx, &raftlog.Reload{})
}

// judgeRule is what is to be said of a value of synchronous_standby_names.
func (n *Node) judgeRule(value string) (warnings []string, err error) {
	var receivers []string // known to the primary alone
	if r, _ := n.present.load(); r != nil && r.primary != nil {
		for _, stream := range r.primary.group.Snapshot().Streams {
			if stream.Standby.ID.IsZero() {
				receivers = append(receivers, stream.Standby.Name)
			}
		}
	}
	return raftlog.Judge(n.raft.State(), value, receivers)
}

// judgeOwnRule warns of a rule of the command line what ALTER SYSTEM would say of it, when the node begins to go
// by it. What that refuses is no reason not to start: the cluster may have been different the last time.
func (n *Node) judgeOwnRule() {
	if !n.settings.Own(rulesSetting) {
		return
	}
	warnings, err := n.judgeRule(n.standbyNames())
	if err != nil {
		warnings = append(warnings, err.Error())
		if senseless, ok := errors.AsType[*raftlog.SenselessError](err); ok {
			warnings = append(warnings, senseless.Hint)
		}
	}
	for _, w := range warnings {
		n.log.Warn("rule of the command line: "+w, rulesSetting, n.standbyNames())
	}
}

// rulesSetting is the setting that holds the rule.
const rulesSetting = "synchronous_standby_names"

// JudgeSetting implements sql.SettingJudge: of the rule.
func (s *session) JudgeSetting(name, value string) (warnings []string, err error) {
	if name != rulesSetting {
		return nil, nil
	}
	warnings, err = s.node.judgeRule(value)
	if senseless, ok := errors.AsType[*raftlog.SenselessError](err); ok {
		err = pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "%s": "%s"`, name, value).
			WithDetail("%s.", senseless.Why).WithHint("%s", senseless.Hint)
	}
	return warnings, err
}

// WriteSetting implements sql.SystemAlterer.
func (s *session) WriteSetting(ctx context.Context, name, value string) error {
	return s.node.changeSettings(ctx, &raftlog.SettingSet{Name: name, Value: value})
}

// ResetSetting implements sql.SystemAlterer.
func (s *session) ResetSetting(ctx context.Context, name string) error {
	if name == "" {
		return s.node.changeSettings(ctx, &raftlog.SettingsReset{})
	}
	return s.node.changeSettings(ctx, &raftlog.SettingSet{Name: name, Reset: true})
}

// SettingWritten implements sql.SystemAlterer.
func (s *session) SettingWritten(name string) bool {
	_, written := s.node.raft.State().Settings[name]
	return written
}

// changeSettings has the cluster agree on a change of its settings. When it returns nil, this node goes
// by it.
func (n *Node) changeSettings(ctx context.Context, c raftlog.Command) error {
	limited, cancel := context.WithTimeout(ctx, settingTimeout)
	defer cancel()
	s, err := n.raft.Propose(limited, c)
	if err == nil {
		n.applySettings(s)
		return nil
	}
	return settingRefused(ctx, err)
}

// settingRefused is why settings have not changed, or may not have, for a client.
func settingRefused(ctx context.Context, err error) error {
	if invalid, ok := errors.AsType[*raftlog.InvalidError](err); ok {
		return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "%s", invalid.What)
	}
	if errors.Is(err, raftlog.ErrNotLeader) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return pgwire.Errorf(pgwire.CodeCannotConnectNow, "the cluster's settings cannot be changed now: no majority of its members can be reached").
			WithDetail("Nothing was changed.").
			WithHint("Start the missing nodes, see longship status, and try again.")
	}
	return pgwire.Errorf(pgwire.CodeTransactionResolutionUnknown, "it is not known whether the cluster's settings were changed: %w", err).
		WithDetail("A majority of the cluster's members did not answer in time. The change may have been made, or be made yet.").
		WithHint("Look at longship status for what is missing, then try again: to make the same change twice does no harm.")
}
