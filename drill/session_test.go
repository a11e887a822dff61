package drill

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/internal/history"
)

// Only what proves that nothing was committed may count as refused.
func TestOutcomeOf(t *testing.T) {
	server := func(code string) error { return fmt.Errorf("exec: %w", &pgconn.PgError{Code: code}) }
	tests := []struct {
		err  error
		want history.Outcome
	}{
		{server("25006"), history.Aborted}, // a standby
		{server("40001"), history.Aborted}, // serialization failure
		{server("53100"), history.Aborted}, // disk full
		{server("57P03"), history.Aborted}, // starting up
		{server("40003"), history.Unknown}, // statement completion unknown
		{server("08007"), history.Unknown}, // transaction resolution unknown
		{server("57P01"), history.Aborted}, // terminated between two statements
		{server("57P02"), history.Aborted}, // the node's log has failed
		{nil, history.Committed},
		{server("XX000"), history.Unknown},
		{server(""), history.Unknown},
		{errors.New("unexpected EOF"), history.Unknown},
		{context.Canceled, history.Unknown},
	}
	for _, test := range tests {
		if got := OutcomeOf(test.err); got != test.want {
			t.Errorf("OutcomeOf(%v) = %v, want %v", test.err, got, test.want)
		}
	}
}
