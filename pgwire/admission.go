package pgwire

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"io"
	"math"
	"net"
	"slices"
	"time"
)

// maxMembers bounds the connections of members, which no other limit counts: the cluster does not depend on
// how many clients there are. It is far more than a cluster of any size needs.
const maxMembers = 1000

// An admission keeps account of the connections there are, and decides who gets in. Server.mu guards it.
//
//	accepted -> starting -> registered as client, replication or member -> gone
//
// Who is in start-up has shown nothing of himself yet, so there is no telling a flood from clients. When all
// places are taken, whoever has been there longest goes: a client needs a millisecond there, and gets through
// as long as that is less than what the flood needs to fill all places anew.
type admission struct {
	conns    map[int32]*Conn // registered, by PID
	sockets  map[io.Closer]struct{}
	starting list.List // of *Conn, oldest first
	count    [admissions]int
	lastPID  int32
	sessions int64 // of clients, that were ever registered
	cut      bool

	away turnedAway // since they were logged
}

// turnedAway counts connections that were not served.
type turnedAway struct {
	refused int // 53300
	dropped int // crowded out of start-up
	failed  int // start-up took too long, or was none
}

// The limits that connections count for.
type admitAs int

const (
	asClient admitAs = iota
	asReplication
	asMember
	admissions
)

func (c *Conn) admittedAs() admitAs {
	switch {
	case c.Kind.Replication() && c.Native > 0:
		return asMember
	case c.Kind.Replication():
		return asReplication
	}
	return asClient
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut {
		s.sockets[ln] = struct{}{}
	}
	return !s.cut
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, ln)
}

// begin takes c in for start-up, in the place of another one if need be.
func (s *Server) begin(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return false
	}
	if s.starting.Len() >= s.cfg.MaxStarting {
		oldest := s.starting.Front()
		s.starting.Remove(oldest)
		oldest.Value.(*Conn).starting = nil
		oldest.Value.(*Conn).nc.Close()
		s.away.dropped++
	}
	s.sockets[c.nc] = struct{}{}
	c.starting = s.starting.PushBack(c)
	return true
}

// end is called once for each begin, when the connection is closed.
func (s *Server) end(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, c.nc)
	if c.starting != nil {
		s.starting.Remove(c.starting)
		c.starting = nil
	}
}

// register gives c its PID and key and makes it visible, or refuses it with 53300.
func (s *Server) register(c *Conn) error {
	rand.Read(c.secret[:])

	s.mu.Lock()
	defer s.mu.Unlock()
	if c.starting == nil {
		return errDropped
	}
	if e := s.refusal(c); e != nil {
		s.away.refused++
		return e
	}
	for taken := true; taken; _, taken = s.conns[s.lastPID] {
		s.lastPID = s.lastPID%math.MaxInt32 + 1
	}
	c.PID = s.lastPID
	s.conns[c.PID] = c
	s.count[c.admittedAs()]++
	if c.admittedAs() == asClient {
		s.sessions++
	}
	s.starting.Remove(c.starting)
	c.starting = nil
	return nil
}

// refusal is what c is told if there is no place for it. The caller holds mu.
func (s *Server) refusal(c *Conn) *Error {
	as := c.admittedAs()
	there := s.count[as]
	switch {
	case as == asMember && there >= maxMembers:
		return Errorf(CodeTooManyConnections, "too many connections of members already").Fatal()
	case as == asReplication && there >= s.cfg.MaxWALSenders:
		return Errorf(CodeTooManyConnections, "number of requested standby connections exceeds max_wal_senders (currently %d)",
			s.cfg.MaxWALSenders).Fatal()
	case as != asClient || s.cfg.Privileged != nil && s.cfg.Privileged(c) && there < s.cfg.MaxConnections:
		return nil
	case there >= s.cfg.MaxConnections:
		return Errorf(CodeTooManyConnections, "sorry, too many clients already").Fatal()
	case there >= s.cfg.MaxConnections-s.cfg.ReservedConnections:
		return Errorf(CodeTooManyConnections, "remaining connection slots are reserved for non-replication superuser connections").Fatal()
	}
	return nil
}

func (s *Server) unregister(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.PID)
	s.count[c.admittedAs()]--
}

// Sessions is how many connections of clients there have been.
func (s *Server) Sessions() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Conns returns the connections there are, by PID; those still in start-up are not among them.
func (s *Server) Conns() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for _, c := range s.conns {
		conns = append(conns, c)
	}
	slices.SortFunc(conns, func(a, b *Conn) int { return cmp.Compare(a.PID, b.PID) })
	return conns
}

func (s *Server) conn(pid int32) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[pid]
}

// failedToStart counts a connection that ended in start-up, for a reason not counted yet.
func (s *Server) failedToStart(c *Conn, why *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.starting != nil && (why == nil || why.Code != CodeTooManyConnections) {
		s.away.failed++
	}
}

// logTurnedAway logs, now and then, how many connections were not served: a line for each would fill the disk
// of who is flooded.
func (s *Server) logTurnedAway(ctx context.Context) {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		n, count := s.away, s.count
		s.away = turnedAway{}
		s.mu.Unlock()
		if n != (turnedAway{}) {
			s.cfg.Logger.Warn("connections turned away", "too_many", n.refused, "start_up_crowded_out", n.dropped,
				"start_up_failed", n.failed, "clients", count[asClient], "replication", count[asReplication])
		}
	}
}
