package walreceiver

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/longship-db/longship/wal"
)

// maxManifest bounds a backup manifest: some 200 bytes a file.
const maxManifest = 256 << 20

// A manifest lists the files of a base backup (PostgreSQL 15 manual, "Backup Manifest Format").
type manifest struct {
	Version int            `json:"PostgreSQL-Backup-Manifest-Version"`
	Files   []manifestFile `json:"Files"`
}

type manifestFile struct {
	Path        string `json:"Path"`
	EncodedPath string `json:"Encoded-Path"` // hexadecimal, instead of Path
	Size        int64  `json:"Size"`
	Algorithm   string `json:"Checksum-Algorithm"`
	Checksum    string `json:"Checksum"`
}

// endOfPart checks what a part of the stream is followed by.
func (s *copyStream) endOfPart(part byte) error {
	if part == msgNewArchive && s.part != msgManifest {
		return errors.New("protocol violation: the base backup has no manifest")
	}
	return io.EOF
}

// manifest reads the last part of the stream.
func (s *copyStream) manifest() ([]byte, error) {
	if s.part != msgManifest {
		return nil, errors.New("protocol violation: the base backup has no manifest")
	}
	text, err := io.ReadAll(io.LimitReader(s, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxManifest {
		return nil, fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	s.report(true)
	return text, nil
}

// checksumLine is how the manifest's last line begins. Its checksum covers all before that line.
const checksumLine = "\"Manifest-Checksum\": \""

func parseManifest(text []byte) (manifest, error) {
	at := bytes.LastIndex(text, []byte(checksumLine))
	if at < 0 {
		return manifest{}, errors.New("the manifest has no checksum")
	}
	sum := sha256.Sum256(text[:at])
	if rest := text[at+len(checksumLine):]; !bytes.HasPrefix(rest, []byte(hex.EncodeToString(sum[:])+"\"}")) {
		return manifest{}, errors.New("the manifest does not match its checksum")
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if m.Version != 1 {
		return manifest{}, fmt.Errorf("unknown manifest version %d", m.Version)
	}
	return m, nil
}

// verify compares what was extracted with the manifest: every file listed is there, whole and
// unchanged, and no other is. WAL segments are not listed; their records carry checksums.
func (x *extractor) verify(text []byte) error {
	m, err := parseManifest(text)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		name, err := f.name()
		if err != nil {
			return err
		}
		if listed[name] {
			return fmt.Errorf("file %q is listed twice", name)
		}
		listed[name] = true
		if err := x.verifyFile(name, &f); err != nil {
			return fmt.Errorf("file %q: %w", name, err)
		}
	}
	for name := range x.files {
		if !listed[name] && !isWAL(name) {
			return fmt.Errorf("file %q is not in the manifest", name)
		}
	}
	return nil
}

func (f *manifestFile) name() (string, error) {
	if f.EncodedPath == "" {
		return f.Path, nil
	}
	b, err := hex.DecodeString(f.EncodedPath)
	if err != nil {
		return "", fmt.Errorf("manifest: encoded path %q: %w", f.EncodedPath, err)
	}
	return string(b), nil
}

func (x *extractor) verifyFile(name string, f *manifestFile) error {
	got, ok := x.files[name]
	switch {
	case !ok:
		return errors.New("is missing")
	case got.size != f.Size:
		return fmt.Errorf("has %d bytes, want %d", got.size, f.Size)
	case f.Algorithm != "CRC32C":
		return fmt.Errorf("has a checksum of unexpected kind %q", f.Algorithm)
	}
	// The manifest shows the four bytes as they lie in memory.
	if crc := hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, got.crc)); crc != f.Checksum {
		return fmt.Errorf("has checksum %s, want %s", crc, f.Checksum)
	}
	return nil
}

// isWAL reports whether an archive member is a segment or a history file.
func isWAL(name string) bool {
	file, ok := strings.CutPrefix(name, "pg_wal/")
	if !ok {
		return false
	}
	_, history := wal.ParseHistoryFileName(file)
	return history || wal.IsSegmentName(file)
}
