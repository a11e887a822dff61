package drill

import (
	"context"
	"fmt"
	"strconv"

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

// operate does an operation on a register and notes it.
func (c *client) operate(ctx context.Context, conn *pgx.Conn, in history.RegisterInput) error {
	o := porcupine.Operation{ClientId: c.id, Input: in, Call: int64(c.now())}
	out := history.RegisterOutput{Known: true}
	var tag pgconn.CommandTag
	var err error
	switch in.Op {
	case "read":
		out.Value, err = readRegister(ctx, conn, in.Key)
	case "write":
		_, err = conn.Exec(ctx, upsert, in.Key, in.New)
	case "cas":
		tag, err = conn.Exec(ctx, "UPDATE kv SET value = $3 WHERE key = $1 AND value = $2", in.Key, in.Old, in.New)
		out.Changed = tag.RowsAffected() == 1
	}
	o.Return = int64(c.now())
	became := OutcomeOf(err)
	wrote := in.Op == "write" || out.Changed
	switch {
	case became == history.Unknown:
		out, o.Return = history.RegisterOutput{}, history.Never
	case became == history.Committed && in.Op == "read":
		c.known[in.Key] = out.Value
	case became == history.Committed && wrote:
		c.known[in.Key] = in.New
	}
	o.Output = out
	c.mu.Lock()
	defer c.mu.Unlock()
	if in.Op != "read" && (became != history.Committed || wrote) {
		c.endedLocked(became, reported(conn), c.on, c.id)
	}
	if became == history.Committed || became == history.Unknown && in.Op != "read" {
		c.ops = append(c.ops, o)
	}
	return err
}

func readRegister(ctx context.Context, conn *pgx.Conn, key string) (string, error) {
	var value string
	err := conn.QueryRow(ctx, "SELECT value FROM kv WHERE key = $1", key).Scan(&value)
	if err == pgx.ErrNoRows {
		err = nil
	}
	return value, err
}
