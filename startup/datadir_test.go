package startup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/longship-db/longship/internal/slow"
	"github.com/longship-db/longship/wal"
)

func TestOpenForeignFolders(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  string // part of the error; empty: the folder counts as empty
	}{
		{"nothing", nil, ""},
		{"a lock file", []string{PIDFile}, ""},
		{"a mount point", []string{"lost+found/x"}, ""},
		{"Raft's store alone", []string{"raft/raft.db"}, ""},
		{"orphans alone", []string{"orphans/2-0-1000028/summary.json"}, ""},
		{"what outlives a node's data", []string{"raft/raft.db", "orphans/x/y", formerFile, PIDFile}, ""},
		{"somebody's file beside it", []string{"raft/raft.db", "thesis.doc"}, "holds \"thesis.doc\""},
		{"an interrupted start", []string{buildingFile, identityFile, "pg_wal/000000010000000000000001"}, ""},
		{"somebody's files", []string{"thesis.doc"}, "holds \"thesis.doc\""},
		{"a PostgreSQL cluster", []string{"PG_VERSION"}, "not a Longship data directory"},
		{"a folder of a node, without its identity", []string{"pg_wal/000000010000000000000001"}, "holds \"pg_wal\""},
		{"an empty identity", []string{identityFile}, "node.json"},
	}
	for _, tt := range tests {
		d := DataDir{FS: vfs.NewMem(), Path: "/n1"}
		for _, name := range tt.files {
			path := d.join(name)
			must(t, d.FS.MkdirAll(d.FS.PathDir(path), 0o700))
			f, err := d.FS.Create(path, vfs.WriteCategoryUnspecified)
			must(t, err)
			must(t, f.Close())
		}
		state, _, err := d.Open()
		switch {
		case tt.want == "" && (err != nil || state != Empty):
			t.Errorf("%s: %v, %v", tt.name, state, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if strings.Contains(tt.want, "holds") && !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, name := range tt.files {
			// Only what carries the mark is cleared.
			there, err := wal.Exists(d.FS, d.join(name))
			if marked := tt.files[0] == buildingFile; err != nil || there == marked {
				t.Errorf("%s: %s is there: %v, %v", tt.name, name, there, err)
			}
		}
	}
}

func TestIdentity(t *testing.T) {
	good, err := json.Marshal(testIdentity)
	must(t, err)
	if id, err := parseIdentity(good); err != nil || id != testIdentity {
		t.Errorf("%+v, %v", id, err)
	}
	for _, change := range []struct{ field, value string }{
		{"name", `""`},
		{"node_id", `"0000000000000000"`},
		{"node_id", `"123"`},
		{"node_id", `"0123456789abcdef0"`},
		{"node_id", `"0123456789abcdeg"`},
		{"node_id", `7`},
		{"incarnation", `"0000000000000000"`},
		{"incarnation", `"+123456789abcdef"`},
		{"system_identifier", `"0"`},
		{"system_identifier", `1`},
		{"segment_size", `1048577`},
		{"segment_size", `0`},
		{"pg_version", `16`},
	} {
		var fields map[string]json.RawMessage
		must(t, json.Unmarshal(good, &fields))
		fields[change.field] = json.RawMessage(change.value)
		b, err := json.Marshal(fields)
		must(t, err)
		if id, err := parseIdentity(b); err == nil {
			t.Errorf("%s = %s: accepted as %+v", change.field, change.value, id)
		}
		delete(fields, change.field)
		b, err = json.Marshal(fields)
		must(t, err)
		if id, err := parseIdentity(b); err == nil {
			t.Errorf("without %s: accepted as %+v", change.field, id)
		}
	}
	for i := range good {
		if _, err := parseIdentity(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	b, _ := json.Marshal(testIdentity)
	f.Add(b)
	f.Add([]byte(`{"node_id": ""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(id)
		must(t, err)
		if got, err := parseIdentity(again); err != nil || got != id {
			t.Fatalf("%+v, %v, want %+v", got, err, id)
		}
	})
}

func TestRandomIDs(t *testing.T) {
	if a, b := RandomID(), RandomID(); a == b || a == 0 || b == 0 {
		t.Error(a, b)
	}
}

// Whenever the power fails while a directory is made, it is a node's as a whole or it is empty, and
// can be made then. Once Build has returned it stays.
func TestBuildPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(4) {
		c := newCutter(t, seed, 1)
		d := DataDir{FS: c.fs(), Path: "/srv/longship/n1"}
		c.on(func(cut func() *vfs.MemFS) error {
			d := DataDir{FS: cut(), Path: d.Path}
			return opensOrBuilds(d)
		})
		_, _, err := d.Open()
		must(t, err)
		must(t, d.NewCluster(testIdentity))
		c.off()
		state, id, err := DataDir{FS: after(c.disk), Path: d.Path}.Open()
		if state != Ready || id != testIdentity || err != nil {
			t.Fatal(state, id, err)
		}
	}
}

func opensOrBuilds(d DataDir) error {
	state, id, err := d.Open()
	if err != nil {
		return err
	}
	if state == Empty {
		if names, err := d.names(); err != nil || len(names) > 0 {
			return fmt.Errorf("empty, but it holds %q, %v", names, err)
		}
		if err := d.NewCluster(testIdentity); err != nil {
			return err
		}
		d.FS = after(d.FS)
		if state, id, err = d.Open(); err != nil {
			return err
		}
	}
	if state != Ready || id != testIdentity {
		return fmt.Errorf("state %d, identity %+v", state, id)
	}
	l, err := load(d)
	if err == nil && l.end != (wal.End{LSN: segment.Start(1), Timeline: 1}) {
		err = fmt.Errorf("the log ends at %+v", l.end)
	}
	return err
}

// leave puts what outlives a node's data into a directory.
func leave(t *testing.T, d DataDir) {
	t.Helper()
	for _, dir := range []string{d.Raft(), d.FS.PathJoin(d.orphans(), "1-0-100028")} {
		must(t, d.FS.MkdirAll(dir, 0o700))
		must(t, wal.WriteFileDurably(d.FS, dir, "x", []byte("kept")))
	}
	must(t, wal.SyncDir(d.FS, d.orphans()))
	must(t, wal.SyncDir(d.FS, d.Path))
}

// left checks that it is still there.
func left(d DataDir) error {
	for _, dir := range []string{d.Raft(), d.FS.PathJoin(d.orphans(), "1-0-100028")} {
		if b, err := wal.ReadFile(d.FS, d.FS.PathJoin(dir, "x"), 100); err != nil || string(b) != "kept" {
			return fmt.Errorf("%s: %q, %w", dir, b, err)
		}
	}
	return nil
}

// A directory that is made anew is, whenever the power fails, the old incarnation of the node, or the
// new one, or empty, and then it knows whose it is. Raft's store and the orphans are there all the time.
func TestRebuildPowerCuts(t *testing.T) {
	slow.Test(t)
	next := testIdentity
	next.Incarnation = 8
	for seed := range uint64(6) {
		c := newCutter(t, seed, 1)
		d := newCluster(t, c.fs())
		leave(t, d)
		c.on(func(cut func() *vfs.MemFS) error {
			d := DataDir{FS: cut(), Path: d.Path}
			for range 2 { // an empty one stays empty
				state, id, err := d.Open()
				switch former := (Identity{Name: testIdentity.Name, NodeID: testIdentity.NodeID}); {
				case err != nil:
					return err
				case state == Empty && id != former || state == Ready && id != testIdentity && id != next:
					return fmt.Errorf("state %d, identity %+v", state, id)
				}
				d.FS = after(d.FS)
			}
			return left(d)
		})
		must(t, d.Discard())
		_, _, err := d.Open()
		must(t, err)
		must(t, d.NewCluster(next))
		c.off()
		d.FS = after(c.disk)
		state, id, err := d.Open()
		if state != Ready || id != next || err != nil {
			t.Errorf("state %d, identity %+v, %v", state, id, err)
		}
		must(t, left(d))
		if there, err := wal.Exists(d.FS, d.join(formerFile)); there || err != nil {
			t.Errorf("the former identity is there: %v, %v", there, err)
		}
		if c.cuts < 10 {
			t.Errorf("%d power cuts", c.cuts)
		}
	}
}

// Whose a directory was is not known if that cannot be read: it is made for a new node then.
func TestFormerIsDamaged(t *testing.T) {
	for _, file := range []string{identityFile, formerFile} {
		d := newCluster(t, vfs.NewCrashableMem())
		must(t, d.Discard())
		if file == formerFile {
			_, _, err := d.Open()
			must(t, err)
		}
		must(t, wal.WriteFileDurably(d.FS, d.Path, file, []byte("{")))
		state, id, err := d.Open()
		if state != Empty || id != (Identity{}) || err != nil {
			t.Errorf("%s damaged: state %d, identity %+v, %v", file, state, id, err)
		}
	}
}

// A directory that is discarded is a node's, or empty: never a part of one.
func TestDiscardPowerCuts(t *testing.T) {
	slow.Test(t)
	for seed := range uint64(12) {
		c := newCutter(t, seed, 1)
		d := newCluster(t, c.fs())
		p := startPrimary(t, d)
		p.commitFlushed(0, 10)
		p.stop()
		c.on(func(cut func() *vfs.MemFS) error {
			d := DataDir{FS: cut(), Path: d.Path}
			state, _, err := d.Open()
			if err != nil || state == Empty {
				return errors.Join(err, opensOrBuilds(d))
			}
			l, err := load(d)
			if err == nil && l.n != 10 {
				err = fmt.Errorf("%d transactions", l.n)
			}
			return err
		})
		must(t, d.Discard())
		d.FS = c.fs()
		state, _, err := d.Open()
		c.off()
		if state != Empty || err != nil {
			t.Fatal(state, err)
		}
	}
}

// Whichever operation fails while a directory is made, the error is reported, and the next attempt
// succeeds.
func TestBuildErrors(t *testing.T) {
	slow.Test(t)
	for n := 0; ; n++ {
		disk := vfs.NewCrashableMem()
		ops := 0
		d := DataDir{FS: errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileClose {
				return nil
			}
			if ops++; ops == n {
				return errorfs.ErrInjected
			}
			return nil
		})), Path: "/n1"}
		_, _, err := d.Open()
		if err == nil {
			err = d.NewCluster(testIdentity)
		}
		if n > ops {
			must(t, err)
			break
		}
		if n > 0 && err == nil {
			t.Fatalf("operation %d failed, and nothing was said", n)
		}
		if err := opensOrBuilds(DataDir{FS: disk, Path: "/n1"}); err != nil {
			t.Fatalf("after operation %d had failed: %v", n, err)
		}
	}
}

// A base backup is known by its label and its control file; what has only one of them is somebody else's.
func TestOpenBaseBackup(t *testing.T) {
	d := DataDir{FS: vfs.NewMem(), Path: "copy"}
	if err := d.FS.MkdirAll(d.Global(), 0o700); err != nil {
		t.Fatal(err)
	}
	control := Control{Epoch: 2, PromisedEpoch: 2, Timeline: 2, Redo: 0x300000}
	if err := control.Write(d.FS, d.Global()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(); !errors.Is(err, ErrNotOurs) {
		t.Errorf("without a label: %v, want ErrNotOurs", err)
	}
	if err := wal.WriteFileDurably(d.FS, d.Path, labelFile, []byte("START WAL LOCATION")); err != nil {
		t.Fatal(err)
	}
	if state, _, err := d.Open(); err != nil || state != Copied {
		t.Fatalf("Open: %v, %v; want Copied", state, err)
	}
	id := Identity{Name: "n4", NodeID: 4, Incarnation: 44, SystemID: 1, SegmentSize: 1 << 20, PGVersion: wal.PG15.Major}
	if err := d.Adopt(id); err != nil {
		t.Fatal(err)
	}
	if state, got, err := d.Open(); err != nil || state != Ready || got != id {
		t.Errorf("after Adopt: %v, %+v, %v; want Ready and its identity", state, got, err)
	}
	if err := d.FS.Remove(d.join(identityFile)); err != nil {
		t.Fatal(err)
	}
	if err := d.FS.RemoveAll(d.Global()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(); err == nil {
		t.Error("a label without a control file is taken for a base backup")
	}
}
