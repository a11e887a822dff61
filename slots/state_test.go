package slots

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"
)

// The file is a format: it does not change by accident.
func TestStateBytes(t *testing.T) {
	got := appendState([]byte("x"), "n1", state{restart: 0x16_B374D848, invalidatedAt: 0x1_00000002, number: 0x0A})
	const want = "78" + "4c535253" + "31fda07b" + "02" + "02" + "48d874b316000000" + "0200000001000000" + "0a00000000000000" + "6e31"
	if hex.EncodeToString(got) != want {
		t.Errorf("appendState = %x, want %s", got, want)
	}
}

// No byte of the file can change unnoticed, nor can the file be cut or go on.
func TestDecodeStateNoticesDamage(t *testing.T) {
	good := appendState(nil, "n1", state{restart: 7})
	if name, st, err := decodeState(good); name != "n1" || st != (state{restart: 7}) || err != nil {
		t.Fatalf("decodeState = %q, %v, %v", name, st, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, _, err := decodeState(bad); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		if _, _, err := decodeState(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	if _, _, err := decodeState(append(good, 0)); err == nil {
		t.Error("one byte more: accepted")
	}
}

// A file of a later version is not guessed at.
func TestDecodeStateOfAnotherVersion(t *testing.T) {
	b := appendState(nil, "n1", state{restart: 7})
	b[8]++
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	if _, _, err := decodeState(b); err == nil || !strings.Contains(err.Error(), "version 3, want 2") {
		t.Errorf("decodeState = %v", err)
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendState(nil, "n1", state{restart: 1 << 24}))
	f.Add(appendState(nil, strings.Repeat("x", maxNameLen), state{invalidatedAt: 1<<64 - 1}))
	f.Add(appendState(nil, "Not legal", state{}))
	f.Add(appendState(nil, "", state{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, st, err := decodeState(b)
		if err != nil {
			return
		}
		if CheckName(name) != nil {
			t.Fatalf("accepted the name %q", name)
		}
		if again := appendState(nil, name, st); !bytes.Equal(again, b) {
			t.Fatalf("%x read and written again is %x", b, again)
		}
	})
}
