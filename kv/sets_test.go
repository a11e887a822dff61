package kv

import (
	"errors"
	"strings"
	"testing"
	"unsafe"
)

// Only a transaction that may write has to know what it has read.
func TestReadOnlyRemembersNothing(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	x.put("a", "1")
	x.settleAll()
	standby := NewTable(x.Table.store, nil, x.horizon, TableOptions{})
	defer standby.Close()
	for _, test := range []struct {
		name  string
		tx    *Txn
		knows bool
	}{
		{"read write", x.Begin(TxnOptions{}), true},
		{"read only", x.Begin(TxnOptions{ReadOnly: true}), false},
		{"on a standby", standby.Begin(TxnOptions{}), false},
	} {
		if got := x.read(test.tx, "a"); got != "1" {
			t.Errorf("%s: a is %q", test.name, got)
		}
		x.scan(test.tx, Range{Unbounded: true})
		if n := test.tx.ReadBytes(); n > 0 != test.knows {
			t.Errorf("%s: it remembers %d bytes", test.name, n)
		}
		if err := test.tx.Put("b", nil); (err == nil) != test.knows || err != nil && !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: Put() = %v", test.name, err)
		}
		if err := test.tx.Delete("b"); (err == nil) != test.knows || err != nil && !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: Delete() = %v", test.name, err)
		}
		test.tx.Rollback()
	}
}

// A key may be a small part of a large text. A transaction that lasts longer than the text keeps none of that.
func TestLongTransactionCopiesKeys(t *testing.T) {
	x := newTestTable(t, TableOptions{})
	for _, long := range []bool{true, false} {
		tx := x.Begin(TxnOptions{Long: long})
		given := strings.Repeat("k", 10)
		shared := func(kept string) bool { return unsafe.StringData(kept) == unsafe.StringData(given) }
		x.read(tx, given)
		x.scan(tx, Range{Lo: given, Unbounded: true})
		if err := tx.Put(given, nil); err != nil {
			t.Fatal(err)
		}
		kept := []string{tx.reads.keys[0], tx.reads.ranges[0].Lo, tx.writes.ops[0].Key}
		for i, what := range []string{"key read", "range read", "key written"} {
			if shared(kept[i]) == long {
				t.Errorf("long %t: the %s shares the memory of what was given: %t", long, what, !long)
			}
		}
		tx.Rollback()
	}
}
