package kv

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Work in the background rests for as long as it has worked, not after every step, and not while others wait for it.
func TestPacer(t *testing.T) {
	for _, c := range []struct {
		worked, rests time.Duration
		hurried       bool
	}{
		{worked: paceSlice - 1},
		{worked: paceSlice, rests: paceSlice},
		{worked: 3 * time.Millisecond, rests: 3 * time.Millisecond},
		{worked: time.Second, rests: paceRest},
		{worked: time.Second, hurried: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &Store{memory: newMemtable(0), limit: 1 << 20}
			if c.hurried {
				s.memory.insert([]memRow{{key: "a", memVersion: memVersion{value: make([]byte, s.limit)}}})
			}
			rest := s.pacer()
			for range 2 {
				time.Sleep(c.worked)
				began := time.Now()
				rest()
				if got := time.Since(began); got != c.rests {
					t.Errorf("after %v of work, hurried %v: rests %v, want %v", c.worked, c.hurried, got, c.rests)
				}
				if c.rests == 0 && !c.hurried {
					return // it counts with what comes
				}
			}
		})
	}
}

// Pebble's files of the table are written with rests, others, which commits may wait for, without.
func TestPacedFiles(t *testing.T) {
	rests := 0
	fs := pacedFS{vfs.NewMem(), func() func() { return func() { rests++ } }}
	for _, name := range []string{"000001.sst", "MANIFEST-000001", "000002.log"} {
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if n, err := f.Write([]byte("data")); n != 4 || err != nil {
				t.Error(n, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if rests != 3 {
		t.Errorf("%d rests for three writes of a table's file", rests)
	}
}
