package drill

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/internal/history"
)

// registersPerEra is how many registers there are at a time.
const registersPerEra = 5

// choose makes up an operation on a register. Values are never used twice.
func (c *client) choose(era int) history.RegisterInput {
	c.value++
	in := history.RegisterInput{
		Key: c.key("register", era) + strconv.Itoa(c.random.IntN(registersPerEra)),
		New: fmt.Sprintf("%d-%d", c.id, c.value),
	}
	in.Old = c.known[in.Key]
	switch n := c.random.IntN(3); {
	case n == 0:
		in.Op, in.Old, in.New = "read", "", ""
	case n == 1 && in.Old != "":
		in.Op = "cas"
	default:
		in.Op, in.Old = "write", ""
	}
	return in
}

const upsert = "INSERT INTO kv VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"

// A RegisterCall is an operation on a register that has ended, as its client knows it.
type RegisterCall struct {
	porcupine.Operation
	Became history.Outcome
	Wrote  bool  // if it is committed, the register has the new value
	Err    error // what the session got
}

// Counts reports whether the operation is part of a history. One that is aborted did nothing, nor did a read without
// an answer.
func (r *RegisterCall) Counts() bool {
	return r.Became == history.Committed || r.Became == history.Unknown && r.Input.(history.RegisterInput).Op != "read"
}

// CallRegister does a client's operation on a register, which is a row of kv. now tells the time of its call and of its
// return; in known is what the client knows of each register, before and after.
func CallRegister(ctx context.Context, conn *pgx.Conn, client int, in history.RegisterInput, known map[string]string, now func() time.Duration) RegisterCall {
	r := RegisterCall{Operation: porcupine.Operation{ClientId: client, Input: in, Call: int64(now())}}
	out := history.RegisterOutput{Known: true}
	var tag pgconn.CommandTag
	switch in.Op {
	case "read":
		out.Value, r.Err = readRegister(ctx, conn, in.Key)
	case "write":
		_, r.Err = conn.Exec(ctx, upsert, in.Key, in.New)
	case "cas":
		tag, r.Err = conn.Exec(ctx, "UPDATE kv SET value = $3 WHERE key = $1 AND value = $2", in.Key, in.Old, in.New)
		out.Changed = tag.RowsAffected() == 1
	}
	r.Return, r.Became = int64(now()), OutcomeOf(r.Err)
	r.Wrote = in.Op == "write" || out.Changed
	switch {
	case r.Became == history.Unknown:
		out, r.Return = history.RegisterOutput{}, history.Never
	case r.Became == history.Committed && in.Op == "read":
		known[in.Key] = out.Value
	case r.Became == history.Committed && r.Wrote:
		known[in.Key] = in.New
	}
	r.Output = out
	return r
}

// operate does an operation on a register and notes it.
func (c *client) operate(ctx context.Context, conn *pgx.Conn, in history.RegisterInput) error {
	r := CallRegister(ctx, conn, c.id, in, c.known, c.now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if in.Op != "read" && (r.Became != history.Committed || r.Wrote) {
		c.endedLocked(r.Became, reported(conn), c.on, c.id)
	}
	if r.Counts() {
		c.ops = append(c.ops, r.Operation)
	}
	return r.Err
}

func readRegister(ctx context.Context, conn *pgx.Conn, key string) (string, error) {
	var value string
	err := conn.QueryRow(ctx, "SELECT value FROM kv WHERE key = $1", key).Scan(&value)
	if err == pgx.ErrNoRows {
		err = nil
	}
	return value, err
}
