package pgwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Severities of an [Error]. ERROR ends the statement, FATAL the connection; the others go out as
// notices ([Conn.Notice]).
const (
	SeverityError   = "ERROR"
	SeverityFatal   = "FATAL"
	SeverityWarning = "WARNING"
	SeverityNotice  = "NOTICE"
)

// Causes with which the context of a running statement ends. An administrator's command or a
// shutdown ends it with the *Error that the client is sent.
var (
	// ErrCanceled: a cancel request arrived. The client is told 57014, unless the session has
	// something better to say.
	ErrCanceled = errors.New("canceling statement due to user request")

	// ErrClientGone: the client has closed its connection while a statement was running. There is
	// nobody to tell.
	ErrClientGone = errors.New("client has gone away")
)

// ErrHangup is returned by a [Replication] command to close the connection without a message, as
// PostgreSQL does after wal_sender_timeout.
var ErrHangup = errors.New("connection to client closed without a message")

// An Error is what an ErrorResponse or NoticeResponse carries (PostgreSQL 15 manual, "Error and
// Notice Message Fields").
type Error struct {
	Severity string // SeverityError if empty
	Code     string // SQLSTATE, five characters
	Message  string
	Detail   string
	Hint     string
	Where    string // in what was read or done it happened: the CONTEXT that psql prints
	Position int    // of the mistake in the query text, in characters from 1; 0 if none
	Object   Object // whose rule was broken
	Err      error  // what caused it: logged, never sent
}

// An Object is the part of a table whose rule a statement has broken: programs go by these names rather than by
// the message.
type Object struct{ Schema, Table, Column, Constraint string }

// Errorf makes an error of severity ERROR. A %w among the verbs is kept as Err.
func Errorf(code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Severity: SeverityError, Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message + " (SQLSTATE " + e.Code + ")" }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// WithDetail sets the detail and returns e. It and its siblings are for errors just made.
func (e *Error) WithDetail(format string, args ...any) *Error {
	e.Detail = fmt.Sprintf(format, args...)
	return e
}

// WithHint sets the hint: what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithContext sets where it happened, see Where.
func (e *Error) WithContext(format string, args ...any) *Error {
	e.Where = fmt.Sprintf(format, args...)
	return e
}

// WithObject sets whose rule was broken.
func (e *Error) WithObject(o Object) *Error {
	e.Object = o
	return e
}

// WithPosition sets where in the query text the mistake is, in characters from 1.
func (e *Error) WithPosition(position int) *Error {
	e.Position = position
	return e
}

// WithSeverity sets one of the Severity constants.
func (e *Error) WithSeverity(severity string) *Error {
	e.Severity = severity
	return e
}

// Fatal makes the error one that ends the connection.
func (e *Error) Fatal() *Error { return e.WithSeverity(SeverityFatal) }

// asFatal is a copy of e that ends the connection.
func (e *Error) asFatal() *Error {
	f := *e
	return f.Fatal()
}

// response is the message body that e is sent as.
func (e *Error) response() pgproto3.ErrorResponse {
	severity := e.Severity
	if severity == "" {
		severity = SeverityError
	}
	return pgproto3.ErrorResponse{
		Severity:            severity,
		SeverityUnlocalized: severity,
		Code:                e.Code,
		Message:             wireText(e.Message),
		Detail:              wireText(e.Detail),
		Hint:                wireText(e.Hint),
		Where:               wireText(e.Where),
		Position:            int32(e.Position),
		SchemaName:          e.Object.Schema,
		TableName:           e.Object.Table,
		ColumnName:          e.Object.Column,
		ConstraintName:      e.Object.Constraint,
	}
}

// wireText makes s fit for a message: valid UTF-8 without the NUL that would end it.
func wireText(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// clientError turns what a session returned into what the client is told. An error that carries no
// SQLSTATE is taken for the echo of the context's end, if that has ended, and else for a bug.
func clientError(ctx context.Context, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*Error](cause); ok {
		return e.asFatal()
	}
	switch {
	case errors.Is(cause, ErrCanceled):
		return Errorf(CodeQueryCanceled, "%w", ErrCanceled)
	case cause != nil:
		return adminShutdown().asFatal()
	}
	return &Error{Severity: SeverityError, Code: CodeInternalError, Message: err.Error(), Err: err}
}

// adminShutdown is what a client is told when its connection ends for no reason of its own.
func adminShutdown() *Error {
	return Errorf(CodeAdminShutdown, "terminating connection due to administrator command").Fatal()
}

func protocolViolation(format string, args ...any) *Error {
	return Errorf(CodeProtocolViolation, format, args...)
}

// survivable tells an error that ends no connection from all others.
func survivable(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	return e, ok && e.Severity != SeverityFatal
}

// isSocketError reports whether err came from reading or writing a connection. (That it implements
// net.Error would not do: so does the end of a context.)
func isSocketError(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
