package node

import (
	"fmt"
	"testing"

	"github.com/longship-db/longship/internal/testport"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := testport.Take()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
