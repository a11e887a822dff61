package pgwire

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/longship-db/longship/wal"
)

// A member that cannot make sense of the WAL it gets ends the stream with a CopyFail, whose text is
//
//	invalid WAL at X/X: reason
const refusal = "invalid WAL at "

// RefuseWAL says that nothing can be read at at.
func RefuseWAL(at wal.LSN, reason string) *pgproto3.CopyFail {
	return &pgproto3.CopyFail{Message: fmt.Sprintf("%s%s: %s", refusal, at, reason)}
}

// RefusedWAL is where the sender of a CopyFail could read nothing; ok is false if it says something else.
func RefusedWAL(m *pgproto3.CopyFail) (at wal.LSN, ok bool) {
	rest, refused := strings.CutPrefix(m.Message, refusal)
	place, _, reasoned := strings.Cut(rest, ":")
	at, err := wal.ParseLSN(place)
	return at, refused && reasoned && err == nil
}
