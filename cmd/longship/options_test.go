package main

import (
	"io"
	"strings"
	"testing"
)

func TestOptionsFirst(t *testing.T) {
	commands := newApp(io.Discard, io.Discard).Commands
	for line, want := range map[string]string{
		"longship":                                  "longship",
		"longship --version":                        "longship --version",
		"longship nonsense --port 1":                "longship nonsense --port 1",
		"longship members remove n4 --port 5434":    "longship members remove --port 5434 n4",
		"longship members remove n4 --port=5434":    "longship members remove --port=5434 n4",
		"longship slots create s --host h --port 1": "longship slots create --host h --port 1 s",
		"longship members remove --port 5434 n4":    "longship members remove --port 5434 n4",
		"longship waldump seg --unknown --json":     "longship waldump --unknown --json seg",
		"longship waldump seg -unknown --json":      "longship waldump --json seg -unknown",
		"longship drill run kill-all --help":        "longship drill run --help",
		"longship drill run --nodes 5 kill-all -h":  "longship drill run -h",
		"longship drill run kill-all -- --help":     "longship drill run kill-all -- --help",
		"longship config set max_wal -1 --port 1":   "longship config set --port 1 max_wal -1",
		"longship members remove --unknown n4":      "longship members remove --unknown n4",
		"longship waldump a -- --port 1":            "longship waldump a -- --port 1",
		"longship status x --watch y":               "longship status --watch x y",
		"longship drill run kill-all --network":     "longship drill run --network",
	} {
		if got := strings.Join(optionsFirst(commands, strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}
