package kv

import (
	"errors"
	"fmt"
)

var (
	// ErrConflict says that something the transaction read has been written since: nothing was
	// committed, and running it again may succeed (SQLSTATE 40001).
	ErrConflict = errors.New("could not serialize access due to concurrent update")

	// ErrReadOnly says that the table has no log to write to, as the node is a standby, or that the transaction began as
	// one that only reads.
	ErrReadOnly = errors.New("cannot write in a read-only transaction")

	// ErrClosed says that the transaction had not read anything when the table was closed, and cannot any more.
	ErrClosed = errors.New("table is closed: the node's role has changed")

	// ErrTxnDone says that the transaction was committed or rolled back before.
	ErrTxnDone = errors.New("transaction has already been committed or rolled back")

	// ErrPastHorizon says that a batch held commits that are not durable under the rule yet. They
	// must never reach the store (DESIGN, section 6, I7).
	ErrPastHorizon = errors.New("batch reaches past the horizon")

	// ErrOrder says that a commit was given to a batch or a store that is there already.
	ErrOrder = errors.New("commits must be applied in LSN order")
)

// A LimitError says that a key, a value or a whole commit is too large, or a key empty
// (SQLSTATE 54000). Sizes are in bytes.
type LimitError struct {
	What string // "key", "value" or "commit"
	Size int
	Max  int
}

func (e *LimitError) Error() string {
	if e.Size == 0 {
		return e.What + " must not be empty"
	}
	return fmt.Sprintf("%s of %d bytes exceeds the limit of %d bytes", e.What, e.Size, e.Max)
}

// A FormatError says what is wrong with the bytes of a commit, and at which offset.
type FormatError struct {
	Offset int
	What   string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("invalid commit record at byte %d: %s", e.Offset, e.What)
}
