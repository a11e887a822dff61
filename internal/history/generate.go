package history

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
)

// A Generator makes up transactions. It may be used by many clients at the same time.
type Generator struct {
	Prefix string // of the keys
	Keys   int    // how many there are at a time
	MaxOps int    // of a transaction

	// Rounds is how many transactions there are to a set of keys. Then come new keys, so that lists do not
	// grow for ever and ranges begin empty. 0: the same keys for ever.
	Rounds int

	values, txns atomic.Int64
}

// Next makes up the operations of a transaction.
func (g *Generator) Next(random *rand.Rand) []Op {
	round := int64(0)
	if n := g.txns.Add(1); g.Rounds > 0 {
		round = n / int64(g.Rounds)
	}
	key := func(n int) string { return fmt.Sprintf("%slist/%06d/%03d", g.Prefix, round, n) }
	ops := make([]Op, 1+random.IntN(g.MaxOps))
	for i := range ops {
		n := random.IntN(g.Keys)
		switch random.IntN(6) {
		case 0, 1:
			ops[i] = Op{Kind: Append, Key: key(n), Value: int(g.values.Add(1))}
		case 2, 3:
			ops[i] = Op{Kind: Range, Key: key(n), Hi: key(n + 1 + random.IntN(g.Keys))}
		default:
			ops[i] = Op{Kind: Read, Key: key(n)}
		}
	}
	return ops
}
