package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A Member is a node of the cluster, as the primary knows it.
type Member struct {
	Name        string        `json:"name"`
	NodeID      startup.Hex64 `json:"node_id"`
	Incarnation startup.Hex64 `json:"incarnation"`
	Address     string        `json:"address"` // for clients

	// Counted says that ANY MAJORITY counts the member: once, it had everything there was. From
	// then on it counts whether it is there or not, or a majority would mean nothing.
	Counted bool `json:"counted"`
}

// members is the primary's durable list of the nodes that ever joined.
type members struct {
	fs   vfs.FS
	dir  string
	mu   sync.Mutex
	list []Member
}

const membersFile = "members.json"

// openMembers reads the list in folder dir, in which self is always.
func openMembers(fsys vfs.FS, dir string, self Member) (*members, error) {
	m := &members{fs: fsys, dir: dir}
	b, err := wal.ReadFile(fsys, fsys.PathJoin(dir, membersFile), 1<<20)
	if err == nil {
		err = json.Unmarshal(b, &m.list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", membersFile, err)
	}
	self.Counted = true
	return m, m.put(self)
}

// put adds a member, or replaces the one of that name. The list is durable when it returns.
func (m *members) put(member Member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.putLocked(member)
}

func (m *members) putLocked(member Member) error {
	list := slices.Clone(m.list)
	i := slices.IndexFunc(list, func(o Member) bool { return o.Name == member.Name })
	switch {
	case i < 0:
		list = append(list, member)
	case list[i] == member:
		return nil
	default:
		list[i] = member
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	if err := wal.WriteFileDurably(m.fs, m.dir, membersFile, append(b, '\n')); err != nil {
		return err
	}
	m.list = list
	return nil
}

// count makes a member count. It reports whether it did not before.
func (m *members) count(name string) (changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, member := range m.list {
		if member.Name == name && !member.Counted {
			member.Counted = true
			return true, m.putLocked(member)
		}
	}
	return false, nil
}

// counted is how many members count.
func (m *members) counted() int {
	n := 0
	for _, member := range m.all() {
		if member.Counted {
			n++
		}
	}
	return n
}

// all returns the members, in the order in which they joined.
func (m *members) all() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func (m *members) get(name string) (Member, bool) {
	for _, member := range m.all() {
		if member.Name == name {
			return member, true
		}
	}
	return Member{}, false
}
