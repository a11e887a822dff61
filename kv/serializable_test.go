package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// Transactions of many goroutines, of all kinds at once, that append to lists and read keys and ranges, while
// the horizon moves and the applier applies: what each has read, and whether it could commit, can have
// happened with one after the other.
func TestTransactionsAreStrictlySerializable(t *testing.T) {
	clients, each := 8, 250
	if testing.Short() {
		each = 100
	}
	x := newTestTable(t, TableOptions{MaxPendingBytes: 50_000})
	kick, stop := x.runAlone()
	w := &listClients{table: x, kick: kick, gen: history.Generator{Keys: 4, MaxOps: 4, Rounds: 60}}
	var running sync.WaitGroup
	for id := range clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(id), 5))
			for range each {
				w.run(id, random)
			}
		})
	}
	running.Wait()
	stop()
	txns := w.recorder.Txns()
	committed := 0
	for _, t := range txns {
		if t.Outcome == history.Committed {
			committed++
		}
	}
	if committed < len(txns)/4 || committed == len(txns) {
		t.Errorf("%d of %d transactions have committed: there is no conflict, or little else", committed, len(txns))
	}
	for i, anomaly := range history.Check(txns) {
		if t.Errorf("%v", anomaly); i == 3 {
			break
		}
	}
}

// runAlone applies, and moves the horizon: at once with some commits, and with others when kick is called.
// stop ends it.
func (x *testTable) runAlone() (kick, stop func()) {
	work := make(chan struct{}, 1)
	kick = func() {
		select {
		case work <- struct{}{}:
		default:
		}
	}
	x.log.inserted = func(c logged) {
		if c.end%3 != 0 {
			x.horizon.Advance(c.end)
		}
		kick()
	}
	var applying sync.WaitGroup
	applying.Go(func() {
		for range work {
			x.horizon.Advance(wal.LSN(x.added.Load()))
			if err := x.applyTo(x.horizon.Load()); err != nil {
				x.t.Error(err)
			}
		}
	})
	return kick, func() {
		close(work)
		applying.Wait()
	}
}

// listClients run made-up transactions and note them.
type listClients struct {
	table    *testTable
	kick     func()
	gen      history.Generator
	recorder history.Recorder
	clock    atomic.Int64
}

// run runs one, as the node would for a client that asks for what it may: the answer waits for the horizon.
func (w *listClients) run(client int, random *rand.Rand) {
	ctx := context.Background()
	t := &history.Txn{Client: client, Ops: w.gen.Next(random), Outcome: history.Aborted}
	opts := TxnOptions{Latest: random.IntN(3) == 0, Exclusive: random.IntN(20) == 0}
	t.Call = w.clock.Add(1)
	tx := w.table.Begin(opts)
	err := runOps(ctx, tx, t.Ops)
	runtime.Gosched()
	if err == nil {
		var lsn wal.LSN
		if lsn, err = tx.Commit(ctx); err == nil {
			t.Outcome = history.Committed
			w.kick()
			err = w.table.horizon.Wait(ctx, lsn)
		}
	}
	t.Return = w.clock.Add(1)
	if err != nil && !errors.Is(err, ErrConflict) {
		w.table.t.Error(err)
	}
	w.recorder.Add(t)
}

// runOps does what the operations say and notes what they find.
func runOps(ctx context.Context, tx *Txn, ops []history.Op) error {
	for i := range ops {
		runtime.Gosched() // so that transactions overlap, which are too short otherwise
		o := &ops[i]
		switch o.Kind {
		case history.Read, history.Append:
			row, _, err := tx.Get(ctx, o.Key)
			if err != nil {
				return err
			}
			if o.Kind == history.Append {
				err = tx.Put(o.Key, []byte(string(row.Value)+o.Item()))
			} else {
				o.List, err = history.ParseList(string(row.Value))
			}
			if err != nil {
				return err
			}
		case history.Range:
			o.Lists = map[string][]int{}
			for row, err := range tx.Scan(ctx, Range{Lo: o.Key, Hi: o.Hi}) {
				if err != nil {
					return err
				}
				list, err := history.ParseList(string(row.Value))
				if err != nil {
					return fmt.Errorf("%s: %w", row.Key, err)
				}
				o.Lists[row.Key] = list
			}
		}
	}
	return nil
}
