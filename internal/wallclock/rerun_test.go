package wallclock

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestRerun(t *testing.T) {
	set := Rerun(t)
	if set == nil {
		return
	}
	began := time.Now()
	set(-86400)
	now := time.Now()
	if back := began.Round(0).Sub(now.Round(0)); back < 86000*time.Second || now.Before(began) {
		t.Errorf("the wall clock was set back by %s, want a day; the monotonic one runs from %s to %s", back, began, now)
	}
}

// A test that fails there fails here.
func TestFails(t *testing.T) {
	if os.Getenv(inChild) == t.Name() {
		t.Fatal("as it is to")
	}
	if lacks := Lacks(); lacks != "" {
		t.Skip(lacks)
	}
	if out, err := again(t.Name()); err == nil || !strings.Contains(out, "as it is to") {
		t.Errorf("a test that fails in its process ends with %v: %s", err, out)
	}
}
