package walsender

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"github.com/longship-db/longship/wal"
)

// gmt is how times are written in a manifest and a backup label.
const gmt = "2006-01-02 15:04:05 GMT"

// A checksum is an algorithm for the files of a manifest, by PostgreSQL's name.
type checksum string

const (
	checksumNone   checksum = "NONE"
	checksumCRC32C checksum = "CRC32C"
	checksumSHA224 checksum = "SHA224"
	checksumSHA256 checksum = "SHA256"
	checksumSHA384 checksum = "SHA384"
	checksumSHA512 checksum = "SHA512"
)

func checksumByName(name string) (checksum, bool) {
	switch c := checksum(strings.ToUpper(name)); c {
	case checksumNone, checksumCRC32C, checksumSHA224, checksumSHA256, checksumSHA384, checksumSHA512:
		return c, true
	}
	return "", false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newHash is nil for NONE.
func (c checksum) newHash() hash.Hash {
	switch c {
	case checksumCRC32C:
		return crc32.New(castagnoli)
	case checksumSHA224:
		return sha256.New224()
	case checksumSHA256:
		return sha256.New()
	case checksumSHA384:
		return sha512.New384()
	case checksumSHA512:
		return sha512.New()
	}
	return nil
}

// sumText is a checksum as a manifest has it. A CRC is written as it lies in the memory of a little
// endian machine.
func sumText(h hash.Hash) string {
	if crc, ok := h.(hash.Hash32); ok {
		return hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, crc.Sum32()))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A manifest is the backup_manifest of a backup, version 1: JSON whose every byte matters, because
// the last line is a checksum of all before it (PostgreSQL 15 manual, "Backup Manifest Format").
type manifest struct {
	checksum    checksum
	forceEncode bool // write every path in hex
	text        bytes.Buffer
	files       int
}

func newManifest(c checksum, forceEncode bool) *manifest {
	m := &manifest{checksum: c, forceEncode: forceEncode}
	m.text.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")
	return m
}

// add lists a file. sum has seen its content; nil without checksums.
func (m *manifest) add(f *BackupFile, sum hash.Hash) {
	if m.files++; m.files > 1 {
		m.text.WriteByte(',')
	}
	m.text.WriteString("\n{ ")
	if m.forceEncode || !utf8.ValidString(f.Path) {
		fmt.Fprintf(&m.text, "\"Encoded-Path\": \"%x\", ", f.Path)
	} else {
		path, _ := json.Marshal(f.Path) // a string can always be marshalled
		fmt.Fprintf(&m.text, "\"Path\": %s, ", path)
	}
	fmt.Fprintf(&m.text, "\"Size\": %d, \"Last-Modified\": %q", f.Size, f.ModTime.UTC().Format(gmt))
	if sum != nil {
		fmt.Fprintf(&m.text, ", \"Checksum-Algorithm\": %q, \"Checksum\": %q", m.checksum, sumText(sum))
	}
	m.text.WriteString(" }")
}

// A walRange is log that a recovery needs.
type walRange struct {
	timeline   wal.TimelineID
	start, end wal.LSN
}

// finish ends the manifest and returns it.
func (m *manifest) finish(ranges []walRange) []byte {
	m.text.WriteString("\n],\n\"WAL-Ranges\": [")
	for i, r := range ranges {
		if i > 0 {
			m.text.WriteByte(',')
		}
		fmt.Fprintf(&m.text, "\n{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }", r.timeline, r.start, r.end)
	}
	m.text.WriteString("\n],\n")
	sum := sha256.Sum256(m.text.Bytes())
	fmt.Fprintf(&m.text, "\"Manifest-Checksum\": \"%x\"}\n", sum)
	return m.text.Bytes()
}
