package election

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/longship-db/longship/raftlog"
)

// A view is Raft as one ship has it.
type view struct {
	f *fleet
	s *ship
}

func (v *view) State() *raftlog.State { return v.f.now() }

func (v *view) Watch() (*raftlog.State, <-chan struct{}) {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	return v.f.state, v.f.changed
}

func (v *view) Propose(ctx context.Context, c raftlog.Command) (*raftlog.State, error) {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", c), "*raftlog.")
	v.f.did(v.s.n, "propose "+kind)
	v.f.mu.Lock()
	up := 0
	for _, s := range v.f.ships {
		if s.up && !s.hung {
			up++
		}
	}
	var err error
	if up > len(v.f.ships)/2 && v.s.up && ctx.Err() == nil {
		err = v.f.apply(c)
	} else {
		v.f.mu.Unlock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	v.f.mu.Unlock()
	v.f.did(v.s.n, "proposed "+kind)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return v.State(), err
}

func (v *view) IsLeader() bool {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	return v.f.leader == v.s.n && v.s.up
}

func (v *view) Leader() (raftlog.Member, bool) {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	l := v.f.ships[v.f.leader]
	return l.member, l.up
}

func (v *view) WatchLeader() <-chan struct{} {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	return v.f.led
}

func (v *view) Barrier(context.Context) error   { return nil }
func (v *view) Reconcile(context.Context) error { v.f.did(v.s.n, "reconcile"); return nil }

func (v *view) Transfer(context.Context, string) error {
	for i := range v.f.ships {
		s := v.f.ships[(v.s.n+1+i)%len(v.f.ships)]
		v.f.mu.Lock()
		fit := s != v.s && s.up && !s.hung
		if fit {
			v.f.moves++
		}
		v.f.mu.Unlock()
		if fit {
			v.f.elect(s.n)
			return nil
		}
	}
	return errors.New("nobody to have it")
}

// lanes are the ways from one ship to the others.
type lanes struct {
	f *fleet
	s *ship
}

// to reaches the ship at an address, or fails as the network would.
func (l *lanes) to(ctx context.Context, address string) (*ship, error) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, s := range l.f.ships {
		if s.member.Address != address {
			continue
		}
		lost := s.hung || l.f.cut[[2]int{l.s.n, s.n}]
		if lost {
			l.f.mu.Unlock()
			<-ctx.Done()
			l.f.mu.Lock()
			return nil, ctx.Err()
		}
		if s.up {
			return s, nil
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// visit does something on another ship, and tells the test about it if it is named.
func visit[Reply any](ctx context.Context, l *lanes, address, event string, do func(*ship) (Reply, error)) (reply Reply, err error) {
	if event != "" {
		l.f.did(l.s.n, event+" "+address)
	}
	s, err := l.to(ctx, address)
	if err == nil {
		l.f.mu.Lock()
		reply, err = do(s)
		l.f.mu.Unlock()
	}
	if event != "" {
		l.f.did(l.s.n, event+" answered "+address)
	}
	if ctx.Err() != nil {
		return reply, ctx.Err()
	}
	return reply, err
}

func (l *lanes) Probe(ctx context.Context, address string, _ ProbeRequest) (Health, error) {
	if h, ok := l.f.stray[address]; ok {
		return h, nil
	}
	return visit(ctx, l, address, "", func(s *ship) (Health, error) {
		h := Health{ID: s.member.ID, Name: s.member.Name, RunID: s.runID, Role: RoleStandby, Epoch: max(s.reign, s.follows), InOffice: s.reign != 0,
			Promised: s.promised, Sealed: s.sealed, Position: s.position, StreamEpoch: s.follows, StreamSilence: -1}
		if s.follows != 0 {
			h.StreamSilence = time.Since(s.heard)
		}
		return h, nil
	})
}

func (l *lanes) Seal(ctx context.Context, address string, r SealRequest) (raftlog.Answer, error) {
	return visit(ctx, l, address, "seal", func(s *ship) (raftlog.Answer, error) {
		if max(s.reign, s.follows) >= r.Epoch {
			return raftlog.Answer{}, errors.New("part of that reign")
		}
		s.promised, s.sealed = max(s.promised, r.Epoch), r.Epoch
		s.reign, s.follows = 0, 0
		return s.answer(), nil
	})
}

func (s *ship) answer() raftlog.Answer {
	return raftlog.Answer{ID: s.member.ID, Name: s.member.Name, RunID: s.runID, Promised: s.promised, Position: s.position, Priority: s.member.Priority}
}

func (l *lanes) Fetch(ctx context.Context, address string, r FetchRequest) (raftlog.Answer, error) {
	return visit(ctx, l, address, "fetch", func(s *ship) (raftlog.Answer, error) {
		if l.f.fetches != nil {
			if err := l.f.fetches(s, r); err != nil {
				return raftlog.Answer{}, err
			}
		}
		if m, ok := l.f.state.Member(r.Source); !ok || !l.f.ship(m.Name).up || l.f.ship(m.Name).position != r.Position || m.Address != r.Address {
			return raftlog.Answer{}, errors.New("source")
		}
		s.position = r.Position
		return s.answer(), nil
	})
}

func (l *lanes) Hold(ctx context.Context, address string, r HoldRequest) (HoldReply, error) {
	return visit(ctx, l, address, "hold", func(s *ship) (HoldReply, error) {
		if s.reign != r.Epoch {
			return HoldReply{}, errors.New("not in office")
		}
		s.held = true
		if l.f.holding != nil {
			if err := l.f.holding(s, r); err != nil {
				return HoldReply{}, err
			}
		}
		for _, o := range l.f.ships {
			if o.member.ID == r.Target {
				o.position = s.position
			}
		}
		return HoldReply{LSN: s.position.LSN}, nil
	})
}

func (l *lanes) Release(ctx context.Context, address string, _ ReleaseRequest) (ReleaseReply, error) {
	return visit(ctx, l, address, "release", func(s *ship) (ReleaseReply, error) {
		s.held = false
		s.releases++
		return ReleaseReply{}, nil
	})
}

func (l *lanes) Propose(context.Context, string, ProposeRequest) (ProposeReply, error) {
	return ProposeReply{}, errors.ErrUnsupported
}

// there is the coordinator at an address.
func (l *lanes) there(ctx context.Context, address string) (*Coordinator, error) {
	s, err := l.to(ctx, address)
	if err != nil {
		return nil, err
	}
	return s.c, nil
}

func (l *lanes) Join(ctx context.Context, address string, r JoinRequest) (JoinReply, error) {
	c, err := l.there(ctx, address)
	if err != nil {
		return JoinReply{}, err
	}
	return c.Join(ctx, r)
}

func (l *lanes) Switchover(ctx context.Context, address string, r SwitchoverRequest) (SwitchoverReply, error) {
	c, err := l.there(ctx, address)
	if err != nil {
		return SwitchoverReply{}, err
	}
	return c.Switchover(ctx, r)
}

func (l *lanes) Failover(ctx context.Context, address string, r FailoverRequest) (FailoverReply, error) {
	c, err := l.there(ctx, address)
	if err != nil {
		return FailoverReply{}, err
	}
	return c.Failover(ctx, r)
}

func (l *lanes) Explain(ctx context.Context, address string, r ExplainRequest) (ExplainReply, error) {
	c, err := l.there(ctx, address)
	if err != nil {
		return ExplainReply{}, err
	}
	return c.Explain(ctx, r)
}

func (l *lanes) Remove(ctx context.Context, address string, r RemoveRequest) (RemoveReply, error) {
	c, err := l.there(ctx, address)
	if err != nil {
		return RemoveReply{}, err
	}
	return c.Remove(ctx, r)
}

var (
	_ Peers     = (*lanes)(nil)
	_ Consensus = (*view)(nil)
)
