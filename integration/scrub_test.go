package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// onFirstTimeline is the name of a segment.
func onFirstTimeline(segno uint64) string { return segmentSize.FileName(1, segno) }

// rot changes a byte in the middle of a segment, and returns what puts it right.
func (n *node) rot(segno uint64) (restore func()) {
	n.t.Helper()
	const at = int64(segmentSize)/2 + 1000
	good := n.segment(onFirstTimeline(segno))[at]
	put := func(b byte) {
		f, err := os.OpenFile(filepath.Join(n.walDir(), onFirstTimeline(segno)), os.O_RDWR, 0)
		if err != nil {
			n.t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b}, at); err != nil {
			n.t.Fatal(err)
		}
	}
	put(good ^ 0x20)
	return func() { put(good) }
}

// lose takes a segment away.
func (n *node) lose(segno uint64) {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.walDir(), onFirstTimeline(segno))); err != nil {
		n.t.Fatal(err)
	}
}

// haveSame checks that all nodes have the same segments.
func (c *cluster) haveSame(segnos ...uint64) {
	c.t.Helper()
	for _, segno := range segnos {
		want := c.node(1).segment(onFirstTimeline(segno))
		for _, n := range c.nodes {
			if got := n.segment(onFirstTimeline(segno)); got == nil || !bytes.Equal(got, want) {
				c.t.Errorf("segment %d of %s is not that of n1", segno, n.name)
			}
		}
	}
}

// fillSegments has the log reach a segment.
func (n *node) fillSegments(to uint64) {
	n.t.Helper()
	for i := 0; segmentSize.Segno(n.flushed()) < to; i++ {
		n.exec(fmt.Sprintf("INSERT INTO kv VALUES ('k%d', '%s') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", i%7, strings.Repeat("x", 50_000)))
	}
}

// awaitRedo waits until recovery would begin behind a segment.
func (n *node) awaitRedo(segno uint64) {
	n.t.Helper()
	ctx, cancel := testContext(n.t)
	defer cancel()
	for ; ctx.Err() == nil; moment(ctx) {
		if c, err := startup.ReadControl(vfs.Default, filepath.Join(n.dir, "global")); err == nil && segmentSize.Segno(c.Redo) > segno {
			return
		}
	}
	n.t.Fatalf("%s: recovery would need segment %d", n.name, segno)
}

// What rots in closed segments is found and repaired from another member, on the primary, too. What nobody has
// is said, and stays known. It keeps nobody from being promoted who can do without it, restarted or not, and is
// repaired by itself once somebody has it.
func TestScrub(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "--wal-keep-size=64MB")
	p, standbys := c.primary(), c.standbys()
	p.fillSegments(6)
	c.awaitCaughtUp()
	p.rot(2)
	standbys[0].rot(3)
	standbys[1].lose(2)
	p.set("wal_scrub_rate", "1GB")
	for _, n := range c.nodes {
		n.await("SELECT repaired FROM longship_wal_scrub WHERE damaged = 0", "1")
	}
	c.haveSame(1, 2, 3)

	restore := map[*node]func(){}
	for _, n := range c.nodes {
		restore[n] = n.rot(4)
	}
	p.set("wal_scrub_rate", "2GB")
	for _, n := range c.nodes {
		n.await("SELECT damaged FROM longship_wal_scrub", "1")
		n.awaitRedo(4) // a checkpoint has recovery do without it
	}
	p.await("SELECT count(*) FROM longship_members WHERE damaged_lsn IS NOT NULL", "3")
	s := standbys[0]
	s.kill9()
	s.start()
	s.await("SELECT damaged FROM longship_wal_scrub", "1")
	c.awaitStreaming()
	c.switchover(s)
	c.awaitStreaming()
	s.kill9()
	next := c.primary()
	next.await("SELECT damaged FROM longship_wal_scrub", "1")
	next.exec("INSERT INTO kv VALUES ('after', 'all')")
	restore[standbys[1]]()
	s.start()
	for _, n := range c.nodes {
		n.await("SELECT damaged FROM longship_wal_scrub", "0")
	}
	c.haveSame(1, 2, 3, 4)
	c.awaitStreaming()
	c.checkSame()
}

// A log that is damaged where recovery has to read it is repaired at the start, if another member has what is
// missing.
func TestRepairAtStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.primary().fillSegments(4)
	c.awaitCaughtUp()
	s := c.standbys()[0]
	for _, damage := range []func(){
		func() { s.rot(2) },
		func() { s.lose(3) },
		func() { os.Truncate(filepath.Join(s.walDir(), onFirstTimeline(2)), int64(segmentSize)/2) },
	} {
		s.kill9()
		damage()
		s.start()
		c.awaitCaughtUp()
		c.haveSame(2, 3)
	}
	checkSameWAL(t, c.primary(), s, wal.LSN(4*segmentSize))
	c.checkSame()
}

// Damage before redo in the segment that is being written keeps nobody from writing on: the node that has it and the
// longest log becomes primary, and hands out all but what is damaged. Once the segment is full it is repaired.
func TestDamageInTheOpenSegment(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	p, standbys := c.primary(), c.standbys()
	size := int64(segmentSize)
	for i := 0; segmentSize.Offset(p.flushed()) < size*7/8; i++ {
		p.exec(fmt.Sprintf("INSERT INTO kv VALUES ('k%d', '%s') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value", i, strings.Repeat("x", 20_000)))
	}
	c.awaitCaughtUp()
	for _, n := range c.nodes {
		n.exec("CHECKPOINT")
	}
	c.awaitCaughtUp()
	segno := segmentSize.Segno(p.flushed())
	for _, s := range standbys {
		s.kill9()
	}
	p.exec("SET synchronous_commit = local; INSERT INTO kv VALUES ('local', '1')")
	p.kill9()
	p.rot(segno)
	p.launch()
	for _, s := range standbys {
		s.launch()
	}
	c.primary().exec("INSERT INTO kv VALUES ('after', '1')")
	for _, n := range c.nodes {
		n.awaitReady()
	}
	c.primary().fillSegments(segno + 1)
	p.await("SELECT damaged FROM longship_wal_scrub", "0")
	c.awaitStreaming()
	c.checkSame()
}
