package walsender

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The scripts hold conversations: commands that do not stream, and what a client sees of the answer.
//
//	do [conn=name] [member]: one command on that connection, which is opened when it is first named
//	close conn=name
func TestCommands(t *testing.T) {
	datadriven.Walk(t, "testdata/commands", func(t *testing.T, path string) {
		p := newPrimary(t, vfs.NewMem(), "data", nil)
		p.insert(100)
		p.flush()
		conns := make(map[string]*client)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			name := "a"
			d.MaybeScanArgs(t, "conn", &name)
			c := conns[name]
			if c == nil {
				params := map[string]string{"application_name": name}
				if d.HasArg("member") {
					params = memberParams(name)
				}
				c = p.connect(params)
				conns[name] = c
			}
			switch d.Cmd {
			case "do":
				return strings.Join(c.do(d.Input), "\n") + "\n"
			case "close":
				delete(conns, name)
				c.close()
				return "ok\n"
			default:
				t.Fatalf("unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}
