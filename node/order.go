package node

import (
	"context"
	"sync"
)

// orders are changes of the primary that sessions have asked for. One goes on when its session ends, as
// on the old primary it does on the way; and the session does not wait for it then, or the node could
// not leave office before somebody else is in office.
type orders struct {
	ctx    context.Context // of all of them
	cancel context.CancelFunc
	going  sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

func newOrders() *orders {
	ctx, cancel := context.WithCancel(context.Background())
	return &orders{ctx: ctx, cancel: cancel}
}

// do carries out an order, and returns what comes of it, or the cause of the end of ctx if that comes
// first. The order has handOverTimeout in any case.
func (o *orders) do(ctx context.Context, order func(context.Context) (primary string, err error)) (string, error) {
	type outcome struct {
		primary string
		err     error
	}
	done := make(chan outcome, 1)
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return "", errShuttingDown()
	}
	o.going.Go(func() {
		ctx, cancel := context.WithTimeout(o.ctx, handOverTimeout)
		defer cancel()
		primary, err := order(ctx)
		done <- outcome{primary, err}
	})
	o.mu.Unlock()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case out := <-done:
		return out.primary, out.err
	}
}

// close ends all orders and refuses others.
func (o *orders) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.going.Wait()
}
