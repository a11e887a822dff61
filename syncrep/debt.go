package syncrep

import (
	"sync/atomic"

	"github.com/longship-db/longship/wal"
)

// A Debt is what a primary acknowledged alone, because the rule could not be met and the cluster agreed to
// do without it for a while. Nobody else need have it.
type Debt struct {
	From    wal.LSN // it begins there
	Bytes   uint64  // of the log
	Commits uint64  // that were acknowledged above level Local, in this epoch
}

// debt is a Group's. Zero: there is none.
type debt struct {
	from    atomic.Uint64 // an LSN, if it owes
	owes    atomic.Bool
	commits atomic.Uint64
	limit   wal.LSN // guarded by Group.mu: nothing is released past it; 0 = no limit
}

// Owe says that what is released past from with nobody having acknowledged it is a debt, and that nothing
// is past limit, at any level above Local; 0 is no limit. It is called before the rules that incur it.
// What was released is not taken back.
func (g *Group) Owe(from, limit wal.LSN) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := &g.debt
	d.from.Store(uint64(from))
	d.owes.Store(true)
	if d.limit != limit {
		d.limit = limit
		g.release()
	}
}

// Settle says that there is no debt any more. It is called after the rules under which it was paid.
func (g *Group) Settle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := &g.debt
	if !d.owes.Load() {
		return
	}
	d.owes.Store(false)
	d.commits.Store(0)
	d.limit = 0
	g.release()
}

// Debt returns the debt, and whether there is one.
func (g *Group) Debt() (Debt, bool) {
	d := &g.debt
	if !d.owes.Load() {
		return Debt{}, false
	}
	now := Debt{From: wal.LSN(d.from.Load()), Commits: d.commits.Load()}
	if bare := g.bare.Load(); bare > uint64(now.From) {
		now.Bytes = bare - uint64(now.From)
	}
	return now, true
}

// AtRisk reports whether a commit that Wait let go at level is part of the debt: only this primary is
// sure to have it.
func (g *Group) AtRisk(lsn wal.LSN, level Level) bool {
	d := &g.debt
	return level > Local && d.owes.Load() && uint64(lsn) > d.from.Load() && uint64(lsn) <= g.bare.Load()
}
