package walreceiver

import (
	"net"
	"strconv"
	"time"

	"github.com/longship-db/longship/wal"
)

// A State is what a stream is doing, in pg_stat_wal_receiver's words.
type State string

// The states. A stream is starting while it connects, streaming once the upstream's first message has
// come, waiting between attempts, restarting between two timelines or positions on one connection,
// and stopped when Run does not run.
const (
	StateStarting   State = "starting"
	StateStreaming  State = "streaming"
	StateWaiting    State = "waiting"
	StateRestarting State = "restarting"
	StateStopped    State = "stopped"
)

// A Status is the row of pg_stat_wal_receiver. Zero values are NULL there.
type Status struct {
	State           State
	ReceiveStartLSN wal.LSN
	ReceiveStartTLI wal.TimelineID
	WrittenLSN      wal.LSN
	FlushedLSN      wal.LSN
	ReceivedTLI     wal.TimelineID
	LastMsgSend     time.Time
	LastMsgReceipt  time.Time
	LatestEndLSN    wal.LSN   // end of the upstream's log, as it last said
	LatestEndTime   time.Time // when it moved last
	Slot            string
	SenderHost      string
	SenderPort      int
	Epoch           uint64 // of the upstream, on the current or the last stream
}

// Status returns what the stream is doing now.
func (s *Stream) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.WrittenLSN, st.FlushedLSN = s.Written().Load(), s.Flushed().Load()
	return st
}

// muchBehind is how much of the log has to be on its way for a stream to be behind.
const muchBehind = 16 << 20

// Behind reports whether the stream receives, and much of the upstream's log is not written here yet, although it is
// within the horizon: what is not may be waiting for this node.
func (s *Stream) Behind() bool {
	st := s.Status()
	released := min(st.LatestEndLSN, s.horizon.Load())
	return st.State == StateStreaming && released > st.WrittenLSN+muchBehind
}

// Clock is the upstream's clock, as its messages tell.
func (s *Stream) Clock() *Clock { return &s.clock }

func (s *Stream) setState(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State = state
}

// connected notes whom we talk to.
func (s *Stream) connected(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.SenderHost, s.status.SenderPort = s.cfg.Primary, 0
	if host, port, err := net.SplitHostPort(s.cfg.Primary); err == nil {
		s.status.SenderHost = host
		s.status.SenderPort, _ = strconv.Atoi(port)
	}
}

// startedAt notes where streaming was asked to begin.
func (s *Stream) startedAt(at wal.LSN, tli wal.TimelineID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.ReceiveStartLSN, s.status.ReceiveStartTLI = at, tli
	s.status.ReceivedTLI = tli
}

// begun notes that the upstream's first message has come.
func (s *Stream) begun(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.State, s.status.Epoch = StateStreaming, epoch
}

// noted takes down what a message says of its sender.
func (s *Stream) noted(end wal.LSN, sent wal.Timestamp, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastMsgSend, s.status.LastMsgReceipt = sent.Time(), now
	s.clock.note(sent.Time(), now)
	if end != s.status.LatestEndLSN {
		s.status.LatestEndLSN, s.status.LatestEndTime = end, now
	}
}
