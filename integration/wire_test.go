package integration

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// startReplication sends a command that must fail, before or after the copy stream has begun, and
// returns the error.
func startReplication(t *testing.T, n *node, command string) (code, message string) {
	t.Helper()
	ctx, cancel := testContext(t)
	defer cancel()
	conn, err := pgconn.Connect(ctx, n.dsn("replication=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	conn.Frontend().Send(&pgproto3.Query{String: command})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			return msg.Code, msg.Message
		case *pgproto3.ReadyForQuery:
			t.Fatalf("%s did not fail", command)
		}
	}
}
