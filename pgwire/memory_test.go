package pgwire

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const megabyte = 1 << 20

func limited(bytes int64) Config {
	return Config{Memory: NewMemory(func() int64 { return bytes })}
}

const outOfMemory = "E ERROR 53200 out of memory"

// brief leaves out what an error says beside its message.
func brief(lines []string) []string {
	for i := range lines {
		lines[i], _, _ = strings.Cut(lines[i], " | ")
	}
	return lines
}

// Many clients send large messages, and stop before the last byte. As many are taken as there is memory for; the others
// are told, and go on; who sends ordinary messages notices nothing. When all is over nothing is held.
func TestMemoryOfLargeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(limited(4 * megabyte))
		ordinary := newClient(t, s)
		ordinary.connect()
		large, _ := (&pgproto3.Query{String: strings.Repeat(" ", megabyte) + "rows 1"}).Encode(nil)
		var clients []*client
		refused := 0
		for range 20 {
			c := newClient(t, s)
			c.connect()
			c.sendBytes(large[:len(large)-1])
			synctest.Wait()
			if used := s.Memory().Used(); used > 4*megabyte {
				t.Fatalf("%d bytes are held, out of %d", used, 4*megabyte)
			}
			clients = append(clients, c)
			if got := ordinary.query("rows 3"); got[len(got)-1] != "Z I" {
				t.Fatalf("another client: %q", got)
			}
		}
		for _, c := range clients {
			c.sendBytes(large[len(large)-1:])
			if got := brief(c.untilReady()); slices.Equal(got, []string{outOfMemory, "Z I"}) {
				refused++
			} else if got[len(got)-2] != "C SELECT 1" {
				t.Errorf("a large message is answered by %q", got)
			}
		}
		if refused < 15 || refused > 17 || s.Memory().Refused() != int64(refused) {
			t.Errorf("%d of 20 messages were refused, counted %d; there was memory for 3 to 5", refused, s.Memory().Refused())
		}
		for _, c := range clients {
			c.checkHeld(s, "rows 1", "C SELECT 1")
		}
	})
}

// checkHeld sends a query to see that the connection is well, and that nothing is held when it has been answered.
func (c *client) checkHeld(s *Server, query, want string) {
	c.t.Helper()
	if got := c.query(query); len(got) < 2 || got[len(got)-2] != want {
		c.t.Errorf("%s: %q, want %s", query, got, want)
	}
	synctest.Wait()
	if used := s.Memory().Used(); used != 0 {
		c.t.Errorf("%d bytes are held by nobody", used)
	}
}

// What is refused of a message, in each protocol, is read past.
func TestMemoryRefused(t *testing.T) {
	text := strings.Repeat(" ", megabyte) + "rows 1"
	for name, test := range map[string]struct {
		send []pgproto3.FrontendMessage
		want []string
	}{
		"query":   {[]pgproto3.FrontendMessage{&pgproto3.Query{String: text}}, []string{outOfMemory, "Z I"}},
		"parse":   {[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Sync{}}, []string{outOfMemory, "Z I"}},
		"copy":    {[]pgproto3.FrontendMessage{&pgproto3.Query{String: "copyin"}, &pgproto3.CopyData{Data: []byte(text)}, &pgproto3.CopyDone{}}, []string{"CopyInResponse", outOfMemory, "Z I"}},
		"unasked": {[]pgproto3.FrontendMessage{&pgproto3.CopyData{Data: []byte(text)}, &pgproto3.Query{String: "rows 0"}}, []string{"T n:23:0", "C SELECT 0", "Z I"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(limited(megabyte))
				c := newClient(t, s)
				c.connect()
				c.send(test.send...)
				if got := brief(c.untilReady()); !slices.Equal(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
				c.checkHeld(s, "rows 1", "C SELECT 1")
			})
		})
	}
}

// What was made of a statement's text counts as long as the statement is kept.
func TestMemoryOfStatements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(limited(megabyte))
		c := newClient(t, s)
		c.connect()
		if got := brief(c.query("sized 2000000")); !slices.Equal(got, []string{outOfMemory, "Z I"}) {
			t.Errorf("a large statement is answered by %q", got)
		}
		c.checkHeld(s, "sized 500000", "C SIZED")
		if got := brief(c.query("grown 2000000")); !slices.Equal(got, []string{outOfMemory, "Z I"}) {
			t.Errorf("a statement that its analysis makes large is answered by %q", got)
		}
		c.checkHeld(s, "grown 500000", "C SIZED")
		parse := &pgproto3.Parse{Name: "p", Query: "sized 600000"}
		c.send(parse, &pgproto3.Sync{})
		c.checkLines("ParseComplete", "Z I")
		parse.Name = "q"
		c.send(parse, &pgproto3.Sync{})
		if got := brief(c.untilReady()); !slices.Equal(got, []string{outOfMemory, "Z I"}) {
			t.Errorf("a second prepared statement is answered by %q", got)
		}
		c.send(&pgproto3.Close{ObjectType: 'S', Name: "p"}, &pgproto3.Sync{})
		c.checkLines("CloseComplete", "Z I")
		c.checkHeld(s, "rows 1", "C SELECT 1")
	})
}

// A portal has its statement as long as it lives, whether or not that has been closed or replaced, and all of its parameters
// and the types that the client chose count.
func TestMemoryOfPortals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(limited(megabyte))
		c := newClient(t, s)
		c.connect()
		c.query("begin")
		long := "rows 1" + strings.Repeat(" ", 300_000)
		refused := 0
		for i := range 10 {
			c.send(&pgproto3.Parse{Query: long}, &pgproto3.Bind{DestinationPortal: string(rune('a' + i))}, &pgproto3.Sync{})
			if got := brief(c.untilReady()); slices.Contains(got, outOfMemory) {
				refused++
				break
			}
		}
		if refused == 0 {
			t.Errorf("10 portals of long statements hold %d bytes, out of %d", s.Memory().Used(), megabyte)
		}
		c.checkHeld(s, "commit", "C COMMIT")
		c.send(&pgproto3.Parse{Name: "p", Query: "rows 1", ParameterOIDs: make([]uint32, 30_000)}, &pgproto3.Sync{})
		c.checkLines("ParseComplete", "Z I")
		if used := s.Memory().Used(); used < 400_000 {
			t.Errorf("a statement of 30000 types holds %d bytes", used)
		}
	})
}

// What PREPARE keeps is all of its text.
func TestMemoryOfPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(limited(megabyte))
		c := newClient(t, s)
		c.connect()
		if got := c.query("prepare " + strings.Repeat("x", 300_000)); got[0] != "C PREPARE" {
			t.Fatalf("PREPARE: %q", got)
		}
		synctest.Wait()
		if used := s.Memory().Used(); used < 250_000 {
			t.Errorf("%d bytes are held for a text of 300000", used)
		}
	})
}

// A connection that waits for its next message holds nothing of the one before.
func TestIdleConnectionHoldsNothing(t *testing.T) {
	s := newTestServer(limited(4 * megabyte))
	c := dial(t, serve(t, s))
	c.connect()
	if got := c.query(strings.Repeat(" ", megabyte) + "rows 1"); got[len(got)-2] != "C SELECT 1" {
		t.Fatalf("a large message: %q", got)
	}
	for deadline := time.Now().Add(30 * time.Second); s.Memory().Used() != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held by an idle connection", s.Memory().Used())
		}
	}
}

// Prepared statements and portals of all connections are on the account, until they are closed or their connection is.
func TestMemoryBetweenMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(limited(4 * megabyte))
		parse := &pgproto3.Parse{Name: "p", Query: strings.Repeat(" ", megabyte) + "echo"}
		bind := &pgproto3.Bind{DestinationPortal: "b", PreparedStatement: "p", Parameters: [][]byte{make([]byte, megabyte/2)}}
		var clients []*client
		for range 2 {
			c := newClient(t, s)
			c.connect()
			c.send(&pgproto3.Query{String: "begin"})
			c.untilReady()
			c.send(parse, bind, &pgproto3.Sync{})
			c.checkLines("ParseComplete", "BindComplete", "Z T")
			clients = append(clients, c)
		}
		synctest.Wait()
		if used := s.Memory().Used(); used < 3*megabyte-256<<10 || used > 3*megabyte+256<<10 {
			t.Errorf("%d bytes are held, want about %d", used, 3*megabyte)
		}
		c := newClient(t, s)
		c.connect()
		c.send(parse, &pgproto3.Sync{})
		if got := brief(c.untilReady()); !slices.Equal(got, []string{outOfMemory, "Z I"}) {
			t.Errorf("a statement too many is answered by %q", got)
		}
		clients[0].send(&pgproto3.Close{ObjectType: 'S', Name: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "b"}, &pgproto3.Sync{})
		clients[0].checkLines("CloseComplete", "CloseComplete", "Z T")
		c.send(parse, &pgproto3.Sync{})
		c.checkLines("ParseComplete", "Z I")
		clients[1].nc.Close()
		c.nc.Close()
		synctest.Wait()
		clients[0].checkHeld(s, "commit", "C COMMIT")
	})
}

// Who asks for more than there is has nobody else refused, not for a moment.
func TestRefusedTakesNothing(t *testing.T) {
	m := NewMemory(func() int64 { return megabyte })
	asks := make(chan struct{})
	go func() {
		defer close(asks)
		for range 100_000 {
			if m.take(2 * megabyte) {
				t.Error("more was given than there is")
				return
			}
		}
	}()
	for asking := true; asking; {
		select {
		case <-asks:
			asking = false
		default:
		}
		if !m.take(1) || !m.take(-1) {
			t.Fatal("there is a megabyte, and not a byte of it is given")
		}
	}
	if m.Used() != 0 || m.Refused() != 100_000 {
		t.Errorf("%d bytes are held, %d requests were refused", m.Used(), m.Refused())
	}
}
