package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// ask is the status and the text of one request to a node, on a connection of its own; 0 if nobody
// answers.
func (n *testNode) ask(method, path string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.cfg.HTTPListen+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// checkAnswer asks until the answer is as wanted: a busy machine may take longer to prove its lease than
// an HTTP client is kept waiting.
func (n *testNode) checkAnswer(method, path string, status int, want string) {
	n.t.Helper()
	for began := time.Now(); ; {
		got, text := n.ask(method, path)
		if got == status && strings.Contains(text, want) {
			return
		}
		if time.Since(began) > 20*time.Second {
			n.t.Errorf("%s: %s %s: %d %q, want %d and %q", n.cfg.Name, method, path, got, text, status, want)
			return
		}
	}
}

func TestHTTP(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.cfg.HTTPListen = freeAddress(t)
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.cfg.HTTPListen, n2.cfg.EnablePprof = freeAddress(t), true
	n2.start()
	n1.exec("INSERT INTO kv VALUES ('a', '1')")
	n2.exec("WAIT FOR LSN '" + n1.value("SELECT pg_current_wal_flush_lsn()::text") + "'")

	for _, c := range []struct {
		node         *testNode
		method, path string
		status       int
		want         string
	}{
		{n1, "GET", "/healthz", 200, "ok\n"},
		{n1, "HEAD", "/healthz", 200, ""},
		{n1, "POST", "/healthz", 405, "Method Not Allowed"},
		{n1, "GET", "/", 404, ""},
		{n1, "GET", "/metrics/x", 404, ""},
		{n1, "DELETE", "/metrics", 405, ""},
		{n1, "GET", "/debug/pprof/", 404, ""},
		{n2, "GET", "/debug/pprof/goroutine?debug=1", 200, "goroutine profile"},
		{n1, "GET", "/metrics", 200, `longship_ready{role="primary"} 1`},
		{n2, "GET", "/metrics", 200, `longship_ready{role="standby"} 1`},
		{n1, "GET", "/readyz", 200, "primary, epoch 1\n"},
		{n1, "GET", "/readyz?role=primary", 200, "primary, epoch 1\n"},
		{n1, "HEAD", "/readyz?role=standby", 503, ""},
		{n1, "GET", "/readyz?role=standby", 503, "this node is a primary\n"},
		{n1, "GET", "/readyz?max_lag=0", 200, "primary"},
		{n2, "GET", "/readyz", 200, "standby, epoch 1\n"},
		{n2, "GET", "/readyz?role=primary", 503, "this node is a standby\n"},
		{n2, "GET", "/readyz?role=standby&max_lag=1048576", 200, "bytes behind\n"},
		{n2, "GET", "/readyz?role=leader", 400, "want primary or standby"},
		{n2, "GET", "/readyz?max_lag=-1", 400, "want a number of bytes"},
		{n2, "GET", "/readyz?rol=primary", 400, "unknown parameter"},
		{n2, "GET", "/readyz?%zz", 400, "makes no sense"},
	} {
		c.node.checkAnswer(c.method, c.path, c.status, c.want)
	}

	// A primary that nobody confirms serves no reads; a standby that hears of nobody does not know how far
	// it is behind.
	r, _ := n2.node.present.load()
	n1.stop()
	n2.checkAnswer("GET", "/healthz", 200, "ok\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for v := r.standbyVerdict(0); v.ok; v = r.standbyVerdict(0) { // until n2 sees that its stream has ended
		if ctx.Err() != nil {
			t.Fatalf("without a primary: %q", v.why)
		}
	}
	n2.stop()
	if status, text := n2.ask("GET", "/healthz"); status != 0 {
		t.Errorf("after the end: %d %q", status, text)
	}
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"net/http.(*Server).Serve", "net/http.(*conn).serve", "serveHTTP"} {
		if strings.Contains(stacks.String(), left) {
			t.Errorf("%s is left after the end", left)
		}
	}
}

// While its node has no data, and from when it is told to stop, a node answers that it is not ready.
func TestNotReady(t *testing.T) {
	n := newTestNode(t, "n2", "127.0.0.1:1") // nobody is there
	n.cfg.HTTPListen = freeAddress(t)
	n.launch()
	for status := 0; status == 0; {
		status, _ = n.ask("GET", "/healthz")
	}
	for status, text := n.ask("GET", "/readyz"); !strings.Contains(text, "base copy"); status, text = n.ask("GET", "/readyz") {
		if status != 503 || !strings.Contains(text, "starting") {
			t.Fatalf("before there is data: %d %q", status, text)
		}
	}
	n.checkAnswer("GET", "/healthz", 200, "ok")
	n.checkAnswer("GET", "/metrics", 200, `longship_ready{role="standby"} 0`)
	stopping, stop := context.WithCancel(t.Context())
	stop()
	if v := n.node.readiness(stopping, t.Context(), wish{}); v.ok || !strings.Contains(v.why, "being stopped") {
		t.Errorf("while stopping: %+v", v)
	}
}

// A primary whose members do not confirm it in time is not ready.
func TestUnprovenPrimary(t *testing.T) {
	n1 := newTestNode(t, "n1")
	n1.cfg.HTTPListen = freeAddress(t)
	n1.start()
	n2 := newTestNode(t, "n2", n1.cfg.Listen)
	n2.start()
	for {
		s, changed := n1.node.raft.Watch()
		counted := 0
		for _, m := range s.Members {
			if m.Counted {
				counted++
			}
		}
		if counted == 2 {
			break
		}
		<-changed
	}
	n1.checkAnswer("GET", "/readyz?role=primary", 200, "primary")
	n2.stop()
	status, text := n1.ask("GET", "/readyz?role=primary")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for status == 200 && ctx.Err() == nil { // what n2 has promised before lasts a moment
		status, text = n1.ask("GET", "/readyz?role=primary")
	}
	if status != 503 || !strings.Contains(text, "not enough members say so") {
		t.Errorf("alone: %d %q", status, text)
	}
	n1.checkAnswer("GET", "/healthz", 200, "ok")
}

func TestDiskVerdict(t *testing.T) {
	if v := diskVerdict("WAL", hungWrite-1); !v.ok {
		t.Errorf("a slow disk: %q", v.why)
	}
	if v := diskVerdict("WAL", hungWrite); v.ok || v.why != "the disk hangs: a write of WAL has not returned for 2s" {
		t.Errorf("a disk that hangs: %+v", v)
	}
}

// An occupied port and one that others could reach are refused, and the error names the flag.
func TestHTTPListenErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := newTestNode(t, "n1")
	n.cfg.HTTPListen = l.Addr().String()
	n.cfg.Out = io.Discard
	node, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "choose another port with --http-listen") {
		t.Errorf("occupied: %v", err)
	}
	for _, listen := range []string{"0.0.0.0:0", "127.0.0.1", "127.0.0.1:70000"} {
		n.cfg.HTTPListen = listen
		if _, err := New(n.cfg); err == nil || !strings.Contains(err.Error(), "--http-listen") {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

// A pipeListener accepts what is sent to it.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A client that never ends its request is cut off, and one that sends nothing after it, too.
func TestSlowHTTPClient(t *testing.T) {
	for _, c := range []struct {
		sent string
		want time.Duration
	}{
		{"GET /healthz HT", httpReadTimeout},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n", httpReadTimeout},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", httpIdleTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
			ok := func(w http.ResponseWriter, _ *http.Request) { answer(w, yes("ok")) }
			server := newHTTPServer(http.HandlerFunc(ok), slog.New(slog.DiscardHandler))
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			ours, theirs := net.Pipe()
			l.conns <- theirs
			start := time.Now()
			go io.WriteString(ours, c.sent)
			if _, err := io.ReadAll(ours); err != nil {
				t.Error(err)
			}
			if got := time.Since(start); got != c.want {
				t.Errorf("after %q the connection lasted %v, want %v", c.sent, got, c.want)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}
