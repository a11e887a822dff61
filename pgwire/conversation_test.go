package pgwire

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestConversations plays the scripts in testdata. A script has one connection; "connect" begins
// it anew. Under "send" each line is a message; the answers are shown up to the first ReadyForQuery
// (or as many as until=N says, or ready=N ReadyForQuerys):
//
//	Q text              P name|text|oid…      B portal|statement|value…   (NULL for NULL)
//	D S name, D P name  E portal [limit]      C S name, C P name
//	S  H  X  c  F       raw hex               long type length
//	d data              f message
func TestConversations(t *testing.T) {
	datadriven.Walk(t, "testdata/conversations", func(t *testing.T, path string) {
		var c *client
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "connect":
				var limit, memory int
				d.MaybeScanArgs(t, "max-message", &limit)
				d.MaybeScanArgs(t, "max-memory", &memory)
				c = newClient(t, newTestServer(Config{MaxMessageLen: limit, MaxSessionMemory: memory}))
				var params []string
				for line := range strings.Lines(d.Input) {
					name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
					params = append(params, name, value)
				}
				return strings.Join(c.connect(params...), "\n") + "\n"
			case "send":
				c.t = t
				return play(c, d)
			}
			t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

func play(c *client, d *datadriven.TestData) string {
	var buf []byte
	for line := range strings.Lines(d.Input) {
		buf = append(buf, encodeLine(c.t, strings.TrimSpace(line))...)
	}
	c.sendBytes(buf)
	until, ready := 0, 1
	d.MaybeScanArgs(c.t.(*testing.T), "until", &until)
	d.MaybeScanArgs(c.t.(*testing.T), "ready", &ready)
	var lines []string
	if until > 0 {
		for range until {
			lines = append(lines, c.receive())
		}
		ready = 0
	}
	for range ready {
		lines = append(lines, c.untilReady()...)
	}
	return strings.Join(lines, "\n") + "\n"
}

func encodeLine(t testing.TB, line string) []byte {
	t.Helper()
	verb, rest, _ := strings.Cut(line, " ")
	if verb == "raw" {
		var b []byte
		for word := range strings.FieldsSeq(rest) {
			n, err := strconv.ParseUint(word, 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, byte(n))
		}
		return b
	}
	b, err := frontendMessage(t, verb, rest).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func frontendMessage(t testing.TB, verb, rest string) pgproto3.FrontendMessage {
	t.Helper()
	parts := strings.Split(rest, "|")
	switch verb {
	case "Q":
		return &pgproto3.Query{String: rest}
	case "P":
		m := &pgproto3.Parse{Name: parts[0], Query: parts[1]}
		for _, oid := range parts[2:] {
			n, _ := strconv.Atoi(oid)
			m.ParameterOIDs = append(m.ParameterOIDs, uint32(n))
		}
		return m
	case "B":
		m := &pgproto3.Bind{DestinationPortal: parts[0], PreparedStatement: parts[1]}
		for _, v := range parts[2:] {
			if v == "NULL" {
				m.Parameters = append(m.Parameters, nil)
			} else {
				m.Parameters = append(m.Parameters, []byte(v))
			}
		}
		return m
	case "D":
		return &pgproto3.Describe{ObjectType: rest[0], Name: strings.TrimSpace(rest[1:])}
	case "C":
		return &pgproto3.Close{ObjectType: rest[0], Name: strings.TrimSpace(rest[1:])}
	case "E":
		name, limit, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(limit)
		return &pgproto3.Execute{Portal: name, MaxRows: uint32(n)}
	case "d":
		return &pgproto3.CopyData{Data: []byte(rest)}
	case "f":
		return &pgproto3.CopyFail{Message: rest}
	case "long": // type and length of the body
		typ, length, _ := strings.Cut(rest, " ")
		n, _ := strconv.Atoi(length)
		return rawMessage{typ[0], make([]byte, n)}
	}
	m := newFrontendMessage(verb[0])
	if f, ok := m.(*pgproto3.FunctionCall); ok {
		f.ArgFormatCodes = nil
	}
	return m
}

// A rawMessage is any type with any body.
type rawMessage struct {
	typ  byte
	body []byte
}

func (rawMessage) Frontend()           {}
func (rawMessage) Decode([]byte) error { return fmt.Errorf("not decoded") }
func (m rawMessage) Encode(dst []byte) ([]byte, error) {
	n := len(m.body) + 4
	dst = append(dst, m.typ, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(dst, m.body...), nil
}
