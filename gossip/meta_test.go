package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

func testMeta(n uint64) Meta {
	return Meta{
		ID: syncrep.ID{Node: n, Incarnation: n << 32}, Client: "127.0.0.1:5433", Raft: "127.0.0.1:5533",
		Role: Standby, Health: Copying | SlowDisk, Epoch: 3, Write: 0x3000180, Flush: 0x3000100, Replay: 0x2F00000,
	}
}

func TestMetaRoundTrip(t *testing.T) {
	longest := strings.Repeat("h", 215)
	for _, m := range []Meta{{}, testMeta(1), {
		ID: syncrep.ID{Node: math.MaxUint64, Incarnation: math.MaxUint64}, Client: longest, Raft: longest,
		Role: 255, Health: math.MaxUint64, Epoch: math.MaxUint64, Write: math.MaxUint64, Flush: math.MaxUint64, Replay: math.MaxUint64,
	}} {
		b, err := m.encode()
		if err != nil || len(b) > maxMeta {
			t.Fatalf("%+v: %d bytes, %v", m, len(b), err)
		}
		if got, err := decodeMeta(b); err != nil || got != m {
			t.Errorf("decoded %+v, %v, want %+v", got, err, m)
		}
		// A later release appends what this one does not know.
		if got, err := decodeMeta(append(b, 1, 2, 3)); err != nil || got != m {
			t.Errorf("with more behind it: %+v, %v", got, err)
		}
		for n := range b {
			if got, err := decodeMeta(b[:n]); err == nil {
				t.Errorf("%d of %d bytes became %+v", n, len(b), got)
			}
		}
	}
}

// What memberlist would panic on, or what would end up on a terminal, is refused.
func TestMetaRefused(t *testing.T) {
	for _, m := range []Meta{
		{Client: strings.Repeat("h", 256)},
		{Client: strings.Repeat("h", 250), Raft: strings.Repeat("h", 250)},
		{Client: "a b"}, {Raft: "\x1b[2J"}, {Raft: "müll"},
	} {
		if b, err := m.encode(); err == nil {
			t.Errorf("%+v: %d bytes", m, len(b))
		}
	}
	good, err := testMeta(1).encode()
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(good)
	other[0]++
	for _, b := range [][]byte{nil, other, append(bytes.Clone(good), make([]byte, maxMeta)...), bytes.Replace(good, []byte("127"), []byte("1\n7"), 1)} {
		if m, err := decodeMeta(b); err == nil {
			t.Errorf("%q became %+v", b, m)
		}
	}
}

// FuzzDecodeMeta: whatever the bytes, no panic; what is accepted is written and read back the same,
// unless its longer way of writing numbers had left no room.
func FuzzDecodeMeta(f *testing.F) {
	good, err := testMeta(7).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, "later"...))
	f.Add(good[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if got, err := decodeMeta(again); err != nil || got != m {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	})
}

func TestParseKey(t *testing.T) {
	for _, n := range []int{16, 24, 32} {
		key := bytes.Repeat([]byte{0xA7}, n)
		for _, text := range []string{
			hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)),
			base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key) + "\n",
		} {
			if got, err := ParseKey(text); err != nil || !bytes.Equal(got, key) {
				t.Errorf("ParseKey(%q) = %x, %v", text, got, err)
			}
		}
	}
	if key, err := ParseKey(""); key != nil || err != nil {
		t.Errorf("no key: %x, %v", key, err)
	}
	for _, text := range []string{"secret", "a7a7", strings.Repeat("a7", 20), "!" + strings.Repeat("a7", 16)} {
		if key, err := ParseKey(text); err == nil || strings.Contains(err.Error(), text) {
			t.Errorf("ParseKey(%q) = %x, %v", text, key, err)
		}
	}
}

func TestHealthString(t *testing.T) {
	for h, want := range map[Health]string{0: "ok", Copying | SlowDisk: "copying, slow disk", SlowDisk | 1<<40: "slow disk, 0x10000000000"} {
		if got := h.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint64(h), got, want)
		}
	}
}

// What moves with every heartbeat is told now and then, and what somebody may have to act on at once.
func TestNews(t *testing.T) {
	said := testMeta(1)
	for name, c := range map[string]struct {
		change       func(*Meta)
		now, longAgo bool
	}{
		"nothing":         {func(*Meta) {}, false, false},
		"a heartbeat":     {func(m *Meta) { m.Write += 40; m.Flush += 40; m.Replay += 40 }, false, true},
		"less than 1 kB":  {func(m *Meta) { m.Write += 1023; m.Flush += 1023; m.Replay += 1023 }, false, true},
		"1 kB written":    {func(m *Meta) { m.Write += 1024 }, true, true},
		"1 kB flushed":    {func(m *Meta) { m.Flush += 1024 }, true, true},
		"1 kB replayed":   {func(m *Meta) { m.Replay += 1024 }, true, true},
		"a step back":     {func(m *Meta) { m.Write-- }, true, true},
		"another role":    {func(m *Meta) { m.Role = Primary }, true, true},
		"another health":  {func(m *Meta) { m.Health = 0 }, true, true},
		"another epoch":   {func(m *Meta) { m.Epoch++ }, true, true},
		"another address": {func(m *Meta) { m.Client = "127.0.0.1:5434" }, true, true},
	} {
		m := said
		c.change(&m)
		if now, longAgo := m.news(said, false), m.news(said, true); now != c.now || longAgo != c.longAgo {
			t.Errorf("%s: news at once %v, after a while %v; want %v, %v", name, now, longAgo, c.now, c.longAgo)
		}
	}
}

// An idle cluster writes a heartbeat each second, and its nodes announce themselves every ten.
func TestIdleNodeIsQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		beat := func() Meta {
			m := testMeta(1)
			m.Write += wal.LSN(40 * time.Since(began) / time.Second)
			return m
		}
		g := &Gossip{cfg: Config{Meta: beat, timing: defaultTiming}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
		defer cancel()
		told := 0
		g.announce(ctx, func(time.Duration) error { told++; return nil })
		if told != 6 {
			t.Errorf("told %d times in a minute, want 6", told)
		}
	})
}
