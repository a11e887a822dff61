package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/pgwire"
)

// The scripts run commands against a node that answers what it is told to:
//
//	run   the command line; what it prints, its exit code if that is not 0, and what the node was
//	      asked to do
//	fail  the node refuses what it is asked, with this message, detail and hint
//	ok    it no longer does
//	cut   it does the next thing, but ends the session, as a deposed primary does
func TestCommands(t *testing.T) {
	n := startFakeNode(t)
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", strconv.Itoa(n.port))
	datadriven.RunTest(t, "testdata/commands", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "cut":
			n.cutNext()
			return ""
		case "ok":
			n.failWith(nil)
			return ""
		case "fail":
			lines := strings.Split(d.Input, "\n")
			n.failWith(pgwire.Errorf(pgwire.CodeObjectNotInPrerequisiteState, "%s", lines[0]).WithDetail("%s", lines[1]).WithHint("%s", lines[2]))
			return ""
		case "run":
			return n.runCommand(d.Input)
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

// runCommand returns what a command prints, its exit code if that is not 0, and what the node was asked to
// do. The word ” is an empty argument.
func (n *fakeNode) runCommand(line string) string {
	args := []string{"longship"}
	for _, word := range strings.Fields(line) {
		args = append(args, strings.ReplaceAll(word, "''", ""))
	}
	var stdout, stderr strings.Builder
	code := run(args, &stdout, &stderr)
	out := stdout.String() + strings.ReplaceAll(stderr.String(), strconv.Itoa(n.port), "PORT")
	if code != 0 {
		out += fmt.Sprintf("exit %d\n", code)
	}
	for _, call := range n.take() {
		out += "node: " + call + "\n"
	}
	return out
}

// Only yes is yes.
func TestConfirm(t *testing.T) {
	tests := []struct {
		typed string
		want  bool
		err   string
	}{
		{"yes\n", true, ""},
		{" Y \n", true, ""},
		{"yes", true, ""},
		{"no\n", false, ""},
		{"\n", false, ""},
		{"yess\n", false, ""},
		{"", false, "nothing was done"},
	}
	for _, test := range tests {
		app := newApp(io.Discard, io.Discard)
		app.Reader = strings.NewReader(test.typed)
		c := cli.NewContext(app, nil, nil)
		got, err := confirm(c, "Sure?")
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("typed %q: %v, %v, want %v, %q", test.typed, got, err, test.want, test.err)
		}
	}
}
