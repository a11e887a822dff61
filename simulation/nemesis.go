package simulation

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/startup"
	"github.com/longship-db/longship/wal"
)

// A nemesis makes trouble.
type nemesis struct {
	cluster *cluster
	tally   *tally
	admin   *Host
	kinds   []fault       // that this run has
	pause   time.Duration // between two faults, at most
	sound   bool          // no disk has been lost since every member was known to have all that was acknowledged
}

// A fault is a kind of trouble. Its function returns at once, or after it is over.
type fault struct {
	name string
	make func(*nemesis, context.Context) (what string) // "": not now
}

// faults are all kinds of trouble.
var faults = []fault{
	{"process killed", (*nemesis).killOne},
	{"power cut", (*nemesis).powerOne},
	{"primary killed", (*nemesis).killPrimary},
	{"several killed at once", (*nemesis).killSeveral},
	{"power cut everywhere", (*nemesis).powerAll},
	{"cut off", (*nemesis).isolate},
	{"cut off one way", (*nemesis).cutOneWay},
	{"cut off from each other", (*nemesis).cutPair},
	{"cluster divided", (*nemesis).divide},
	{"frozen", (*nemesis).freeze},
	{"connections reset", (*nemesis).reset},
	{"network slow", (*nemesis).slow},
	{"buffers small", (*nemesis).narrow},
	{"disk hangs", (*nemesis).hang},
	{"disk slow", (*nemesis).slowDisk},
	{"disk full", (*nemesis).fill},
	{"sync fails", (*nemesis).failSync},
	{"disk lost", (*nemesis).wipe},
	{"bit flipped", (*nemesis).flip},
	{"bit flipped in the log of the next primary", (*nemesis).rot},
	{"switchover", (*nemesis).switchover},
	{"rule changed", (*nemesis).changeRule},
	{"member removed", (*nemesis).remove},
	{"reign after reign", (*nemesis).chase},
	{"rule changed and primary gone", (*nemesis).overlap},
	{"the preferred one is behind", (*nemesis).outrun},
	{"promised and without power", (*nemesis).forget},
	{"two commit by themselves", (*nemesis).strand},
	{"two primaries", (*nemesis).usurp},
	{"the only one that acknowledges fails", (*nemesis).deny},
}

// run makes trouble until ctx ends.
func (n *nemesis) run(ctx context.Context) {
	n.expendable(ctx)
	for ctx.Err() == nil {
		sleep(ctx, n.cluster.rng.upTo(n.pause))
		if ctx.Err() != nil {
			return
		}
		f := n.kinds[n.cluster.rng.n(len(n.kinds))]
		if what := f.make(n, ctx); what != "" {
			n.tally.add("fault: " + f.name)
			n.cluster.trace.add("!", f.name+": "+what)
		}
		if n.cluster.rng.chance(30) {
			n.heal()
		}
	}
}

// heal ends all that does not end by itself.
func (n *nemesis) heal() {
	n.cluster.trace.add("!", "network and disks are well")
	n.cluster.network.Heal()
	for _, m := range n.cluster.machines {
		if p := m.current(); p != nil {
			p.mount.Break(nil)
			p.mount.Hang(time.Time{})
			p.mount.Slow("", 0)
			p.mount.Disk().SetFull(false)
		}
	}
}

func (n *nemesis) pick() *machine {
	return n.cluster.machines[n.cluster.rng.n(len(n.cluster.machines))]
}

// someone is the primary half of the time.
func (n *nemesis) someone() *machine {
	if m := n.cluster.machine(n.tally.leader()); m != nil && n.cluster.rng.chance(50) {
		return m
	}
	return n.pick()
}

// down takes a machine down, and has it come back after a while.
func (n *nemesis) down(m *machine, power bool) string {
	away := n.cluster.rng.upTo(10 * time.Second)
	if n.cluster.rng.chance(40) {
		away = n.cluster.rng.upTo(time.Second)
	}
	return n.downFor(m, power, away)
}

func (n *nemesis) downFor(m *machine, power bool, away time.Duration) string {
	if !m.kill(power) {
		return ""
	}
	go func() {
		time.Sleep(away)
		m.start()
	}()
	return fmt.Sprintf("%s for %v", m.name, away)
}

// powerOff takes a machine's power away, for a while if a process runs there; otherwise one will.
func (n *nemesis) powerOff(m *machine, away time.Duration) string {
	if what := n.downFor(m, true, away); what != "" {
		return what
	}
	m.loseCache()
	return m.name
}

func (n *nemesis) killOne(context.Context) string  { return n.down(n.pick(), false) }
func (n *nemesis) powerOne(context.Context) string { return n.down(n.someone(), true) }

func (n *nemesis) killPrimary(context.Context) string {
	if m := n.cluster.machine(n.tally.leader()); m != nil {
		return n.down(m, n.cluster.rng.chance(50))
	}
	return ""
}

func (n *nemesis) killSeveral(context.Context) string {
	var list []string
	for _, m := range n.cluster.machines {
		if n.cluster.rng.chance(50) {
			list = append(list, n.down(m, n.cluster.rng.chance(50)))
		}
	}
	return strings.Join(list, ", ")
}

func (n *nemesis) powerAll(context.Context) string {
	var list []string
	for _, m := range n.cluster.machines {
		list = append(list, n.down(m, true))
	}
	return strings.Join(list, ", ")
}

// isolate cuts a machine off from the others, and at times from the clients.
func (n *nemesis) isolate(context.Context) string {
	m := n.someone()
	for _, o := range n.cluster.machines {
		n.cutFrom(m, o)
	}
	return m.name
}

func (n *nemesis) cutOneWay(context.Context) string {
	a, b := n.someone(), n.pick()
	if a == b {
		return ""
	}
	if n.cluster.rng.chance(50) {
		a, b = b, a
	}
	n.cluster.network.Cut(a.ip, b.ip)
	return a.name + " to " + b.name
}

// cutPair cuts two machines off from each other; both see all the others.
func (n *nemesis) cutPair(context.Context) string {
	a, b := n.someone(), n.pick()
	if a == b {
		return ""
	}
	n.cutFrom(a, b)
	return a.name + " and " + b.name
}

func (n *nemesis) cutFrom(a, b *machine) {
	if a != b {
		n.cluster.network.Cut(a.ip, b.ip)
		n.cluster.network.Cut(b.ip, a.ip)
	}
}

func (n *nemesis) divide(context.Context) string {
	var sides [2][]string
	side := map[*machine]int{}
	for _, m := range n.cluster.machines {
		side[m] = n.cluster.rng.n(2)
		sides[side[m]] = append(sides[side[m]], m.name)
	}
	for _, a := range n.cluster.machines {
		for _, b := range n.cluster.machines {
			if side[a] != side[b] {
				n.cluster.network.Cut(a.ip, b.ip)
			}
		}
	}
	return fmt.Sprint(sides)
}

// freeze is as close to a stopped process as a simulation gets: it says, hears and writes nothing for a while.
func (n *nemesis) freeze(ctx context.Context) string {
	m := n.someone()
	p := m.current()
	if p == nil {
		return ""
	}
	d := n.cluster.rng.upTo(8 * time.Second)
	p.mount.Hang(time.Now().Add(d))
	n.isolateFromAll(m)
	sleep(ctx, d)
	n.cluster.network.Heal()
	return fmt.Sprintf("%s for %v", m.name, d)
}

func (n *nemesis) isolateFromAll(m *machine) {
	for _, ip := range n.cluster.network.Hosts() {
		if ip != m.ip {
			n.cluster.network.Cut(m.ip, ip)
			n.cluster.network.Cut(ip, m.ip)
		}
	}
}

func (n *nemesis) reset(context.Context) string {
	hosts := n.cluster.network.Hosts()
	a, b := n.someone().ip, hosts[n.cluster.rng.n(len(hosts))]
	if count := n.cluster.network.Reset(a, b, 30+n.cluster.rng.n(71)); count > 0 {
		return fmt.Sprintf("%d between %s and %s", count, a, b)
	}
	return ""
}

func (n *nemesis) slow(context.Context) string {
	a, b := n.someone(), n.pick()
	d := n.cluster.rng.upTo(400 * time.Millisecond)
	n.cluster.network.Slow(a.ip, b.ip, d)
	return fmt.Sprintf("%s to %s by %v", a.name, b.name, d)
}

func (n *nemesis) narrow(context.Context) string {
	a, b := n.someone(), n.pick()
	bytes := 128 << n.cluster.rng.n(6)
	n.cluster.network.Narrow(a.ip, b.ip, bytes)
	n.cluster.network.Reset(a.ip, b.ip, 100)
	return fmt.Sprintf("%d bytes between %s and %s", bytes, a.name, b.name)
}

// hang has a disk hang, at times for longer than the watchdog waits.
func (n *nemesis) hang(context.Context) string {
	m := n.someone()
	p := m.current()
	if p == nil {
		return ""
	}
	d := n.cluster.rng.upTo(5 * time.Second)
	if n.cluster.rng.chance(25) {
		d += 10 * time.Second
	}
	p.mount.Hang(time.Now().Add(d))
	return fmt.Sprintf("%s for %v", m.name, d)
}

// slowDisk has syncs take longer: of everything, of the log, or of Raft's store, so that what is agreed on is late.
func (n *nemesis) slowDisk(context.Context) string {
	m := n.someone()
	p := m.current()
	if p == nil {
		return ""
	}
	where := []string{dataDir, dataDir + "/pg_wal/", dataDir + "/raft/"}[n.cluster.rng.n(3)]
	by := n.cluster.rng.upTo(100 * time.Millisecond)
	p.mount.Slow(where, by)
	return fmt.Sprintf("%s in %s by %v", m.name, where, by)
}

func (n *nemesis) fill(context.Context) string {
	m := n.someone()
	p := m.current()
	if p == nil {
		return ""
	}
	d := n.cluster.rng.upTo(10 * time.Second)
	disk := p.mount.Disk()
	disk.SetFull(true)
	go func() {
		time.Sleep(d)
		for _, disk := range []*Disk{disk, m.content()} {
			disk.SetFull(false)
		}
	}()
	return fmt.Sprintf("%s for %v", m.name, d)
}

// manifests are the files of which a sync or a write that fails has Pebble panic, and with it the process: this
// one, too. So has a sync of their directory.
const manifests = dataDir + "/store/MANIFEST"

// failSync has one sync fail: of the log, of Raft's store, or of any file. What it was to make durable is not, and is
// gone with the power, which fails at times: at once, or before the process has been started again, or after.
func (n *nemesis) failSync(context.Context) string {
	m := n.someone()
	p := m.current()
	if p == nil {
		return ""
	}
	where := []string{dataDir + "/pg_wal/", dataDir + "/raft/", dataDir}[n.cluster.rng.n(3)]
	power, after := n.cluster.rng.chance(70), n.cluster.rng.upTo(4*time.Second)
	if n.cluster.rng.chance(60) {
		after /= 100
	}
	p.failSync(where, func() {
		if power {
			time.AfterFunc(after, func() {
				n.cluster.trace.add("!", "then no power: "+n.powerOff(m, n.cluster.rng.upTo(5*time.Second)))
			})
		}
	})
	return m.name + " in " + where
}

// failSync has the next sync of a file fail whose path begins so, and tells of it.
func (p *process) failSync(where string, tell func()) {
	var failed atomic.Bool
	p.mount.Break(func(op, name string) error {
		spared := strings.HasPrefix(name, manifests) || name == path.Dir(manifests)
		if op != "sync" || !strings.HasPrefix(name, where) || spared || failed.Swap(true) {
			return nil
		}
		tell()
		return syscall.EIO
	})
}

// wipe replaces a disk by an empty one.
func (n *nemesis) wipe(ctx context.Context) string {
	m := n.someone()
	if !n.expendable(ctx) {
		return ""
	}
	return n.wipeOne(m)
}

func (n *nemesis) wipeOne(m *machine) string {
	if !m.kill(true) {
		return ""
	}
	n.sound = false
	m.replaceDisk()
	go func() {
		time.Sleep(n.cluster.rng.upTo(3 * time.Second))
		m.start()
	}()
	return m.name
}

// flip changes a bit of the log, while the node is down, where that is read at the next start.
func (n *nemesis) flip(ctx context.Context) string {
	m := n.pick()
	if !n.expendable(ctx) || !m.kill(false) {
		return ""
	}
	defer m.start()
	return n.flipAt(m, func(l diskLog) (from, to wal.LSN) { return l.control.Redo, l.control.Durable })
}

// flipAt changes a bit of the log of a node that is down, between two positions, if there is something between.
func (n *nemesis) flipAt(m *machine, where func(diskLog) (from, to wal.LSN)) string {
	l, err := openLog(m)
	if err != nil {
		return ""
	}
	from, to := where(l)
	if to <= from {
		return ""
	}
	lsn := from + wal.LSN(n.cluster.rng.n(int(to-from)))
	size := l.dir.Format.SegmentSize
	segno := size.Segno(lsn)
	data := startup.DataDir{FS: l.fs, Path: dataDir}
	name, at := path.Join(data.WAL(), size.FileName(l.history.FileTimeline(segno, size), segno)), size.Offset(lsn)
	n.tally.flipped(m.name)
	if !m.content().Flip(name, at, n.cluster.rng.n(8)) {
		return ""
	}
	n.sound = false
	m.flipped.Store(true)
	return fmt.Sprintf("%s byte %d of %s", m.name, at, name)
}

// settle is what the rule takes to follow when a disk has been replaced, and some more.
const settle = 3 * time.Second

// expendable reports whether a disk may be lost. One may at any time, whatever else is wrong; the next one only when
// every member has had what was acknowledged for a while, so that the rule lists the disks that there are.
func (n *nemesis) expendable(ctx context.Context) bool {
	if !n.sound && n.cluster.whole(ctx, n.admin) == nil {
		sleep(ctx, settle)
		n.sound = n.cluster.whole(ctx, n.admin) == nil
	}
	return n.sound
}

func (n *nemesis) switchover(ctx context.Context) string {
	return n.order(ctx, fmt.Sprintf("SELECT longship_switchover('%s')", n.pick().name))
}

func (n *nemesis) changeRule(ctx context.Context) string {
	rules := []string{"ANY MAJORITY (*)", "ANY 1 (*)", "FIRST 1 (*)", "ANY 1 (n2, n3)", "ANY MAJORITY (*)"}
	if len(n.cluster.machines) > 3 {
		rules = append(rules, "ANY 2 (*)", "FIRST 2 (*)")
	}
	return n.setRule(ctx, rules[n.cluster.rng.n(len(rules))])
}

func (n *nemesis) setRule(ctx context.Context, rule string) string {
	return n.order(ctx, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", rule), "SELECT pg_reload_conf()")
}

// order has a node do something, which may fail.
func (n *nemesis) order(ctx context.Context, statements ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	m := n.pick()
	conn, err := dial(ctx, n.admin, m, node.AdminDatabase)
	if err != nil {
		return ""
	}
	defer hangUp(conn)
	for _, sql := range statements {
		if err := execute(ctx, conn, sql); err != nil {
			n.cluster.trace.add("!", fmt.Sprintf("%s at %s: %v", sql, m.name, err))
			return ""
		}
	}
	return statements[0] + " at " + m.name
}
