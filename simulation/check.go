package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A checker looks, once everything is well again and the clients have ended, at what they were told and at what
// the nodes have.
type checker struct {
	cluster *cluster
	work    *workload
	admin   *Host
	table   map[string]string // as all nodes have it in the end
}

// run reports what is wrong to the trace.
func (k *checker) run() {
	t := k.cluster.trace
	horizon, err := k.readAll()
	if err != nil {
		t.fail("check", fmt.Errorf("read everything: %w", err))
		return
	}
	for i, anomaly := range history.Check(k.work.recorder.Txns()) {
		if t.fail("history", fmt.Errorf("%v", anomaly)); i == 3 {
			break
		}
	}
	for _, line := range t.tally.unfounded() {
		t.fail("damage", fmt.Errorf("nobody has made it: %s", line))
	}
	k.countUnknown()
	k.countEpochs()
	if err := errors.Join(k.awaitWitnesses(horizon), k.compareLogs(horizon)); err != nil {
		t.fail("logs", err)
	}
}

// awaitWitnesses waits until the primary has heard from the witnesses, whom nobody else can ask, that they have the log
// up to a position. One may be behind: with small buffers, for one.
func (k *checker) awaitWitnesses(upTo wal.LSN) error {
	for _, m := range k.cluster.machines {
		if !m.witness {
			continue
		}
		at, err := k.flushed(m)
		for deadline := time.Now().Add(8 * patience); at < upTo && time.Now().Before(deadline); at, err = k.flushed(m) {
			time.Sleep(100 * time.Millisecond)
		}
		if at < upTo {
			return errors.Join(fmt.Errorf("%s, a witness, has the log up to %s; the horizon is %s", m.name, at, upTo), err)
		}
	}
	return nil
}

// flushed is how far a node has the log, as the primary knows it.
func (k *checker) flushed(m *machine) (wal.LSN, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	primary := k.cluster.machine(k.cluster.trace.tally.leader())
	if primary == nil {
		return 0, errNotPrimary
	}
	conn, err := dial(ctx, k.admin, primary, node.AdminDatabase)
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	rows, err := query(ctx, conn, "SELECT application_name, flush_lsn FROM pg_stat_replication")
	for _, r := range rows {
		if r[0] == m.name {
			return wal.ParseLSN(r[1])
		}
	}
	return 0, err
}

// readAll reads the whole table at the primary, as one more transaction of the history, and on every other node that
// has one, which must have the same. It returns the position up to which all have applied the log.
func (k *checker) readAll() (wal.LSN, error) {
	var horizon wal.LSN
	order := slices.DeleteFunc(slices.Clone(k.cluster.machines), func(m *machine) bool { return m.witness })
	primary := k.cluster.trace.tally.leader()
	slices.SortStableFunc(order, func(a, b *machine) int { return btoi(b.name == primary) - btoi(a.name == primary) })
	for i, m := range order {
		x := &history.Txn{Client: math.MaxInt, Outcome: history.Committed, Stale: i > 0, Call: k.work.clock.Add(1)}
		x.Ops = []history.Op{{Kind: history.Range, Key: "list/", Hi: "list0"}}
		rows, at, err := k.read(m, horizon)
		if err != nil {
			return 0, fmt.Errorf("at %s: %w", m.name, err)
		}
		horizon = max(horizon, at)
		if x.Ops[0].Lists, err = parseLists(rows); err != nil {
			return 0, err
		}
		x.Return = k.work.clock.Add(1)
		k.work.recorder.Add(x)
		table := map[string]string{}
		for _, r := range rows {
			table[r[0]] = r[1]
		}
		if i == 0 {
			k.table = table
		}
		if err := sameTable(table, k.table); err != nil {
			return 0, fmt.Errorf("%s beside %s: %w", m.name, order[0].name, err)
		}
	}
	return horizon, nil
}

// sameTable tells the first difference between two tables.
func sameTable(a, b map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if there, ok := b[key]; !ok || there != a[key] {
			return fmt.Errorf("%s is %.200q here and %.200q there", key, a[key], there)
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d rows here and %d there", len(a), len(b))
	}
	return nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func parseLists(rows [][]string) (map[string][]int, error) {
	lists := map[string][]int{}
	for _, r := range rows {
		if !strings.HasPrefix(r[0], "list/") {
			continue
		}
		list, err := history.ParseList(r[1])
		if err != nil {
			return nil, err
		}
		lists[r[0]] = list
	}
	return lists, nil
}

// read reads the table of a node, once it has the log up to a position, and how far it has it then.
func (k *checker) read(m *machine, upTo wal.LSN) ([][]string, wal.LSN, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	conn, err := dial(ctx, k.admin, m, "longship")
	if err != nil {
		return nil, 0, err
	}
	defer hangUp(conn)
	wait := fmt.Sprintf("WAIT FOR LSN '%s' TIMEOUT %d", upTo, (8 * patience).Milliseconds())
	if err := execute(ctx, conn, wait); err != nil {
		return nil, 0, err
	}
	rows, err := query(ctx, conn, "SELECT key, value FROM kv ORDER BY key")
	if err != nil {
		return nil, 0, err
	}
	at, err := query(ctx, conn, "SELECT horizon FROM longship_cluster")
	if err != nil || len(at) != 1 {
		return nil, 0, fmt.Errorf("horizon: %v: %w", at, err)
	}
	horizon, err := wal.ParseLSN(at[0][0])
	return rows, horizon, err
}

// countUnknown tells how many transactions of unknown outcome have committed.
func (k *checker) countUnknown() {
	txns := k.work.recorder.Txns()
	there := map[int]bool{}
	for _, list := range txns[len(txns)-1].Ops[0].Lists {
		for _, n := range list {
			there[n] = true
		}
	}
	for _, x := range txns {
		for _, o := range x.Ops {
			if o.Kind != history.Append || x.Outcome == history.Aborted {
				continue
			}
			switch {
			case x.Outcome == history.Committed && !there[o.Value]:
				k.cluster.trace.fail("history", fmt.Errorf("acknowledged and lost: %v", x))
			case x.Outcome == history.Unknown && there[o.Value]:
				k.cluster.trace.tally.add("unknown result that did commit")
			case x.Outcome == history.Unknown:
				k.cluster.trace.tally.add("unknown result that did not commit")
			}
			break
		}
	}
}

// countEpochs tells how many epochs were never steady, how often two in a row, and how often the log forked again where
// it had forked before.
func (k *checker) countEpochs() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := dial(ctx, k.admin, k.cluster.machines[0], node.AdminDatabase)
	if err != nil {
		return
	}
	defer hangUp(conn)
	rows, err := query(ctx, conn, "SELECT epoch, steady, parent FROM longship_history ORDER BY epoch")
	if err != nil {
		k.cluster.trace.fail("history of epochs", err)
	}
	t, before, parents := k.cluster.trace.tally, "t", map[string]bool{}
	for _, r := range rows {
		if r[1] == "f" {
			t.add("epoch never steady")
			if before == "f" {
				t.add("two epochs in a row never steady")
			}
		}
		if parents[r[2]] {
			t.add("forked twice in one epoch")
		}
		before, parents[r[2]] = r[1], r[2] != ""
	}
}

// A diskLog is the log on a node's disk.
type diskLog struct {
	name    string
	fs      *Mount
	dir     *wal.Dir
	history wal.History
	control startup.Control
	first   wal.LSN // of the log that is there
}

// compareLogs takes all nodes down, and compares their logs, byte by byte, up to the horizon, and their tables
// with what the log makes.
func (k *checker) compareLogs(horizon wal.LSN) error {
	var logs []diskLog
	for _, m := range k.cluster.machines {
		m.kill(false)
		if m.flipped.Load() {
			continue // it is known to differ, and nobody has read that yet
		}
		l, err := openLog(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		logs = append(logs, l)
	}
	if len(logs) == 0 {
		return nil
	}
	slices.SortStableFunc(logs, func(a, b diskLog) int { return int(int64(a.first) - int64(b.first)) })
	for _, l := range logs[1:] {
		if err := sameBytes(logs[0], l, horizon); err != nil {
			return err
		}
	}
	if logs[0].first > logs[0].dir.Format.SegmentSize.Start(1) {
		return nil // the beginning of the log is gone everywhere: there is nothing to make a table from
	}
	return k.fold(logs[0], horizon)
}

func openLog(m *machine) (diskLog, error) {
	l := diskLog{name: m.name, fs: NewMount(m.content(), func() time.Duration { return 0 })}
	data := startup.DataDir{FS: l.fs, Path: dataDir}
	var err error
	if l.control, err = startup.ReadControl(l.fs, data.Global()); err != nil {
		return l, err
	}
	format := wal.Format{SegmentSize: wal.MinSegmentSize, Version: wal.PG15}
	l.dir = wal.NewDir(l.fs, data.WAL(), format)
	if l.history, err = l.dir.ReadHistory(l.control.Timeline); err != nil {
		return l, err
	}
	segments, err := l.dir.Segments()
	if err != nil || len(segments) == 0 {
		return l, errors.Join(errors.New("no segments"), err)
	}
	last := uint64(math.MaxUint64)
	for _, s := range segments {
		last = min(last, s.Segno)
	}
	l.first = format.SegmentSize.Start(last)
	return l, nil
}

// sameBytes compares two logs from where both begin.
func sameBytes(a, b diskLog, end wal.LSN) error {
	at := max(a.first, b.first)
	ra, rb := wal.NewRawReader(a.dir, a.history, nil), wal.NewRawReader(b.dir, b.history, nil)
	defer ra.Close()
	defer rb.Close()
	pa, pb := make([]byte, 64<<10), make([]byte, 64<<10)
	for at < end {
		n := min(len(pa), int(end-at))
		if err := readFull(ra, pa[:n], at); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		if err := readFull(rb, pb[:n], at); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if !bytes.Equal(pa[:n], pb[:n]) {
			i := 0
			for pa[i] == pb[i] {
				i++
			}
			return fmt.Errorf("the logs of %s and %s differ at %s; the horizon is %s", a.name, b.name, at+wal.LSN(i), end)
		}
		at += wal.LSN(n)
	}
	return nil
}

func readFull(r *wal.RawReader, p []byte, at wal.LSN) error {
	for len(p) > 0 {
		n, err := r.ReadAt(p, at)
		if err != nil {
			return err
		}
		p, at = p[n:], at+wal.LSN(n)
	}
	return nil
}

// fold makes a table from the log, from its beginning, and compares it with that which the clients have read.
func (k *checker) fold(l diskLog, end wal.LSN) error {
	r := wal.NewReader(wal.NewRawReader(l.dir, l.history, nil), l.first, 0)
	defer r.Close()
	table := map[string]string{}
	for {
		rec, ok, err := r.Next(end)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		if !ok {
			break
		}
		if rec.Rmgr != wal.RmgrLongship || rec.Info&^0x0f != kv.InfoCommit {
			continue
		}
		c, err := kv.DecodeCommit(rec.Data)
		if err != nil {
			return fmt.Errorf("%s: record at %s: %w", l.name, rec.LSN, err)
		}
		for _, o := range c.Ops {
			key := strings.Clone(o.Key) // it is in the reader's buffer
			if o.Kind == kv.Put {
				table[key] = string(o.Value)
			} else {
				delete(table, key)
			}
		}
	}
	if err := sameTable(table, k.table); err != nil {
		return fmt.Errorf("made from the log of %s up to %s, beside the nodes' table: %w", l.name, end, err)
	}
	return nil
}
