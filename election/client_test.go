package election

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// A wire is a network of members that speak the protocol, in memory.
type wire struct {
	t      *testing.T
	serve  func(be *pgproto3.Backend, text string) (goOn bool)
	params map[string]string // of the last session

	mu    sync.Mutex
	dials int
	open  []net.Conn
	down  error // dialing fails
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials++
	if w.down != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: w.down}
	}
	here, there := net.Pipe()
	w.open = append(w.open, there)
	go w.session(there)
	return here, nil
}

func (w *wire) session(nc net.Conn) {
	defer nc.Close()
	be := pgproto3.NewBackend(nc, nc)
	msg, err := be.ReceiveStartupMessage()
	if err != nil {
		return
	}
	w.mu.Lock()
	w.params = msg.(*pgproto3.StartupMessage).Parameters
	w.mu.Unlock()
	be.Send(&pgproto3.AuthenticationOk{})
	be.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15"})
	be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if be.Flush() != nil {
		return
	}
	for {
		msg, err := be.Receive()
		if err != nil {
			return
		}
		if q, ok := msg.(*pgproto3.Query); !ok || !w.serve(be, q.String) {
			return
		}
	}
}

// hangUp ends all connections, as a process that is killed does.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, nc := range w.open {
		nc.Close()
	}
}

// by answers commands with what svc says.
func by(svc Service) func(*pgproto3.Backend, string) bool {
	return func(be *pgproto3.Backend, text string) bool {
		b, err := Serve(context.Background(), svc, text)
		if e, ok := errors.AsType[*pgwire.Error](err); ok {
			be.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: e.Code, Message: e.Message, Hint: e.Hint})
		} else {
			be.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("answer")}}})
			be.Send(&pgproto3.DataRow{Values: [][]byte{b}})
			be.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		}
		be.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		return be.Flush() == nil
	}
}

func newTestClient(t *testing.T, w *wire) *Client {
	w.t = t
	c := NewClient(ClientConfig{
		ID: func() syncrep.ID { return syncrep.ID{Node: 0xa1, Incarnation: 0xb2} }, Name: "n1", Address: "n1:5433", Secret: "s",
		SystemID: func() uint64 { return 77 }, Dial: w.dial, Timeout: 10 * time.Second,
	})
	t.Cleanup(func() { c.Close(); w.hangUp() })
	return c
}

// echo is a member that answers each verb with something told by the request.
type echo struct{ Service }

func (echo) Probe(context.Context, ProbeRequest) (Health, error) { return Health{Name: "n2"}, nil }
func (echo) Seal(_ context.Context, r SealRequest) (raftlog.Answer, error) {
	return raftlog.Answer{Promised: r.Epoch}, nil
}
func (echo) Propose(_ context.Context, r ProposeRequest) (ProposeReply, error) {
	return ProposeReply{Text: string(r.Command)}, nil
}
func (echo) Join(_ context.Context, r JoinRequest) (JoinReply, error) {
	return JoinReply{Member: r.Member}, nil
}
func (echo) Hold(_ context.Context, r HoldRequest) (HoldReply, error) {
	return HoldReply{LSN: 0x100}, nil
}
func (echo) Release(context.Context, ReleaseRequest) (ReleaseReply, error) {
	return ReleaseReply{}, nil
}
func (echo) Fetch(_ context.Context, r FetchRequest) (raftlog.Answer, error) {
	return raftlog.Answer{Position: r.Position}, nil
}
func (echo) Switchover(_ context.Context, r SwitchoverRequest) (SwitchoverReply, error) {
	return SwitchoverReply{Primary: r.To}, nil
}
func (echo) Failover(context.Context, FailoverRequest) (FailoverReply, error) {
	return FailoverReply{}, notLeader()
}
func (echo) Explain(context.Context, ExplainRequest) (ExplainReply, error) {
	return ExplainReply{Health: []Seen{{Name: strings.Repeat("n", MaxText)}}}, nil
}
func (echo) Remove(_ context.Context, r RemoveRequest) (RemoveReply, error) {
	return RemoveReply{}, pgwire.Errorf(pgwire.CodeUndefinedObject, "no member is named %s", r.Name).WithHint("look")
}

func (echo) Read(_ context.Context, r ReadRequest) (ReadReply, error) {
	return ReadReply{Data: make([]byte, r.Length)}, nil
}

// Each verb reaches its method, with its request, and brings back its answer.
func TestClientVerbs(t *testing.T) {
	w := &wire{serve: by(echo{})}
	c := newTestClient(t, w)
	ctx, at := t.Context(), "n2:5433"
	check := func(what string, ok bool, err error) {
		t.Helper()
		if !ok || err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	health, err := c.Probe(ctx, at, ProbeRequest{})
	check("probe", health.Name == "n2", err)
	answer, err := c.Seal(ctx, at, SealRequest{Epoch: 9})
	check("seal", answer.Promised == 9, err)
	proposed, err := c.Propose(ctx, at, ProposeRequest{Command: []byte("it's")})
	check("propose", proposed.Text == "it's", err)
	joined, err := c.Join(ctx, at, JoinRequest{Member: raftlog.Member{Name: "n3"}})
	check("join", joined.Member.Name == "n3", err)
	held, err := c.Hold(ctx, at, HoldRequest{})
	check("hold", held.LSN == 0x100, err)
	_, err = c.Release(ctx, at, ReleaseRequest{})
	check("release", true, err)
	answer, err = c.Fetch(ctx, at, FetchRequest{Position: raftlog.Position{Epoch: 2}})
	check("fetch", answer.Position.Epoch == 2, err)
	read, err := c.Read(ctx, at, ReadRequest{Timeline: 1, Start: 0x1000, Length: MaxRead})
	check("read", len(read.Data) == MaxRead, err)
	moved, err := c.Switchover(ctx, at, SwitchoverRequest{To: "n4"})
	check("switchover", moved.Primary == "n4", err)

	_, err = c.Failover(ctx, at, FailoverRequest{})
	check("failover", errors.Is(err, raftlog.ErrNotLeader), nil)
	_, err = c.Remove(ctx, at, RemoveRequest{Name: "n9"})
	refusal, ok := errors.AsType[*pgwire.Error](err)
	check("remove", ok && refusal.Code == pgwire.CodeUndefinedObject && refusal.Hint == "look" && !Gone(err), nil)
	_, err = c.Explain(ctx, at, ExplainRequest{})
	refusal, ok = errors.AsType[*pgwire.Error](err)
	check("explain, too long", ok && refusal.Code == pgwire.CodeProgramLimitExceeded, nil)

	if want := "00000000000000a1"; w.params["longship.node_id"] != want || w.params["longship.system_id"] != "77" ||
		w.params["longship.secret"] != "s" || w.params["_pq_.longship"] != "1" || w.params["longship.incarnation"] != "00000000000000b2" {
		t.Errorf("start-up parameters %v", w.params)
	}
	if w.dials != 4 { // one kept for all but a switchover, a failover and a removal
		t.Errorf("%d connections, want 4", w.dials)
	}
}

// A kept connection to a process that has been restarted since is replaced unnoticed.
func TestClientReconnects(t *testing.T) {
	w := &wire{serve: by(echo{})}
	c := newTestClient(t, w)
	for range 3 {
		if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err != nil {
			t.Fatal(err)
		}
		w.hangUp()
	}
	if w.dials != 3 {
		t.Errorf("%d connections, want 3", w.dials)
	}
}

// A switchover whose connection breaks may have been done: it is not sent again. Nor is a removal, whose second
// answer would be that there is no such member, nor a proposal: an answer that nobody leads, to the second one,
// would say nothing of the first.
func TestClientSendsOnce(t *testing.T) {
	sent := 0
	w := &wire{serve: func(be *pgproto3.Backend, text string) bool {
		if strings.HasPrefix(text, "LONGSHIP_PROBE") {
			return by(echo{})(be, text)
		}
		sent++
		return false
	}}
	c := newTestClient(t, w)
	if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Switchover(t.Context(), "n2:5433", SwitchoverRequest{}); !Gone(err) || sent != 1 {
		t.Errorf("switchover: sent %d times: %v", sent, err)
	}
	if _, err := c.Propose(t.Context(), "n2:5433", ProposeRequest{}); !Gone(err) || sent != 2 {
		t.Errorf("proposal: sent %d times: %v", sent-1, err)
	}
	if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err != nil { // there is a kept connection again
		t.Fatal(err)
	}
	if _, err := c.Remove(t.Context(), "n2:5433", RemoveRequest{}); !Gone(err) || sent != 3 {
		t.Errorf("removal: sent %d times: %v", sent-2, err)
	}
}

// So is one that the process ended, in order, while nobody used it: what it said then is no answer to
// what is asked now.
func TestClientReplacesAnEndedConnection(t *testing.T) {
	w := &wire{}
	serve := by(echo{})
	ended := false
	w.serve = func(be *pgproto3.Backend, text string) bool {
		if !ended {
			return serve(be, text)
		}
		ended = false
		be.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: pgwire.CodeAdminShutdown, Message: "terminating connection"})
		be.Flush()
		return false
	}
	c := newTestClient(t, w)
	for range 2 {
		if h, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err != nil || h.Name != "n2" {
			t.Fatalf("Probe() = %+v, %v", h, err)
		}
		ended = true
	}
	if w.dials != 2 {
		t.Errorf("%d connections, want 2", w.dials)
	}
}

// Calls at the same time do not wait for each other; one connection is kept.
func TestClientParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{serve: func(be *pgproto3.Backend, text string) bool {
			if strings.HasPrefix(text, "LONGSHIP_HOLD") {
				time.Sleep(5 * time.Second)
			}
			return by(echo{})(be, text)
		}}
		c := newTestClient(t, w)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { c.Hold(t.Context(), "n2:5433", HoldRequest{}) })
		synctest.Wait()
		if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err != nil || time.Since(start) != 0 {
			t.Errorf("probe during a hold: %v after %v", err, time.Since(start))
		}
		wg.Wait()
		c.Probe(t.Context(), "n2:5433", ProbeRequest{})
		if w.dials != 2 || len(c.idle) != 1 || len(c.busy) != 0 {
			t.Errorf("%d connections, %d kept, %d busy", w.dials, len(c.idle), len(c.busy))
		}
	})
}

// A peer that hangs costs no more than the call's time, and is not taken for one that is gone.
func TestClientTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{serve: func(*pgproto3.Backend, string) bool { return true }}
		c := newTestClient(t, w)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Probe(ctx, "n2:5433", ProbeRequest{})
		if !errors.Is(err, context.DeadlineExceeded) || Gone(err) || time.Since(start) != time.Second {
			t.Errorf("deadline: %v after %v", err, time.Since(start))
		}
		_, err = c.Probe(t.Context(), "n2:5433", ProbeRequest{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 11*time.Second {
			t.Errorf("default timeout: %v after %v", err, time.Since(start))
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := c.Probe(ctx, "n2:5433", ProbeRequest{}); !errors.Is(err, context.Canceled) || Gone(err) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// Gone tells a process that has ended from one that is silent.
func TestGone(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	c := NewClient(ClientConfig{ID: func() syncrep.ID { return syncrep.ID{} }, SystemID: func() uint64 { return 0 }})
	defer c.Close()
	if _, err := c.Probe(t.Context(), closed.Addr().String(), ProbeRequest{}); !Gone(err) {
		t.Errorf("nobody listens: %v", err)
	}
	hangup := newTestClient(t, &wire{serve: func(*pgproto3.Backend, string) bool { return false }})
	if _, err := hangup.Probe(t.Context(), "n2:5433", ProbeRequest{}); !Gone(err) {
		t.Errorf("hung up: %v", err)
	}
	for err, want := range map[error]bool{
		syscall.ECONNRESET: true, syscall.EPIPE: true, io.EOF: true,
		syscall.EHOSTUNREACH: false, syscall.ETIMEDOUT: false, context.DeadlineExceeded: false, net.ErrClosed: false,
		pgwire.Errorf(pgwire.CodeCannotConnectNow, "starting"): false,
	} {
		if Gone(err) != want {
			t.Errorf("Gone(%v) = %t", err, !want)
		}
	}
}

// Close ends calls under way, and there are none after it.
func TestClientClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{serve: func(*pgproto3.Backend, string) bool { return true }}
		c := newTestClient(t, w)
		time.AfterFunc(time.Second, func() { c.Close() })
		start := time.Now()
		if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); err == nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := c.Probe(t.Context(), "n2:5433", ProbeRequest{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
