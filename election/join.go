package election

import (
	"context"
	"errors"
	"fmt"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// Join makes a process the member it says it is, on whichever node it is asked (invariant I9). It
// refuses one whose identity or name another living process has.
//
//	recorded as       lives at its address       outcome
//	---------------   ------------------------   --------------------------------------------
//	nobody            -                          a new member; refused if it has data, for then it was one before,
//	                                             and if it was one with none, and nobody has replaced it
//	the same disk     the same process, nobody   its addresses are what it says now
//	the same disk     another process            refused: the data directory was copied
//	the same disk,    the same process, nobody   refused: it is gone soon, and comes back as another
//	which leaves
//	another disk of   that disk                  refused: the name is taken
//	the same name     that disk, of the process  refused: it asked before it had that disk
//	                  that asks, a member before
//	                  nobody, or another disk    replaced; the old one leaves
func (c *Coordinator) Join(ctx context.Context, r JoinRequest) (JoinReply, error) {
	return onLeader(ctx, c, r.Forwarded, func(ctx context.Context) (JoinReply, error) {
		return c.join(ctx, r)
	}, func(ctx context.Context, leader string) (JoinReply, error) {
		r.Forwarded = true
		return c.cfg.Peers.Join(ctx, leader, r)
	})
}

func (c *Coordinator) join(ctx context.Context, r JoinRequest) (JoinReply, error) {
	if m := r.Member; m.ID == (syncrep.ID{}) || m.Name == "" || m.Address == "" || m.RaftID == "" || m.RaftAddress == "" {
		return JoinReply{}, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "a member needs an identity, a name, a Raft server and its addresses")
	}
	for {
		if err := c.barrier(ctx); err != nil {
			return JoinReply{}, notJoined(err)
		}
		s := c.cfg.Raft.State()
		if !s.Initialised() {
			return JoinReply{}, unready("the cluster has not been founded yet")
		}
		replaces, err := c.admit(ctx, s, r)
		if err != nil {
			return JoinReply{}, err
		}
		err = c.propose(ctx, &raftlog.Join{Member: r.Member, Replaces: replaces})
		if err == nil {
			c.cfg.Logger.Info("member joined", "member", r.Member.Name, "id", r.Member.ID, "replaces", !replaces.IsZero())
			return c.welcome(r), nil
		}
		if !stale(err) {
			return JoinReply{}, notJoined(err)
		}
	}
}

// notJoined is for a Raft leader that could not find out, or lost its office meanwhile. To join twice does no
// harm.
func notJoined(err error) error {
	return pgwire.Errorf(pgwire.CodeCannotConnectNow, "join: %w", err).WithHint("Ask again.")
}

// stale reports whether a proposal was refused because the state has changed since it was made: it is
// to be made anew.
func stale(err error) bool {
	_, conflict := errors.AsType[*raftlog.ConflictError](err)
	return conflict || errors.Is(err, raftlog.ErrNameTaken)
}

// welcome is what a member is told that has joined.
func (c *Coordinator) welcome(r JoinRequest) JoinReply {
	s := c.cfg.Raft.State()
	reply := JoinReply{SystemID: s.SystemID, Members: s.Members}
	reply.Member, _ = s.Member(r.Member.ID)
	if s.Phase == raftlog.Steady {
		reply.Primary = s.Primary.Name
	}
	return reply
}

// admit decides whether a process may be the member it says it is, and which one, that has its name, is to leave.
func (c *Coordinator) admit(ctx context.Context, s *raftlog.State, r JoinRequest) (replaces syncrep.ID, err error) {
	if m, ok := s.Member(r.Member.ID); ok && c.lives(ctx, m, r.RunID) {
		return replaces, pgwire.Errorf(pgwire.CodeObjectInUse, "a process with the identity of this data directory, %s, runs at %s already", m.ID, m.Address).
			WithDetail("The data directory was copied, and the original is in use as member %s.", m.Name).
			WithHint("Start this node with an empty data directory and a name of its own; or stop the other process first.")
	}
	holder, taken := s.Named(r.Member.Name)
	if _, ok := s.Member(r.Member.ID); !ok && (r.Returning || r.Again && !taken) {
		return replaces, pgwire.Errorf(pgwire.CodeInvalidAuthorization, "node %s, with the disk %s, has been removed from the cluster", r.Member.Name, r.Member.ID).
			WithHint("To be a member again it must start with an empty data directory and --join.")
	}
	if m, ok := s.Member(r.Member.ID); ok && m.Witness != r.Member.Witness {
		return replaces, pgwire.Errorf(pgwire.CodeInvalidAuthorization, "node %s, with the disk %s, has joined with witness %v, and comes with %v", m.Name, m.ID, m.Witness, r.Member.Witness).
			WithHint("A disk stays what it is: start it as it was, or with an empty data directory and --join.")
	}
	slot, used := s.ClientSlot(r.Member.Name)
	m, member := s.Member(r.Member.ID)
	switch {
	case used && !member:
		return replaces, pgwire.Errorf(pgwire.CodeDuplicateObject, "node %s cannot join: the replication slot \"%s\", which it would use, is another's", r.Member.Name, slot).
			WithHint("Choose another name; or drop the slot, if nobody needs it any more.")
	case m.Leaving && !taken:
		return replaces, leaves(m)
	case !taken || holder.ID == r.Member.ID:
		return replaces, nil
	}
	switch h, ok := c.resident(ctx, holder); {
	case ok && h.RunID != r.RunID:
		return replaces, pgwire.Errorf(pgwire.CodeDuplicateObject, "the name %s is taken by the member at %s, which is alive", holder.Name, holder.Address).
			WithHint("Choose another name; or stop that member to replace it.")
	case ok && r.Returning: // to disks of its past a process never comes back: this was sent before, and came late
		return replaces, unready(fmt.Sprintf("node %s, which asks to be a member with the disk %s, has another disk by now", holder.Name, r.Member.ID))
	case m.Leaving:
		return replaces, leaves(m)
	case holder.ID == s.Primary.ID && s.Phase != raftlog.Sealing:
		return replaces, unready(fmt.Sprintf("%s is the primary: it can be replaced once another member is", holder.Name)).
			WithHint("A failover is due, since it does not answer. Try again in a moment.")
	}
	return holder.ID, nil
}

// leaves refuses who is being removed: the process may have seen that, and ends.
func leaves(m raftlog.Member) error {
	return pgwire.Errorf(pgwire.CodeInvalidAuthorization, "node %s, with the disk %s, is being removed from the cluster", m.Name, m.ID).
		WithHint("To be a member again it must start with an empty data directory and --join.")
}

// lives reports whether a process other than that of runID answers for a member.
func (c *Coordinator) lives(ctx context.Context, m raftlog.Member, runID uint64) bool {
	h, ok := c.resident(ctx, m)
	return ok && h.RunID != runID
}

// resident is what the process says that answers as a member, if there is one. It is asked twice: one lost packet
// must not cost a living member its name.
func (c *Coordinator) resident(ctx context.Context, m raftlog.Member) (h Health, ok bool) {
	for range 2 {
		h, err := c.ask(ctx, m.Address)
		if err == nil {
			return h, h.ID == m.ID
		}
		c.idle(ctx, probeAgain)
	}
	return Health{}, false
}

// Remove drops a member, on whichever node it is asked. One that a rule lists goes a little later, when
// the primary has changed that. Removing one that has gone is no error to the Raft state, but it is to
// whoever mistyped its name. Without a Raft leader it gives up after a while.
func (c *Coordinator) Remove(ctx context.Context, r RemoveRequest) (RemoveReply, error) {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	reply, err := onLeader(ctx, c, r.Forwarded, func(ctx context.Context) (RemoveReply, error) {
		return c.remove(ctx, r.Name)
	}, func(ctx context.Context, leader string) (RemoveReply, error) {
		r.Forwarded = true
		return c.cfg.Peers.Remove(ctx, leader, r)
	})
	if _, told := errors.AsType[*pgwire.Error](err); err != nil && !told {
		err = pgwire.Errorf(pgwire.CodeCannotConnectNow, "it is not known whether %s is removed: %w", r.Name, err).
			WithHint("Look at longship_members, and ask again if it is still there and does not leave.")
	}
	return reply, err
}

func (c *Coordinator) remove(ctx context.Context, name string) (RemoveReply, error) {
	if err := c.barrier(ctx); err != nil {
		return RemoveReply{}, fmt.Errorf("remove: %w", err)
	}
	s := c.cfg.Raft.State()
	m, ok := s.Named(name)
	switch {
	case !ok:
		return RemoveReply{}, pgwire.Errorf(pgwire.CodeUndefinedObject, "no member is named %q", name)
	case m.ID == s.Primary.ID:
		return RemoveReply{}, unready(fmt.Sprintf("%s is the primary", name)).
			WithHint("Move the primary first: longship switchover.")
	}
	if err := c.propose(ctx, &raftlog.Leave{ID: m.ID}); err != nil {
		if conflict, ok := errors.AsType[*raftlog.ConflictError](err); ok {
			return RemoveReply{}, unready(fmt.Sprintf("%s cannot leave: %s", name, conflict.What))
		}
		return RemoveReply{}, fmt.Errorf("remove: %w", err)
	}
	_, there := c.cfg.Raft.State().Member(m.ID)
	c.cfg.Logger.Info("member leaves", "member", name, "id", m.ID, "gone", !there)
	return RemoveReply{Gone: !there}, nil
}
