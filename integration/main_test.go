package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// longship is the path of the program under test.
var longship string

// long says that there is time for more repetitions.
var long = os.Getenv("LONGSHIP_LONG") == "1"

func TestMain(m *testing.M) {
	flag.Parse()
	if !explicit("test.parallel") {
		flag.Set("test.parallel", "4") // each test is a cluster of processes, which mostly wait
	}
	os.Exit(run(m))
}

func explicit(name string) (set bool) {
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func run(m *testing.M) int {
	if longship = os.Getenv("LONGSHIP_BIN"); longship != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "longship-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	longship = filepath.Join(dir, "longship")
	if out, err := exec.Command("go", "build", "-pgo=off", "-o", longship, "../cmd/longship").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
