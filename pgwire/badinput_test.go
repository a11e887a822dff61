package pgwire

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// silent connects and says nothing but an SSLRequest, whose answer shows that the server has the connection.
func silent(t *testing.T, s *Server) *client {
	t.Helper()
	c := newClient(t, s)
	c.sendBytes(packet(80877103, ""))
	if got := make([]byte, 1); !readsFully(c, got) || got[0] != 'N' {
		t.Fatalf("no answer to SSLRequest: %q", got)
	}
	return c
}

// Whoever has been in start-up longest makes place for the next one, so that those who say nothing keep
// nobody out, however many they are.
func TestStartUpIsCrowdedOut(t *testing.T) {
	s := newTestServer(Config{MaxStarting: 4})
	var crowd []*client
	for range 4 {
		crowd = append(crowd, silent(t, s))
	}
	client := newClient(t, s)
	if got := client.connect(); got[len(got)-1] != "Z I" {
		t.Fatalf("with start-up full: %q", got)
	}
	if got, _ := io.ReadAll(crowd[0].nc); len(got) != 0 {
		t.Errorf("server said %q to the oldest in start-up, want nothing", got)
	}
	if got := crowd[1].connect(); got[len(got)-1] != "Z I" {
		t.Errorf("the second oldest: %q", got)
	}
	for range 50 {
		silent(t, s)
	}
	if got := client.query("rows 0"); got[len(got)-1] != "Z I" {
		t.Errorf("who is past start-up has suffered: %q", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.starting.Len() > 4 || s.away.dropped == 0 {
		t.Errorf("%d connections in start-up, %d crowded out", s.starting.Len(), s.away.dropped)
	}
}

// Who is privileged gets in when others do not any more, and members always.
func TestReservedConnections(t *testing.T) {
	s := newTestServer(Config{
		MaxConnections: 3, ReservedConnections: 1, MaxWALSenders: 1,
		Privileged: func(c *Conn) bool { return c.Database == "admin" },
	})
	ok := []string{"Z I"}
	full := []string{"E FATAL 53300 sorry, too many clients already", "EOF"}
	reserved := []string{"E FATAL 53300 remaining connection slots are reserved for non-replication superuser connections", "EOF"}
	for i, step := range []struct {
		params []string
		want   []string
	}{
		{nil, ok},
		{nil, ok},
		{nil, reserved},
		{[]string{"replication", "true"}, ok},
		{[]string{"database", "admin"}, ok},
		{nil, full},
		{[]string{"database", "admin"}, full},
		{[]string{"replication", "true", "_pq_.longship", "1"}, ok},
		{[]string{"replication", "database", "_pq_.longship", "1"}, ok},
		{[]string{"_pq_.longship", "1"}, full},
	} {
		got := newClient(t, s).connect(step.params...)
		if len(step.want) == 1 {
			got = got[len(got)-1:]
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%d: connecting with %q: %q, want %q", i, step.params, got, step.want)
		}
	}
	if s.away.refused != 4 {
		t.Errorf("%d counted as refused, want 4", s.away.refused)
	}
}

// A place is free again when its connection has ended.
func TestPlacesAreGivenBack(t *testing.T) {
	s := newTestServer(Config{MaxConnections: 1, MaxWALSenders: 1, MaxStarting: 2})
	for i := range 20 {
		c := newClient(t, s)
		var params []string
		if i%2 == 1 {
			params = []string{"replication", "true"}
		}
		if got := c.connect(params...); got[len(got)-1] != "Z I" {
			t.Fatalf("connection %d: %q", i, got)
		}
		conn := s.Conns()[0]
		c.send(&pgproto3.Terminate{})
		<-conn.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) != 0 || s.count != [admissions]int{} || s.away != (turnedAway{}) {
		t.Errorf("left: %d connections, counts %v, %+v", len(s.conns), s.count, s.away)
	}
}

// A message has to arrive whole within the session's limit, however slowly its bytes come.
func TestIdleLimit(t *testing.T) {
	for name, input := range map[string][]byte{
		"nothing":              nil,
		"half a message":       {'Q', 0, 0, 0, 200, 'r', 'o', 'w'},
		"a body of a gigabyte": {'Q', 0x3f, 0, 0, 0, 'r', 'o', 'w'},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, newTestServer(Config{Handler: &fakeHandler{idle: time.Minute}}))
				c.connect()
				time.Sleep(time.Minute - time.Second)
				if got := c.query("rows 0"); got[len(got)-1] != "Z I" {
					t.Fatalf("within the limit: %q", got)
				}
				start := time.Now()
				var slow sync.WaitGroup
				defer slow.Wait()
				slow.Go(func() {
					for i := 0; ; i++ {
						if _, err := c.nc.Write(input[min(i, len(input)):min(i+1, len(input))]); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				})
				c.nc.SetReadDeadline(start.Add(time.Hour))
				m, err := c.fe.Receive()
				limit := time.Minute
				if err == nil && strings.HasPrefix(describe(m), "E ERROR 54000") {
					limit += time.Since(start) // the rest of that message is read past
					for err == nil && !strings.HasPrefix(describe(m), "E FATAL") {
						m, err = c.fe.Receive()
					}
				}
				want := "E FATAL 57P05 idle"
				if err != nil || describe(m) != want || time.Since(start) != limit {
					t.Errorf("got %v, %v after %v, want %q after %v", m, err, time.Since(start), want, limit)
				}
				c.nc.Close()
			})
		})
	}
}

// neverReads connects, has a session send rows without end, and reads none of them.
func neverReads(t *testing.T, c *client, s *Server) *Conn {
	t.Helper()
	c.connect()
	c.send(&pgproto3.Query{String: "big"})
	return waitBusy(s)
}

// A client that reads nothing of what it is sent is given up, and costs no more than buffers meanwhile. Others
// do not notice.
func TestClientThatNeverReads(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("TCP_USER_TIMEOUT is Linux's")
	}
	s := newTestServer(Config{UserTimeout: func() time.Duration { return 200 * time.Millisecond }})
	addr := serve(t, s)
	stuck := neverReads(t, dial(t, addr), s)
	other := dial(t, addr)
	other.connect()
	for range 100 {
		if got := other.query("rows 3"); got[len(got)-1] != "Z I" {
			t.Fatalf("another client: %q", got)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	select {
	case <-stuck.done:
	case <-time.After(30 * time.Second):
		t.Fatal("a client that never reads keeps its connection")
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 64<<20 {
		t.Errorf("%d bytes were allocated for a client that reads nothing", grown)
	}
	if got := other.query("rows 3"); got[len(got)-1] != "Z I" {
		t.Errorf("another client afterwards: %q", got)
	}
}

// A client that sends without end, and reads no answers, is no longer read when its answers are not.
func TestClientThatSendsWithoutEnd(t *testing.T) {
	s := newTestServer(Config{UserTimeout: func() time.Duration { return 200 * time.Millisecond }})
	c := dial(t, serve(t, s))
	c.connect()
	round, err := (&pgproto3.Query{String: "rows 300"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	conn := s.Conns()[0]
	var sending sync.WaitGroup
	sending.Go(func() {
		for many := slices.Repeat(round, 100); ; {
			if _, err := c.nc.Write(many); err != nil {
				return
			}
		}
	})
	select {
	case <-conn.done:
	case <-time.After(30 * time.Second):
		t.Error("it is served for ever")
		c.nc.Close()
	}
	sending.Wait()
}

// Whatever bytes come, at start-up or after it: the server stays, and serves the next one.
func TestRandomBytes(t *testing.T) {
	s := newTestServer(Config{})
	addr := serve(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		c := dial(t, addr)
		if i%2 == 0 {
			c.connect()
		}
		b := make([]byte, random.IntN(3000))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		if i%4 >= 2 && len(b) > 5 { // get past the length
			copy(b, []byte{"QPBDECSHX"[random.IntN(9)], 0, 0, byte(random.IntN(8))})
		}
		c.nc.Write(b)
		c.nc.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c.nc)
		c.nc.Close()
	}
	if got := dial(t, addr).connect(); got[len(got)-1] != "Z I" {
		t.Errorf("afterwards: %q", got)
	}
}

// A connection that has been used and is idle holds neither buffer, and costs little else.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const params = 30_000
	large := strings.Repeat("x", 100<<10)
	for name, use := range map[string]func(c *client){
		"query": func(c *client) { c.query("rows 300") },
		"parse": func(c *client) {
			c.send(&pgproto3.Parse{Name: large, Query: "error", ParameterOIDs: make([]uint32, params)}, &pgproto3.Sync{})
			c.untilReady()
		},
		"bind": func(c *client) {
			c.send(&pgproto3.Parse{Query: "echo"}, &pgproto3.Bind{
				Parameters: make([][]byte, params), ParameterFormatCodes: make([]int16, params), ResultFormatCodes: make([]int16, params),
			}, &pgproto3.Sync{})
			c.untilReady()
		},
		"describe, execute, close": func(c *client) {
			c.send(&pgproto3.Describe{ObjectType: 'S', Name: large}, &pgproto3.Sync{}, &pgproto3.Execute{Portal: large}, &pgproto3.Sync{},
				&pgproto3.Close{ObjectType: 'S', Name: large}, &pgproto3.Sync{})
			for range 3 {
				c.untilReady()
			}
		},
	} {
		t.Run(name, func(t *testing.T) { testIdleConnectionIsSmall(t, use) })
	}
}

func testIdleConnectionIsSmall(t *testing.T, use func(c *client)) {
	const conns, limit = 100, 7 << 10 // of heap, ours and the test's own end of each; a buffer alone is 8 KiB
	s := newTestServer(Config{MaxConnections: conns})
	addr := serve(t, s)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var all []net.Conn
	for range conns {
		c := dial(t, addr)
		c.connect()
		use(c)
		all = append(all, c.nc) // not the frontend, which has buffers
	}
	var each int64
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if each = (heap() - before) / conns; each < limit {
			break
		}
	}
	if each >= limit {
		t.Errorf("an idle connection takes %d bytes of heap, want less than %d", each, limit)
	}
	runtime.KeepAlive(all)
}

// Buffers that are given back while a connection is idle are not used by two: what clients are told is theirs.
func TestBuffersAreNotShared(t *testing.T) {
	addr := serve(t, newTestServer(Config{}))
	var wg sync.WaitGroup
	for id := range 4 {
		wg.Go(func() {
			c := dial(t, addr)
			c.connect()
			for i := range 50 {
				value := strings.Repeat(fmt.Sprintf("%d/%d ", id, i), 1+i*7%3000)
				c.send(&pgproto3.Parse{Query: "echo"}, &pgproto3.Bind{Parameters: [][]byte{[]byte(value)}}, &pgproto3.Execute{}, &pgproto3.Sync{})
				got := c.untilReady()
				if want := fmt.Sprintf("D %q", value); !slices.Contains(got, want) {
					t.Errorf("client %d was told what is not its own: %.200q", id, got)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What was turned away is logged together, not line by line.
func TestTurnedAwayIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := &logLines{}
		s := newTestServer(Config{Logger: lines.logger()})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.logTurnedAway(ctx) })
		for range 100 {
			c := newClient(t, s)
			c.sendBytes([]byte("GET / HTTP/1.1\r\n\r\n"))
			io.Copy(io.Discard, c.nc)
		}
		time.Sleep(2 * logInterval)
		cancel()
		wg.Wait()
		if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "start_up_failed=100") {
			t.Errorf("logged %q, want one line that says 100 failed", got)
		}
	})
}
