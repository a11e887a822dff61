package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// What a client of the HTTP server may cost: so many connections, each for so long. There is nothing to
// upload, and no answer takes long.
const (
	httpConns        = 64
	httpScrapes      = 4 // at the same time
	httpReadTimeout  = 5 * time.Second
	httpWriteTimeout = 20 * time.Second
	httpIdleTimeout  = 30 * time.Second
	httpHeaderBytes  = 16 << 10
	httpCloseTimeout = time.Second
)

// serveHTTP answers on --http-listen until the function it returns is called, which waits for the end.
// It begins before the node has a role and ends after it has none, so probes are always answered. ctx
// is the node's: once it has ended the node is stopping. A failure of this server is not the node's.
func (n *Node) serveHTTP(ctx context.Context) (stop func()) {
	if n.httpListener == nil {
		return func() {}
	}
	log := n.log.With("component", "http")
	server := newHTTPServer(n.newHTTPHandler(ctx, log), log)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(netutil.LimitListener(n.httpListener, httpConns)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics and health are not served any more", "err", err)
		}
	}()
	return func() {
		closing, cancel := context.WithTimeout(context.Background(), httpCloseTimeout)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			server.Close() // whoever is still being answered has had its time
		}
		<-done
	}
}

// newHTTPServer is a server on which nobody can hold a connection by being slow.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: httpReadTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// newHTTPHandler serves the three paths there are, and profiles if they are wanted. Others are not found, and other
// methods than GET and HEAD are not allowed.
func (n *Node) newHTTPHandler(ctx context.Context, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newCollector(ctx, n),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // most numbers are better than none
		MaxRequestsInFlight: httpScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, n.healthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, req *http.Request) {
		want, err := parseReadiness(req.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, n.readiness(ctx, req.Context(), want))
	})
	if n.cfg.EnablePprof {
		handleProfiles(mux)
	}
	return mux
}

// handleProfiles serves what go tool pprof asks for: how a process spends its time and its memory. It tells
// more of the process than metrics do, and costs it something, so it is not there unless it is asked for.
func handleProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// A verdict is the answer to a probe: yes or no, and a line that says why.
type verdict struct {
	ok  bool
	why string
}

func yes(format string, args ...any) verdict { return verdict{true, fmt.Sprintf(format, args...)} }
func no(format string, args ...any) verdict  { return verdict{false, fmt.Sprintf(format, args...)} }

func answer(w http.ResponseWriter, v verdict) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !v.ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, v.why+"\n") // who has hung up does not want it
}

// openHTTP opens the port of --http-listen, if there is to be one.
func (n *Node) openHTTP() (err error) {
	if n.cfg.HTTPListen == "" {
		return nil
	}
	if n.httpListener, err = n.cfg.Machine.Listen("tcp", n.cfg.HTTPListen); err != nil {
		return fmt.Errorf("%w: is another node running there? choose another port with --http-listen", err)
	}
	return nil
}
