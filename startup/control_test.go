package startup

import (
	"errors"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var someControl = Control{
	PromisedEpoch: 5,
	Epoch:         4,
	Timeline:      4,
	Checkpoint:    0x1000028,
	Redo:          0x1000000,
	Durable:       0x10000A0,
	ReignStart:    0x300000,
	Horizon:       0x10000A0,
	NextXID:       77,
	Clean:         true,
	Time:          time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
}

func TestControlFile(t *testing.T) {
	fsys := vfs.NewMem()
	must(t, fsys.MkdirAll("/global", 0o700))
	if _, err := ReadControl(fsys, "/global"); !errors.Is(err, ErrNoControl) {
		t.Errorf("without a file: %v", err)
	}
	must(t, someControl.Write(fsys, "/global"))
	got, err := ReadControl(fsys, "/global")
	if err != nil || got != someControl {
		t.Errorf("wrote %+v\nread %+v, %v", someControl, got, err)
	}
}

// No bit of the file may be flipped, and nothing may be missing or added.
func TestControlDamaged(t *testing.T) {
	b, err := someControl.Encode()
	must(t, err)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := parseControl(b); err == nil {
				t.Errorf("bit %d of byte %d flipped: accepted", bit, i)
			}
			b[i] ^= 1 << bit
		}
		if _, err := parseControl(b[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	if _, err := parseControl(append(b, '\n')); err == nil {
		t.Error("a byte more: accepted")
	}
}

// A file with a good checksum may still be another version's.
func TestControlOfAnotherVersion(t *testing.T) {
	for _, text := range []string{
		``,
		`{}`,
		`[]`,
		`{"redo": "0/1000000", "timeline": 1, "future": 1}`,
		`{"redo": "0/0", "timeline": 1}`,
		`{"redo": "0/1000000", "timeline": 0}`,
		`{"redo": "0/1000000", "timeline": 1, "epoch": 2, "promised_epoch": 1}`,
		`{"redo": 16777216, "timeline": 1}`,
	} {
		if c, err := parseControl(withChecksum(text + "\n")); err == nil {
			t.Errorf("%s: accepted as %+v", text, c)
		}
	}
	if _, err := parseControl(withChecksum(`{"redo": "0/1000000", "timeline": 1}`)); err != nil {
		t.Error(err)
	}
}

func withChecksum(text string) []byte {
	return fmt.Appendf([]byte(text), "crc32c %08x\n", crc32.Checksum([]byte(text), castagnoli))
}

func FuzzControl(f *testing.F) {
	b, _ := someControl.Encode()
	f.Add(string(b))
	f.Add(`{"redo": "0/1000000", "timeline": 1}`)
	f.Add(`{"redo": "0/1000000", "timeline": 1, "damage": {"faults": [{"from": "0/1000028", "prev": "0/0", "to": "0/1000050", "reason": "x"}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, b := range [][]byte{[]byte(text), withChecksum(text)} {
			c, err := parseControl(b)
			if err != nil {
				continue
			}
			again, err := c.Encode()
			if err != nil {
				continue // a time that JSON cannot print
			}
			if got, err := parseControl(again); err != nil || !got.Time.Equal(c.Time) {
				t.Fatalf("%+v, %v, want %+v", got, err, c)
			}
		}
	})
}
