package gossip

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// warnEvery is how often what memberlist calls an error becomes a warning: gossip is advice, and a
// stranger with another key is one error for each packet.
const warnEvery = 30 * time.Second

// A logWriter turns the lines of memberlist, "[LEVEL] memberlist: text", into log records.
type logWriter struct {
	logger *slog.Logger
	mu     sync.Mutex
	warned time.Time
}

func (w *logWriter) Write(line []byte) (int, error) {
	level, text, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
	if !ok {
		level, text = "", level
	}
	at := slog.LevelDebug
	if level == "[ERR]" && w.mayWarn() {
		at = slog.LevelWarn
	}
	w.logger.Log(context.Background(), at, "memberlist", "text", strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}

func (w *logWriter) mayWarn() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.warned.IsZero() || now.Sub(w.warned) >= warnEvery {
		w.warned = now
		return true
	}
	return false
}
