package raftlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Between two attempts at a proposal lies at least shortestPause, at most longestPause.
const (
	shortestPause = 10 * time.Millisecond
	longestPause  = 250 * time.Millisecond
)

// Propose has the cluster agree on a command, on any node, and waits until it is applied here. It
// returns the state as it is then, and why the state machine refused the command, if it did.
//
// While there is no leader, or the outcome is unknown, it tries again until ctx ends: the state
// machine answers each proposal once, however often it comes. Then the error is ErrNotLeader if nobody
// has proposed it and nobody ever will, ErrBehind if the leader has answered and only this node has not
// heard of it, and ErrUnknown otherwise.
func (n *Node) Propose(ctx context.Context, c Command) (*State, error) {
	p := proposal{id: rand.Uint64(), command: c}
	encoded, err := p.encode()
	if err != nil {
		return n.State(), err
	}
	applied := n.fsm.await(p.id)
	defer n.fsm.forget(p.id, applied)
	outcome := ErrNotLeader
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		moved := n.WatchLeader()
		a, err := n.attempt(ctx, encoded, applied)
		if a != nil {
			return n.State(), a.err()
		}
		if _, ok := errors.AsType[*InvalidError](err); ok {
			return n.State(), err // no leader ever proposed it
		}
		switch {
		case err == nil || answered(err):
			outcome = ErrBehind
		case outcome == ErrNotLeader && !errors.Is(err, ErrNotLeader):
			outcome = ErrUnknown // it may be on its way
		}
		again := time.NewTimer(pause)
		select {
		case a := <-applied:
			return n.State(), a.err()
		case <-moved:
		case <-again.C:
		case <-n.quit:
			return n.State(), fmt.Errorf("propose %s: %w", kindOf(c), ErrClosed)
		case <-ctx.Done():
			return n.State(), fmt.Errorf("propose %s: %w: %w (last attempt: %v)", kindOf(c), outcome, context.Cause(ctx), err)
		}
	}
}

// attempt sends a proposal to the leader once. It returns the answer if that is applied here
// meanwhile, or else what the leader says.
func (n *Node) attempt(ctx context.Context, encoded []byte, applied <-chan answer) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.attempt())
	defer cancel()
	result := make(chan error, 1)
	if !n.begin(func() { result <- n.send(ctx, encoded) }) {
		return nil, ErrClosed
	}
	select {
	case a := <-applied:
		return &a, nil
	case err := <-result:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-n.quit:
		return nil, ErrClosed
	}
}

// send has the leader propose a command.
func (n *Node) send(ctx context.Context, encoded []byte) error {
	if n.IsLeader() {
		return n.ProposeEncoded(ctx, encoded)
	}
	leader, ok := n.Leader()
	if !ok || leader.RaftID == n.cfg.ID {
		return fmt.Errorf("%w, and nobody is known to be", ErrNotLeader)
	}
	if n.cfg.Forward == nil {
		return ErrNotLeader
	}
	return n.cfg.Forward(ctx, leader, encoded)
}

// ProposeEncoded proposes a command that another node has encoded, and waits for the state machine's
// answer, which it returns. It tries once: the error is ErrNotLeader if nothing was proposed, and
// ErrUnknown if that is not known.
func (n *Node) ProposeEncoded(ctx context.Context, encoded []byte) error {
	p, err := decodeProposal(encoded)
	if err != nil {
		return err
	}
	applied := n.fsm.await(p.id)
	defer n.fsm.forget(p.id, applied)
	moved := n.WatchLeader()
	if !n.IsLeader() {
		return ErrNotLeader
	}
	// The answer is taken from the state machine, not from the future: hashicorp/raft forgets those
	// that are on their way to it when it is shut down.
	enqueued := n.begin(func() { n.raft.Apply(encoded, n.cfg.attempt()) })
	if !enqueued {
		return ErrClosed
	}
	timer := time.NewTimer(n.cfg.attempt())
	defer timer.Stop()
	for {
		select {
		case a := <-applied:
			n.nudge()
			return a.err()
		case <-moved:
			if moved = n.WatchLeader(); !n.IsLeader() {
				return fmt.Errorf("%w: leadership lost", ErrUnknown)
			}
		case <-timer.C:
			return fmt.Errorf("%w: Raft does not answer", ErrUnknown)
		case <-n.quit:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
		}
	}
}

// nudge lets the others learn at once that the last command is committed. They are told with the next
// entry of the log, and that would be a while coming.
func (n *Node) nudge() {
	n.begin(func() { n.raft.Barrier(n.cfg.attempt()) })
}

// Barrier waits until the state holds everything that was agreed on before the call. The error is
// ErrNotLeader if this node does not lead, and ErrUnknown if it lost that meanwhile.
func (n *Node) Barrier(ctx context.Context) error {
	encoded, err := proposal{id: rand.Uint64(), command: &barrier{}}.encode()
	if err != nil {
		return err
	}
	return n.ProposeEncoded(ctx, encoded)
}
