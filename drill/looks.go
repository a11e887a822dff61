package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/wal"
)

// A look is what one statement found on a node, whatever the node's role: the rows with keys in [lo, hi).
type look struct {
	node    string
	session int     // looks of a session are in order
	token   wal.LSN // the position that the session had waited for before; 0: for none
	lo, hi  string
	rows    map[string]cell
}

// A cell is a value and the commit that wrote it.
type cell struct {
	value string
	lsn   wal.LSN
}

// observe looks at a node until the work ends.
func (w *work) observe(node, address string) {
	w.clients.Go(func() {
		o := &observer{work: w, node: node, random: rand.New(rand.NewPCG(w.seed, hash(address)))}
		for w.ctx.Err() == nil {
			o.watch(address)
			sleep(w.ctx, 5*reconnectPause)
		}
	})
}

// hash makes a number of a name, so that each observer chooses for itself.
func hash(name string) (h uint64) {
	for _, b := range []byte(name) {
		h = h*131 + uint64(b)
	}
	return h
}

// An observer looks at one node.
type observer struct {
	*work
	node   string
	random *rand.Rand
}

// lookPause is between two looks.
const lookPause = 10 * time.Millisecond

// watch looks in one session, until that fails.
func (o *observer) watch(address string) {
	cfg, err := o.login.connConfig("any", address)
	if err != nil {
		return
	}
	conn, err := pgx.ConnectConfig(o.ctx, cfg)
	if err != nil {
		return // it may be down
	}
	defer hangUp(conn)
	o.mu.Lock()
	o.looking++
	session := o.looking
	o.mu.Unlock()
	for o.ctx.Err() == nil {
		if err := o.look(conn, session); err != nil {
			return
		}
		sleep(o.ctx, lookPause)
	}
}

// look reads a few rows, every other time after it has waited for the newest commit that anybody was told of.
func (o *observer) look(conn *pgx.Conn, session int) error {
	ctx, cancel := context.WithTimeout(o.ctx, statementTimeout)
	defer cancel()
	l := look{node: o.node, session: session, rows: map[string]cell{}}
	o.mu.Lock()
	l.lo, l.hi = o.rangeLocked()
	if o.random.IntN(2) == 0 {
		l.token = o.token
	}
	o.mu.Unlock()
	if err := waitFor(ctx, conn, l.token); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "SELECT key, value, lsn::text FROM kv WHERE key >= $1 AND key < $2", l.lo, l.hi)
	if err != nil {
		return err
	}
	var key, value, at string
	_, err = pgx.ForEachRow(rows, []any{&key, &value, &at}, func() error {
		lsn, err := wal.ParseLSN(at)
		l.rows[key] = cell{value, lsn}
		return err
	})
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks = append(o.looks, l)
	return nil
}

// rangeLocked is the keys to look at: all registers of the era, or the newest rows of a client, those to come included.
// The caller holds o.mu.
func (o *observer) rangeLocked() (lo, hi string) {
	registers := o.key("register", o.era)
	if o.random.IntN(2) == 0 || len(o.newest) == 0 {
		return registers, registers[:len(registers)-1] + "0" // '0' comes after '/'
	}
	skip := o.random.IntN(len(o.newest))
	for id := 1; ; id++ {
		newest, ok := o.newest[id]
		if !ok {
			continue
		}
		if skip == 0 {
			return o.rowKey(o.era, id, max(0, newest-10)), o.rowKey(o.era, id, newest+10)
		}
		skip--
	}
}

func (l look) String() string {
	return fmt.Sprintf("%s, session %d, keys from %s to before %s, having waited for %s", l.node, l.session, l.lo, l.hi, l.token)
}
