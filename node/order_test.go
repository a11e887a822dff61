package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// A session that is ended while its order is carried out ends at once; the order does not.
func TestOrderOutlivesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrders()
		session, end := context.WithCancelCause(t.Context())
		step, finished := make(chan struct{}), make(chan error, 1)
		answered := make(chan error)
		go func() {
			_, err := o.do(session, func(ctx context.Context) (string, error) {
				<-step
				finished <- ctx.Err()
				return "n2", nil
			})
			answered <- err
		}()
		synctest.Wait()
		ended := errDemoted()
		end(ended)
		if err := <-answered; !errors.Is(err, ended) {
			t.Errorf("the session is told %v, want %v", err, ended)
		}
		close(step)
		if err := <-finished; err != nil {
			t.Errorf("the order was ended with its session: %v", err)
		}
		o.close()
	})
}

func TestOrderAnswers(t *testing.T) {
	o := newOrders()
	failure := errors.New("no")
	for _, want := range []error{nil, failure} {
		primary, err := o.do(t.Context(), func(context.Context) (string, error) { return "n2", want })
		if primary != "n2" || !errors.Is(err, want) {
			t.Errorf("got %q, %v, want n2, %v", primary, err, want)
		}
	}
	o.close()
	if _, err := o.do(t.Context(), nil); err == nil {
		t.Error("an order is taken although the node ends")
	}
}

// The end of the node ends orders.
func TestOrdersEndWithTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrders()
		answered := make(chan error)
		go func() {
			_, err := o.do(t.Context(), func(ctx context.Context) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			})
			answered <- err
		}()
		synctest.Wait()
		go o.close()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}
