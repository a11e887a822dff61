package startup

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// An Identity is what node.json says: who this node is and which cluster it belongs to. It is
// written once, as the last step of making a data directory.
type Identity struct {
	Name        string          `json:"name"`
	NodeID      Hex64           `json:"node_id"`     // stays with the name
	Incarnation Hex64           `json:"incarnation"` // random, new with each new disk
	SystemID    uint64          `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"segment_size"`
	PGVersion   int             `json:"pg_version"`
	Founder     bool            `json:"founder"`           // the cluster was made here: this node starts its Raft, once
	Witness     bool            `json:"witness,omitempty"` // it keeps the log and no table
}

// Hex64 is a 64-bit identifier that prints as 16 hexadecimal digits.
type Hex64 uint64

func (h Hex64) String() string { return fmt.Sprintf("%016x", uint64(h)) }

// MarshalText prints what String prints.
func (h Hex64) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText prints.
func (h *Hex64) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || len(b) != 16 {
		return fmt.Errorf("invalid identifier %q: want 16 hexadecimal digits", b)
	}
	*h = Hex64(n)
	return nil
}

// RandomID draws a node id or an incarnation; never 0.
func RandomID() Hex64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return Hex64(binary.LittleEndian.Uint64(b[:]) | 1)
}

// NewSystemID makes a system identifier as initdb does: seconds, microseconds and process id.
func NewSystemID(now time.Time, pid int) uint64 {
	return uint64(now.Unix())<<32 | uint64(now.Nanosecond()/1000)<<12 | uint64(pid)&0xFFF
}

// A DataDir is the folder a node lives in. DESIGN section 3 lists what is in it.
type DataDir struct {
	FS   vfs.FS
	Path string
}

// The files and folders of a data directory.
const (
	identityFile = "node.json"
	labelFile    = "backup_label"      // pg_basebackup's
	buildingFile = "longship.building" // there while the directory is being made: what is in it is worth nothing
	walFolder    = "pg_wal"
	storeFolder  = "store"
	globalFolder = "global"
	orphanFolder = "orphans"
	slotFolder   = "pg_replslot"
	raftFolder   = "raft"
	formerFile   = "node.former.json" // the identity of a directory that was discarded, until it is made anew
)

// PIDFile is the name of the file that holds the process id and the lock of a running node.
const PIDFile = "longship.pid"

// WAL, Store, Global, Slots and Raft are the paths of the folders. Raft's is package raftlog's.
func (d DataDir) WAL() string     { return d.join(walFolder) }
func (d DataDir) Store() string   { return d.join(storeFolder) }
func (d DataDir) Global() string  { return d.join(globalFolder) }
func (d DataDir) Slots() string   { return d.join(slotFolder) }
func (d DataDir) Raft() string    { return d.join(raftFolder) }
func (d DataDir) orphans() string { return d.join(orphanFolder) }

func (d DataDir) join(name string) string { return d.FS.PathJoin(d.Path, name) }

// A State is what a data directory was found to be.
type State int

// The states of a data directory.
const (
	Empty  State = iota // nothing there that a new node would mind
	Ready               // a node lives here
	Copied              // a base backup, as pg_basebackup leaves it: nobody lives here yet
)

// ErrNotOurs says that a folder holds something that is no data directory.
var ErrNotOurs = errors.New("folder is not empty and is not a Longship data directory")

// Open looks at the folder, creating it if it does not exist. Of a directory that was discarded, or
// whose making was interrupted, it removes everything but what outlives the node's log and table: the
// orphans, and the Raft store. It is Empty then, and the Identity says, as far as that is known, which
// Name and NodeID belong here; the next incarnation, to be given to Build, keeps them. Where a base copy was about to
// take the place of what is here (Replace), it does.
func (d DataDir) Open() (State, Identity, error) {
	if err := makeDir(d.FS, d.Path); err != nil {
		return 0, Identity{}, fmt.Errorf("create data directory: %w", err)
	}
	building, err := wal.Exists(d.FS, d.join(buildingFile))
	if err != nil {
		return 0, Identity{}, err
	}
	if building {
		if err := d.clear(); err != nil {
			return 0, Identity{}, err
		}
	}
	b, err := wal.ReadFile(d.FS, d.join(identityFile), identityLimit)
	if err == nil {
		id, err := parseIdentity(b)
		if err == nil {
			err = d.settleCopy()
		}
		return Ready, id, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, Identity{}, err
	}
	if copied, err := d.isCopy(); copied || err != nil {
		return Copied, Identity{}, err
	}
	if err := d.mustBeEmpty(); err != nil {
		return 0, Identity{}, err
	}
	former, _, err := d.former(formerFile)
	return Empty, Identity{Name: former.Name, NodeID: former.NodeID}, err
}

// isCopy reports whether this is a base backup that no node has been started on.
func (d DataDir) isCopy() (bool, error) {
	label, err := wal.Exists(d.FS, d.join(labelFile))
	if !label || err != nil {
		return false, err
	}
	_, err = ReadControl(d.FS, d.Global())
	return err == nil, err
}

// Adopt makes a base backup the data directory of a node. The caller has made sure that it is one of the
// cluster that id names.
func (d DataDir) Adopt(id Identity) error {
	if err := d.FS.MkdirAll(d.Slots(), 0o700); err != nil {
		return fmt.Errorf("create %s: %w", d.Slots(), err)
	}
	// The commit point: before this it is a base backup, after it it is a node's.
	return d.writeIdentity(id)
}

// former reads the identity of a directory that is worth nothing. If the file is not there, or
// damaged, nobody is known to have lived here.
func (d DataDir) former(file string) (id Identity, known bool, err error) {
	b, err := wal.ReadFile(d.FS, d.join(file), identityLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, false, nil
	}
	if err != nil {
		return Identity{}, false, err
	}
	id, err = parseIdentity(b)
	return id, err == nil, nil
}

// identityLimit is the size of node.json, at most.
const identityLimit = 64 << 10

func parseIdentity(b []byte) (id Identity, err error) {
	if err := json.Unmarshal(b, &id); err != nil {
		return Identity{}, fmt.Errorf("%s: %w", identityFile, err)
	}
	if !id.SegmentSize.Valid() || id.PGVersion != wal.PG15.Major || id.SystemID == 0 {
		return Identity{}, fmt.Errorf("%s: segment size %d, version %d, system identifier %d: made by another version, or damaged", identityFile, id.SegmentSize, id.PGVersion, id.SystemID)
	}
	if id.Name == "" || id.NodeID == 0 || id.Incarnation == 0 {
		return Identity{}, fmt.Errorf("%s: name %q, node id %s, incarnation %s: made by another version, or damaged", identityFile, id.Name, id.NodeID, id.Incarnation)
	}
	return id, nil
}

// makeDir makes a folder and those above it, each durably: what is lost with a folder's name is
// everything in it.
func makeDir(fsys vfs.FS, path string) error {
	if ok, err := wal.Exists(fsys, path); ok || err != nil {
		return err
	}
	parent := fsys.PathDir(path)
	if err := makeDir(fsys, parent); err != nil {
		return err
	}
	if err := fsys.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return wal.SyncDir(fsys, parent)
}

// names lists what is in the directory, but for what outlives the data of a node: the lock of the
// process, what a file system puts there, Raft's store, the orphans, and the former identity.
func (d DataDir) names() ([]string, error) {
	all, err := d.FS.List(d.Path)
	if err != nil {
		return nil, fmt.Errorf("list data directory: %w", err)
	}
	stays := []string{PIDFile, "lost+found", raftFolder, orphanFolder, formerFile}
	return slices.DeleteFunc(all, func(name string) bool { return slices.Contains(stays, name) }), nil
}

func (d DataDir) mustBeEmpty() error {
	names, err := d.names()
	if err != nil || len(names) == 0 {
		return err
	}
	return fmt.Errorf("%s holds %q: %w: use another directory, or empty this one", d.Path, names[0], ErrNotOurs)
}

// clear removes everything but what outlives a node's data and the mark that the rest is worth
// nothing, and then that.
func (d DataDir) clear() error {
	if err := d.keepIdentity(); err != nil {
		return err
	}
	// A crash from here on leaves the mark, and the identity under the one name or the other.
	names, err := d.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == buildingFile {
			continue
		}
		if err := d.FS.RemoveAll(d.join(name)); err != nil {
			return fmt.Errorf("remove what an interrupted start left: %w", err)
		}
	}
	if err := wal.SyncDir(d.FS, d.Path); err != nil {
		return err
	}
	if err := d.FS.Remove(d.join(buildingFile)); err != nil {
		return err
	}
	return wal.SyncDir(d.FS, d.Path)
}

// keepIdentity makes the identity in a directory to be cleared the former one. If there is none, which
// may be because this was done before, the former one stays as it is.
func (d DataDir) keepIdentity() error {
	if _, known, err := d.former(identityFile); err != nil || !known {
		return err
	}
	return d.FS.Rename(d.join(identityFile), d.join(formerFile))
}

// Discard marks the data in the directory as worth nothing: the next Open clears it. The mark has no
// content, so there is no temporary file that a crash could leave in an empty folder.
func (d DataDir) Discard() error {
	f, err := d.FS.Create(d.join(buildingFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("mark the data directory as unfinished: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("mark the data directory as unfinished: %w", err)
	}
	return wal.SyncDir(d.FS, d.Path)
}

// Build makes an empty folder a data directory. fill puts the content in place: it finds the folders
// made. Until the identity has been written and the mark removed, the directory counts as empty,
// and the next Open clears it. An id that keeps the Name and NodeID which Open returned has another
// Incarnation all the same: what the discarded one had promised and acknowledged is gone.
func (d DataDir) Build(id Identity, fill func() (Control, error)) error {
	if err := d.Discard(); err != nil {
		return err
	}
	// Whoever made the folder may have died before its name was durable. One that we may not open,
	// the folder above, is somebody else's, who made this one long ago.
	if err := wal.SyncDir(d.FS, d.FS.PathDir(d.Path)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, path := range []string{d.WAL(), d.Global(), d.Slots()} {
		if err := d.FS.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
	control, err := fill()
	if err != nil {
		return err
	}
	if err := control.Write(d.FS, d.Global()); err != nil {
		return err
	}
	if err := d.writeIdentity(id); err != nil {
		return err
	}
	// A crash here, or from here on, leaves one identity or two, with the same name and node id.
	if err := d.FS.Remove(d.join(formerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The commit point: before this the directory is cleared, after it it is a node's.
	if err := d.FS.Remove(d.join(buildingFile)); err != nil {
		return err
	}
	return wal.SyncDir(d.FS, d.Path)
}

func (d DataDir) writeIdentity(id Identity) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	return wal.WriteFileDurably(d.FS, d.Path, identityFile, append(b, '\n'))
}

// NewCluster makes the directory the first node of a new cluster: an empty log that begins at
// segment 1, and an empty store.
func (d DataDir) NewCluster(id Identity) error {
	return d.Build(id, func() (Control, error) {
		w := wal.NewDir(d.FS, d.WAL(), id.Format())
		if err := w.Allocate(1, 1); err != nil {
			return Control{}, err
		}
		start := id.SegmentSize.Start(1)
		return Control{Epoch: 1, PromisedEpoch: 1, Timeline: 1, Redo: start, Durable: start, ReignStart: start, Horizon: start, NextXID: 3, Clean: true, Time: time.Now().UTC()}, nil
	})
}

// Format is what readers of the node's log must know.
func (id Identity) Format() wal.Format {
	return wal.Format{Version: wal.PG15, SegmentSize: id.SegmentSize, SystemID: id.SystemID}
}
