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

// A logWriter turns the lines of memberlist, "[LEVEL] memberlist: text", into log records. Memberlist
// does not wait for its goroutines when it ends: what they still have to say goes nowhere.
type logWriter struct {
	logger *slog.Logger

	mu     sync.Mutex
	warned time.Time
	muted  bool
}

func (w *logWriter) Write(line []byte) (int, error) {
	level, text, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
	if !ok {
		level, text = "", level
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.muted {
		return len(line), nil
	}
	at := slog.LevelDebug
	if level == "[ERR]" && (w.warned.IsZero() || time.Since(w.warned) >= warnEvery) {
		w.warned, at = time.Now(), slog.LevelWarn
	}
	w.logger.Log(context.Background(), at, "memberlist", "text", strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}

// mute drops all lines from now on. When it returns, none is being written.
func (w *logWriter) mute() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = true
}
