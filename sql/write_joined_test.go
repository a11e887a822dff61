package sql

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"testing"
)

// A freshBackend is a memory whose scans give each row a large value of its own, as the store does.
type freshBackend struct {
	*memory
	deleting func()
}

func (b *freshBackend) Begin(ctx context.Context, mode TxnMode) (Txn, error) {
	txn, err := b.memory.Begin(ctx, mode)
	return &freshTxn{txn.(*memoryTxn), b.deleting}, err
}

type freshTxn struct {
	*memoryTxn
	deleting func()
}

const freshSize = 1 << 20

func (t *freshTxn) Scan(ctx context.Context, r Range) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for row, err := range t.memoryTxn.Scan(ctx, r) {
			if row.Value = bytes.Repeat([]byte("v"), freshSize); !yield(row, err) {
				return
			}
		}
	}
}

func (t *freshTxn) Delete(key string) error {
	t.deleting()
	return t.memoryTxn.Delete(key)
}

// DELETE … USING keeps the keys that it has found, and no values.
func TestDeletedValuesAreNotKept(t *testing.T) {
	const rows = 32
	b := &freshBackend{memory: newMemory()}
	for i := range rows {
		b.put(fmt.Sprintf("k%02d", i), "")
	}
	b.put("v", "")
	most := int64(0)
	b.deleting = func() { most = max(most, heap()) }
	s, err := NewSession(&client{}, b, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	mustRun(t, s, "delete from kv using kv b where b.key = left(kv.value, 1)")
	if taken := most - before; most == 0 || taken > rows*freshSize/4 {
		t.Errorf("%d bytes are in memory when %d rows of %d are deleted", taken, rows, freshSize)
	}
}
