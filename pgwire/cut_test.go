package pgwire

import (
	"io"
	"net"
	"testing"
)

func everyone(*Conn) bool { return true }

// After Cut nothing is open and nothing is taken any more, whatever a connection is doing.
func TestCut(t *testing.T) {
	s := NewServer(Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), ln) }()
	var silent []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// An answered SSLRequest shows that the server has the connection.
		if _, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	s.Cut()
	for _, c := range silent {
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from a connection that was cut", n)
		}
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("connected after Cut")
	}
	if err := <-served; err == nil {
		t.Error("Serve() = nil, want the listener's error")
	}
}
