package raftlog

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// A raftLogger gives hashicorp/raft's messages to slog. Nearly all of them are of interest only to
// somebody who debugs Raft, the errors about a peer that is down most of all: they come many times a
// second. Errors about nobody else are warnings.
type raftLogger struct {
	to    *slog.Logger
	name  string
	args  []any
	quiet bool // of a transport, whose errors are all about others
}

// aboutOthers are the keys of messages about a peer or a connection.
var aboutOthers = []any{"peer", "target", "id", "remote-address", "local-address", "from", "candidate", "leader", "candidate-id"}

func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	at := slog.LevelDebug
	if !l.quiet && level == hclog.Error && !slices.ContainsFunc(args, isAboutOthers) {
		at = slog.LevelWarn
	}
	if !l.to.Enabled(context.Background(), at) {
		return
	}
	values := slices.Concat(l.args, args)
	for i, v := range values {
		if f, ok := v.(hclog.Format); ok && len(f) > 0 {
			values[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	l.to.Log(context.Background(), at, "raft: "+msg, values...)
}

func isAboutOthers(key any) bool { return slices.Contains(aboutOthers, key) }

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) debugs() bool { return l.to.Enabled(context.Background(), slog.LevelDebug) }

func (l *raftLogger) IsTrace() bool { return l.debugs() }
func (l *raftLogger) IsDebug() bool { return l.debugs() }
func (l *raftLogger) IsInfo() bool  { return l.debugs() }
func (l *raftLogger) IsWarn() bool  { return l.debugs() }
func (l *raftLogger) IsError() bool { return l.to.Enabled(context.Background(), slog.LevelWarn) }

func (l *raftLogger) ImpliedArgs() []any { return l.args }

func (l *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{to: l.to, name: l.name, args: slices.Concat(l.args, args), quiet: l.quiet}
}

func (l *raftLogger) Name() string                     { return l.name }
func (l *raftLogger) Named(name string) hclog.Logger   { return l.ResetNamed(name) }
func (l *raftLogger) ResetNamed(s string) hclog.Logger { return &raftLogger{l.to, s, l.args, l.quiet} }
func (l *raftLogger) SetLevel(hclog.Level)             {}
func (l *raftLogger) GetLevel() hclog.Level            { return hclog.Trace }

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.to.Handler(), slog.LevelDebug)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}
