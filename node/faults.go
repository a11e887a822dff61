package node

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/longship-db/longship/internal/faults"
	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/sql"
)

// allowFaults puts the fault table between the node and the machine it runs on.
func (n *Node) allowFaults() {
	n.log.Warn("faults are allowed: whoever can connect may break this node's network and disk (--allow-faults)")
	n.faults = faults.NewTable(n.addressesOf)
	m := &n.cfg.Machine
	m.FS = n.faults.FS(m.FS, n.cfg.DataDir)
	open := m.Raft
	m.Raft = func(dir string) (raftlog.Storage, error) {
		s, err := open.In(dir)
		return breakableStorage{s, n.faults}, err
	}
}

// dialer makes connections of one kind.
func (n *Node) dialer(kind faults.Kind) faults.DialFunc {
	if n.faults == nil {
		return n.cfg.Machine.Dial
	}
	return n.faults.Dialer(kind, n.cfg.Machine.Dial)
}

// addressesOf is where the member of a name is reached, as far as this node knows.
func (n *Node) addressesOf(name string) (list []string) {
	if !n.connected.Load() {
		return nil
	}
	for _, m := range n.raft.State().Members {
		if m.Name == name {
			list = append(list, m.Address, m.RaftAddress, m.GossipAddress)
		}
	}
	return list
}

// breakableStorage is Raft's store, on a disk with faults.
type breakableStorage struct {
	raftlog.Storage
	table *faults.Table
}

// write does what takes a write and a sync, as all of these do.
func (s breakableStorage) write(grows bool, do func() error) error {
	const folder = "raft"
	err := s.table.Write(folder, grows)
	if err == nil {
		err = s.table.Sync(folder)
	}
	if err != nil {
		return err
	}
	return do()
}

// StoreLog implements raft.LogStore.
func (s breakableStorage) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s breakableStorage) StoreLogs(logs []*raft.Log) error {
	return s.write(false, func() error { return s.Storage.StoreLogs(logs) })
}

// DeleteRange implements raft.LogStore.
func (s breakableStorage) DeleteRange(first, last uint64) error {
	return s.write(false, func() error { return s.Storage.DeleteRange(first, last) })
}

// Set implements raft.StableStore.
func (s breakableStorage) Set(key, value []byte) error {
	return s.write(false, func() error { return s.Storage.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (s breakableStorage) SetUint64(key []byte, value uint64) error {
	return s.write(false, func() error { return s.Storage.SetUint64(key, value) })
}

// Snapshots implements raftlog.Storage.
func (s breakableStorage) Snapshots(l hclog.Logger) (raft.SnapshotStore, error) {
	inner, err := s.Storage.Snapshots(l)
	return breakableSnapshots{inner, s}, err
}

type breakableSnapshots struct {
	raft.SnapshotStore
	storage breakableStorage
}

// Create implements raft.SnapshotStore.
func (s breakableSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (sink raft.SnapshotSink, err error) {
	err = s.storage.write(true, func() error {
		sink, err = s.SnapshotStore.Create(v, index, term, c, ci, t)
		return err
	})
	return sink, err
}

var faultColumns = []sql.Column{
	{Name: "id", Type: sql.Int4}, {Name: "fault", Type: sql.Text}, {Name: "since", Type: sql.Timestamptz}, {Name: "hits", Type: sql.Int8},
}

// addFaultFunctions adds what drills break this node with. None of it waits for a role: a node that has none, or
// whose disk hangs, can be healed.
func (n *Node) addFaultFunctions(c *sql.Catalog) {
	add := func(name string, arg sql.Type, defaults []sql.Value, call func(sql.Value) (int, error)) {
		c.AddFunc(sql.Func{
			Name: name, Args: []sql.Type{arg}, Defaults: defaults, Result: sql.Int4,
			Own: func(_ context.Context, caller sql.Backend, args []sql.Value) (sql.Value, error) {
				if err := n.mayBreak(caller.(*session)); err != nil {
					return sql.Null, err
				}
				number, err := call(args[0])
				return sql.Int4Value(int32(number)), err
			},
		})
	}
	add("longship_inject_fault", sql.Text, nil, func(v sql.Value) (int, error) { return n.injectFault(v.Text()) })
	add("longship_heal_fault", sql.Int4, []sql.Value{sql.Int4Value(0)}, func(v sql.Value) (int, error) {
		healed := n.faults.Heal(int(v.Int()))
		n.log.Warn("faults healed", "id", v.Int(), "count", healed)
		return healed, nil
	})
	c.AddView("longship_faults", faultColumns, func(context.Context) (rows [][]sql.Value, err error) {
		if n.faults == nil {
			return nil, nil
		}
		for _, a := range n.faults.Active() {
			rows = append(rows, []sql.Value{
				sql.Int4Value(int32(a.ID)), sql.TextValue(a.Fault.String()), sql.TimeValue(a.Since), sql.Int8Value(a.Hits),
			})
		}
		return rows, nil
	})
}

// mayBreak refuses those who may not break this node.
func (n *Node) mayBreak(s *session) error {
	switch {
	case n.faults == nil:
		return pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "faults are not allowed on this node").
			WithHint("Start it with --allow-faults, or LONGSHIP_ALLOW_FAULTS=true in its environment; never where data matters.")
	case !s.admin:
		return pgwire.Errorf(pgwire.CodeInsufficientPrivilege, "permission denied for the faults of this node").
			WithHint("Connect to database \"%s\".", AdminDatabase)
	}
	return nil
}

func (n *Node) injectFault(text string) (int, error) {
	f, err := faults.Parse(text)
	if err != nil {
		return 0, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "%w", err)
	}
	id, err := n.faults.Inject(f)
	switch {
	case errors.Is(err, faults.ErrUnknownPeer):
		return 0, pgwire.Errorf(pgwire.CodeUndefinedObject, "%w", err)
	case err != nil:
		return 0, pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "%w", err)
	}
	n.log.Warn("fault injected", "id", id, "fault", f.String())
	return id, nil
}
