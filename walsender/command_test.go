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

// A member says who it is.
func TestMemberParameters(t *testing.T) {
	p := newPrimary(t, vfs.NewMem(), "data", nil)
	if got := p.connect(memberParams("n2")).do("SHOW longship.epoch"); got[1] != `D "3"` {
		t.Errorf("a member's question is answered by %q", got)
	}
	for _, params := range []map[string]string{{"_pq_.longship": "1"}, {"_pq_.longship": "1", "longship.node_id": "1", "longship.incarnation": "x"},
		{"_pq_.longship": "1", "longship.node_id": "1", "longship.incarnation": "0"},
		{"_pq_.longship": "1", "longship.node_id": "0", "longship.incarnation": "1"}} {
		c := p.dial()
		c.tell(startupMessage(params))
		if got := c.receive(); !strings.HasPrefix(got, "E FATAL 22023") {
			t.Errorf("%v is answered by %q", params, got)
		}
	}
}

// A connection to a database is told so, and may run no SQL either.
func TestDatabaseConnection(t *testing.T) {
	p := newPrimary(t, vfs.NewMem(), "data", nil)
	c := p.connect(map[string]string{"replication": "database", "database": "db"})
	if got := c.do("IDENTIFY_SYSTEM")[1]; !strings.HasSuffix(got, ` "db"`) {
		t.Errorf("got %q", got)
	}
	if got := c.do("SELECT 1")[0]; !strings.HasPrefix(got, "E ERROR 0A000") {
		t.Errorf("got %q", got)
	}
}
