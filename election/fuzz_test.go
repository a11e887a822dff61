package election

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/pgwire"
)

// FuzzServe: whatever a member sends as a command, it is answered with JSON that is not too long, or with an
// error that has an SQLSTATE.
func FuzzServe(f *testing.F) {
	for _, text := range []string{
		"LONGSHIP_PROBE '{}'", `LONGSHIP_SEAL '{"epoch":7}'`, `LONGSHIP_JOIN '{"member":{"id":"1/a","raft_id":"x","zone":"é"},"run_id":"9"}'`,
		`LONGSHIP_HOLD '{"epoch":1,"target":"1/2","limit":5}'`, `LONGSHIP_PROPOSE '{"command":"AQ=="}'`, `LONGSHIP_READ '{"timeline":1,"start":"0/1000","length":9}'`,
		`LONGSHIP_FETCH '{"epoch":2,"source":"1/2","address":"a:1","position":{"epoch":1,"lsn":"0/1"}}'`, `LONGSHIP_READ '{"length":-1}'`, "LONGSHIP_SEAL '[]'",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := Serve(t.Context(), echoShort{}, text)
		if _, ours := errors.AsType[*pgwire.Error](err); err != nil && !ours || len(b) > MaxText {
			t.Errorf("%q: %d bytes, %v", text, len(b), err)
		}
	})
}

// echoShort is echo with nothing that takes long.
type echoShort struct{ echo }

func (echoShort) Explain(context.Context, ExplainRequest) (ExplainReply, error) {
	return ExplainReply{}, nil
}
func (echoShort) Read(context.Context, ReadRequest) (ReadReply, error) { return ReadReply{}, nil }

// FuzzAnswers: whatever bytes come from the port of another member, a call ends with its answer or an error.
func FuzzAnswers(f *testing.F) {
	encode := func(list ...pgproto3.BackendMessage) (b []byte) {
		for _, m := range list {
			b, _ = m.Encode(b)
		}
		return b
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	row := &pgproto3.DataRow{Values: [][]byte{[]byte(`{"id":"1/2","position":{"epoch":1,"lsn":"0/1"},"damaged":"0/5"}`)}}
	f.Add(encode(&pgproto3.AuthenticationOk{}, ready, &pgproto3.RowDescription{}, row, &pgproto3.CommandComplete{}, ready))
	f.Add(encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no"}))
	f.Add(encode(&pgproto3.NegotiateProtocolVersion{UnrecognizedOptions: []string{"_pq_.longship"}}, ready))
	f.Add(encode(ready, &pgproto3.DataRow{}, ready))
	f.Add([]byte("R\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() {
			there.SetDeadline(time.Now().Add(time.Minute))
			go there.Write(b)
			for buf := make([]byte, 1<<10); ; {
				if _, err := there.Read(buf); err != nil {
					return
				}
			}
		}()
		defer there.Close()
		c := newConn(here, "n2:1", identity{})
		defer c.close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if c.start(ctx, map[string]string{"user": "n1"}) == nil {
			c.query(ctx, "LONGSHIP_PROBE '{}'")
		}
	})
}
