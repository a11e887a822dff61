package pgwire

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Only what was written by RefuseWAL names a place.
func TestRefuseWAL(t *testing.T) {
	if at, ok := RefusedWAL(RefuseWAL(0x1_0000_0028, "because: of this")); at != 0x1_0000_0028 || !ok {
		t.Errorf("%s, %v", at, ok)
	}
	for _, text := range []string{"", "no", "invalid WAL at ", "invalid WAL at 0/28", "invalid WAL at x: y", "0/28: y"} {
		if at, ok := RefusedWAL(&pgproto3.CopyFail{Message: text}); ok {
			t.Errorf("%q names %s", text, at)
		}
	}
}
