package integration

import (
	"testing"

	"github.com/longship-db/longship/internal/testport"
)

func freePort(t *testing.T) int {
	t.Helper()
	port, err := testport.Take()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
