package node

import "context"

// A task is a goroutine with an owner, who stops it and waits for it.
type task struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

// start runs f until the task is stopped. If f fails by itself, the node cannot keep its promises
// and ends.
func (n *Node) start(f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		if err := stopped(ctx, f(ctx)); err != nil {
			t.err = asFatal(err)
			n.fail(t.err)
		}
	}()
	return t
}

// stop ends the task and reports its failure, if it had failed.
func (t *task) stop() error {
	t.cancel()
	<-t.done
	return t.err
}
