package walreceiver

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

var copyDone = &pgproto3.CopyDone{}

// A member is an entry of a test archive.
type member struct {
	name string
	typ  byte // default: a file, or a directory if name ends in /
	data string
	link string
	size int64 // default: of data
}

func archiveOf(members ...member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.typ, Size: int64(len(m.data)), Mode: 0o600, Linkname: m.link, Format: tar.FormatUSTAR}
		if m.typ == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(m.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if m.size > 0 {
			h.Size = m.size
			h.Format = tar.FormatGNU
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		w.Write([]byte(m.data))
		if m.size > 0 {
			return b.Bytes() // the archive ends inside the member
		}
	}
	w.Close()
	return b.Bytes()
}

// manifestOf lists the files among members that are not WAL.
func manifestOf(members ...member) string {
	var lines []string
	for _, m := range members {
		if strings.HasSuffix(m.name, "/") || isWAL(m.name) {
			continue
		}
		crc := binary.LittleEndian.AppendUint32(nil, crc32.Checksum([]byte(m.data), castagnoli))
		lines = append(lines, fmt.Sprintf(`{ "Path": %q, "Size": %d, "Last-Modified": "2026-11-21 01:39:18 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "%x" }`, m.name, len(m.data), crc))
	}
	return seal("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n" + strings.Join(lines, ",\n") + "\n],\n" +
		"\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/200028\", \"End-LSN\": \"0/200100\" }\n],\n")
}

func seal(text string) string {
	return fmt.Sprintf("%s\"Manifest-Checksum\": \"%x\"}\n", text, sha256.Sum256([]byte(text)))
}

var goodMembers = []member{
	{name: "backup_label", data: "START WAL LOCATION: 0/200028\n"},
	{name: "pg_wal/"},
	{name: "pg_wal/archive_status/"},
	{name: "store/"},
	{name: "store/000001.sst", data: strings.Repeat("sorted", 20000)},
	{name: "store/empty"},
	{name: "global/control", data: "{}"},
	{name: "pg_wal/000000010000000000000002", data: strings.Repeat("\x00", 4096)},
}

// A script is what a primary sends in answer to BASE_BACKUP.
type script struct {
	archive  []byte
	manifest string
	chunk    int
	spaces   [][]any
	finish   func(c *fakeConn) // instead of everything after the archive
}

func (s *script) play(c *fakeConn) {
	c.handshake()
	c.expect("IDENTIFY_SYSTEM")
	c.rows("IDENTIFY_SYSTEM", []any{uint64(testSystemID), 1, "0/200100", nil})
	c.expect("BASE_BACKUP ( LABEL ")
	c.resultSet("SELECT", []any{"0/200028", 1})
	if s.spaces == nil {
		s.spaces = [][]any{{nil, nil, 120}}
	}
	c.resultSet("SELECT", s.spaces...)
	if len(s.spaces) > 1 {
		return
	}
	c.be.Send(&pgproto3.CopyOutResponse{})
	c.be.Send(&pgproto3.CopyData{Data: []byte("nbase.tar\x00\x00")})
	for part := range slices.Chunk(s.archive, max(s.chunk, 1000)) {
		c.be.Send(&pgproto3.CopyData{Data: append([]byte{'d'}, part...)})
	}
	c.be.Send(&pgproto3.CopyData{Data: []byte("p\x00\x00\x00\x00\x00\x00\x10\x00")})
	if s.finish != nil {
		s.finish(c)
		c.be.Flush()
		c.nc.Close()
		return
	}
	c.be.Send(&pgproto3.CopyData{Data: []byte{'m'}})
	c.be.Send(&pgproto3.CopyData{Data: append([]byte{'d'}, s.manifest...)})
	c.be.Send(copyDone)
	c.be.Send(&pgproto3.RowDescription{})
	c.be.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("0/200100"), []byte("1")}})
	c.be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
	c.be.Send(&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")})
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	c.be.Flush() // fails when the copy was given up, as it should
}

// copyFrom runs BaseCopy against the script.
func copyFrom(t *testing.T, s *script, fs vfs.FS, dest string, progress func(done, total int64)) (wal.LSN, wal.TimelineID, error) {
	t.Helper()
	ours, theirs := loopback(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.play(newFakeConn(t, theirs))
	}()
	cfg := testConfig(t)
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return ours, nil }
	lsn, tli, err := BaseCopy(t.Context(), cfg, fs, dest, progress)
	<-done
	return lsn, tli, err
}

// tree lists all files below root with their content.
func tree(t *testing.T, fs vfs.FS, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := fs.List(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(root, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			for below, data := range tree(t, fs, path) {
				files[name+"/"+below] = data
			}
			continue
		}
		b, err := wal.ReadFile(fs, path, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	return files
}

// A base copy is the primary's files, durable when BaseCopy returns.
func TestBaseCopy(t *testing.T) {
	for _, chunk := range []int{1000, 32 << 10, 1 << 20} {
		fs := vfs.NewCrashableMem()
		var last, total int64
		lsn, tli, err := copyFrom(t, &script{archive: archiveOf(goodMembers...), manifest: manifestOf(goodMembers...), chunk: chunk}, fs, "n2", func(done, of int64) {
			if done < last {
				t.Errorf("progress went back from %d to %d", last, done)
			}
			last, total = done, of
		})
		if err != nil || lsn != 0x200028 || tli != 1 {
			t.Fatalf("BaseCopy() = %s, %d, %v", lsn, tli, err)
		}
		if last < 120000 || total != 120<<10 {
			t.Errorf("progress ended at %d of %d", last, total)
		}
		got := tree(t, fs.CrashClone(vfs.CrashCloneCfg{}), "n2")
		for _, m := range goodMembers {
			if data, ok := got[m.name]; !strings.HasSuffix(m.name, "/") && (!ok || data != m.data) {
				t.Errorf("%s is not as it was sent", m.name)
			}
		}
	}
}

// Whatever a primary sends: a copy that is not right fails, and nothing outside dest changes.
func TestBaseCopyHostile(t *testing.T) {
	with := func(m member) []member { return append(slices.Clone(goodMembers), m) }
	good, list := archiveOf(goodMembers...), manifestOf(goodMembers...)
	changed := bytes.Replace(good, []byte("sortedsorted"), []byte("sortedsorteD"), 1)
	tests := map[string]*script{
		"parent":              {archive: archiveOf(with(member{name: "../evil"})...)},
		"inner parent":        {archive: archiveOf(with(member{name: "store/../../evil"})...)},
		"parent folder":       {archive: archiveOf(with(member{name: "../evil/"})...)},
		"absolute":            {archive: archiveOf(with(member{name: "/tmp/longship-evil"})...)},
		"backslash":           {archive: archiveOf(with(member{name: `..\evil`})...)},
		"drive":               {archive: archiveOf(with(member{name: "C:evil"})...)},
		"dot":                 {archive: archiveOf(with(member{name: "./"})...)},
		"unclean":             {archive: archiveOf(with(member{name: "store//x"})...)},
		"symlink":             {archive: archiveOf(with(member{name: "link", typ: tar.TypeSymlink, link: "/etc"})...)},
		"hard link":           {archive: archiveOf(with(member{name: "link", typ: tar.TypeLink, link: "../secret"})...)},
		"device":              {archive: archiveOf(with(member{name: "dev", typ: tar.TypeBlock})...)},
		"twice":               {archive: archiveOf(with(member{name: "global/control", data: "{ }"})...)},
		"file as folder":      {archive: archiveOf(with(member{name: "global/control/x"})...)},
		"folder as file":      {archive: archiveOf(with(member{name: "store"})...)},
		"exists already":      {archive: archiveOf(with(member{name: "mine"})...)},
		"huge":                {archive: archiveOf(member{name: "store/big", size: 1 << 60})},
		"large and cut short": {archive: archiveOf(member{name: "store/big", size: 1 << 40})},
		"truncated":           {archive: good[:len(good)/2]},
		"no end":              {archive: archiveOf(goodMembers[:4]...)},
		"not a tar":           {archive: bytes.Repeat([]byte("x"), 5000)},
		"changed":             {archive: changed},
		"unlisted":            {archive: archiveOf(with(member{name: "store/evil"})...)},
		"unlisted in pg_wal":  {archive: archiveOf(with(member{name: "pg_wal/evil"})...)},
		"missing":             {archive: good, manifest: manifestOf(with(member{name: "store/more"})...)},
		"manifest changed":    {archive: good, manifest: strings.Replace(list, "backup_label", "backup_lobel", 1)},
		"manifest cut":        {archive: good, manifest: list[:len(list)-30]},
		"manifest empty":      {archive: good, manifest: "{}"},
		"manifest version":    {archive: good, manifest: seal("{ \"PostgreSQL-Backup-Manifest-Version\": 3,\n")},
		"manifest twice":      {archive: good, manifest: manifestOf(append(slices.Clone(goodMembers), goodMembers[0])...)},
		"tablespaces":         {spaces: [][]any{{16384, "/elsewhere", 1}, {nil, nil, 1}}},
		"no manifest":         {archive: good, finish: func(c *fakeConn) { c.be.Send(copyDone) }},
		"second archive":      {archive: good, finish: func(c *fakeConn) { c.be.Send(&pgproto3.CopyData{Data: []byte("n../x.tar\x00\x00")}) }},
		"error":               {archive: good, finish: func(c *fakeConn) { c.be.Send(&pgproto3.ErrorResponse{Code: "XX000", Message: "no"}) }},
		"hang up":             {archive: good, finish: func(c *fakeConn) {}},
		"hang up inside":      {archive: good[:100000], finish: func(c *fakeConn) {}},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			if s.manifest == "" {
				s.manifest = list
			}
			dest := filepath.Join(t.TempDir(), "n2")
			fs := vfs.Default
			if err := fs.MkdirAll(dest, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := wal.WriteFileDurably(fs, dest, "mine", []byte("mine")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := copyFrom(t, s, fs, dest, nil); err == nil {
				t.Error("the copy succeeded")
			} else {
				t.Log(err)
			}
			if names, err := fs.List(filepath.Dir(dest)); err != nil || len(names) != 1 {
				t.Errorf("beside dest: %v, %v", names, err)
			}
			if got := tree(t, fs, dest); got["mine"] != "mine" {
				t.Error("a file that was there has changed")
			}
		})
	}
	if ok, _ := wal.Exists(vfs.Default, "/tmp/longship-evil"); ok {
		t.Error("a file outside dest was written")
	}
}

// No archive or manifest makes the reader panic, or leaves anything outside its directory.
func FuzzExtract(f *testing.F) {
	small := append(slices.Clone(goodMembers[:4]), member{name: "global/control", data: "{}"})
	f.Add(archiveOf(small...), manifestOf(small...))
	f.Add(archiveOf(member{name: "../evil"}), "{}")
	f.Add(archiveOf(member{name: "link", typ: tar.TypeSymlink, link: "/etc"}), seal("{"))
	f.Fuzz(func(t *testing.T, archive []byte, text string) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("base/n2", 0o700); err != nil {
			t.Fatal(err)
		}
		x := newExtractor(fs, "base/n2")
		if x.extract(bytes.NewReader(archive)) == nil {
			x.verify([]byte(text))
		}
		for dir, want := range map[string]string{"": "base", "base": "n2"} {
			if names, err := fs.List(dir); err != nil || len(names) != 1 || names[0] != want {
				t.Errorf("%q holds %v, %v", dir, names, err)
			}
		}
	})
}

// No bytes of a stream make the verifier panic, hold back what is whole, or hand out what is not.
func FuzzVerifier(f *testing.F) {
	log := makeLog(f, 10, 200, 9000, 40)
	f.Add(log.bytes[:400], uint16(100), uint32(5), byte(0))
	f.Add(log.bytes, uint16(8192), uint32(8200), byte(3))
	f.Fuzz(func(t *testing.T, b []byte, portion uint16, at uint32, flip byte) {
		if len(b) == 0 || portion == 0 {
			return
		}
		b = bytes.Clone(b)
		b[int(at)%len(b)] ^= flip
		v := newVerifier(testFormat, timeline1, mark{End: emptyEnd})
		var out []byte
		for part := range slices.Chunk(b, int(portion)) {
			ready, err := v.add(part)
			out = append(out, ready...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(b, out) || v.end.LSN != logStart+wal.LSN(len(out)) {
			t.Errorf("handed out %d bytes that were not received, or end %s", len(out), v.end.LSN)
		}
	})
}
