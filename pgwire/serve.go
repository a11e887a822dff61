package pgwire

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// errDone ends a connection that has nothing more to say: it was a cancel request, or the client
// said goodbye. errDropped ends one that was crowded out of start-up, and is closed already.
var (
	errDone    = errors.New("connection done")
	errDropped = errors.New("too many connections in start-up")
)

// serve is a connection's life. It ends with the socket closed and nothing left behind.
func (c *Conn) serve() {
	defer close(c.done)
	defer c.share.release()
	defer c.nc.Close()
	defer c.cancel(nil)

	stop := c.prepareSocket()
	defer stop()

	err := c.guard(c.converse)
	c.farewell(err)
}

// prepareSocket sets the socket's deadlines: start-up has one of its own, the end of ctx overrules all. stop
// must be called before the socket is closed.
func (c *Conn) prepareSocket() (stop func()) {
	c.startBy = c.BackendStart.Add(c.server.cfg.AuthenticationTimeout())
	c.nc.SetDeadline(c.startBy)
	if limit := c.server.cfg.UserTimeout; limit != nil {
		if err := setUserTimeout(c.nc, limit()); err != nil {
			c.logger().Warn("cannot limit how long a client may leave its answers unread", "err", err)
		}
	}
	woken := make(chan struct{})
	unhook := context.AfterFunc(c.ctx, func() { defer close(woken); c.unblock() })
	return func() {
		if !unhook() {
			<-woken
		}
	}
}

// guard runs f and turns a panic into the end of this connection only: other sessions have no part
// in it.
func (c *Conn) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.logger().Error("panic in session", "panic", r, "stack", string(debug.Stack()))
			err = Errorf(CodeInternalError, "internal error").
				WithDetail("The session has failed; the server's log says more.").Fatal()
		}
	}()
	return f()
}

// farewell tells the client why its connection ends, if that is for the client to know.
func (c *Conn) farewell(err error) {
	e, speak := errors.AsType[*Error](err)
	silent := errors.Is(err, errDone) || errors.Is(err, ErrHangup)
	if !speak && !silent && c.ctx.Err() != nil {
		err = context.Cause(c.ctx)
		if e, speak = errors.AsType[*Error](err); !speak && !errors.Is(err, ErrClientGone) {
			e, speak = adminShutdown(), true
		}
	}
	if speak {
		c.nc.SetWriteDeadline(time.Now().Add(lastWords))
		c.sendError(e.asFatal())
		c.Flush()
	}
	switch {
	case errors.Is(err, errDone), errors.Is(err, io.EOF):
	case c.PID == 0:
		c.server.failedToStart(c, e)
		c.logger().Debug("start-up failed", "user", c.User, "err", err)
	default:
		c.logger().Info("connection ended", "user", c.User, "err", err)
	}
}

// converse is the conversation from the first packet to the last. Its error is never nil.
func (c *Conn) converse() error {
	if err := c.startUp(); err != nil {
		return err
	}
	if err := c.server.register(c); err != nil {
		return err
	}
	defer c.server.unregister(c)

	session, replication, err := c.connect()
	switch {
	case err != nil:
		return err
	case replication != nil:
		defer replication.Close()
		return c.serveReplication(replication)
	}
	defer session.Close()
	return c.serveSQL(session)
}

// connect has the client authenticate itself, and the handler take it: one of the two it returns is nil.
func (c *Conn) connect() (Session, Replication, error) {
	ctx, cancel := context.WithDeadlineCause(c.ctx, c.startBy,
		Errorf(CodeQueryCanceled, "canceling authentication due to timeout").Fatal())
	defer cancel()
	if authenticate := c.server.cfg.Authenticate; authenticate != nil {
		if err := authenticate(ctx, c); err != nil {
			return nil, nil, clientError(ctx, err)
		}
	}
	if c.Kind.Replication() {
		r, err := c.server.cfg.Handler.ConnectReplication(ctx, c)
		if err != nil {
			return nil, nil, clientError(ctx, err)
		}
		return nil, r, nil
	}
	session, err := c.server.cfg.Handler.Connect(ctx, c)
	if err != nil {
		return nil, nil, clientError(ctx, err)
	}
	return session, nil, nil
}

// startUp reads packets until one is a StartupMessage. Requests for encryption are declined, each at
// most once, and a cancel request is all there is on its connection.
func (c *Conn) startUp() error {
	ssl, gss := false, false
	for {
		code, body, err := readStartupPacket(c.nc)
		if err != nil {
			return err
		}
		switch {
		case code == codeCancelRequest:
			return c.cancelRequest(body)
		case code == codeSSLRequest && !ssl, code == codeGSSENCRequest && !gss:
			ssl = ssl || code == codeSSLRequest
			gss = gss || code == codeGSSENCRequest
			if _, err := c.nc.Write([]byte{'N'}); err != nil {
				return err
			}
			continue
		}
		return c.startupMessage(code, body)
	}
}

// cancelRequest cancels what another connection does: int32 PID, int32 key. There is no answer,
// least of all to who does not know the key.
func (c *Conn) cancelRequest(body []byte) error {
	if len(body) != 8 {
		return fmt.Errorf("%w: cancel request", errStartupLength)
	}
	pid := int32(binary.BigEndian.Uint32(body))
	if target := c.server.conn(pid); target != nil {
		if subtle.ConstantTimeCompare(target.secret[:], body[4:]) == 1 {
			target.interrupt(ErrCanceled)
		}
	}
	return errDone
}

// startupMessage takes the client's wishes, and answers what it cannot have of the protocol.
func (c *Conn) startupMessage(version uint32, body []byte) error {
	major, minor := version>>16, version&0xffff
	if major != 3 {
		e := Errorf(CodeFeatureNotSupported, "unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", major, minor).Fatal()
		if major < 3 { // before version 3 an error was a type byte and a string
			c.nc.Write([]byte("EFATAL:  " + e.Message + "\n\x00"))
			return errDone
		}
		return e
	}
	s, e := parseStartup(body)
	if e != nil {
		return e
	}
	c.Kind, c.User, c.Database, c.Params, c.Native = s.kind, s.user, s.database, s.params, s.native
	if minor > 0 || len(s.unknown) > 0 {
		c.Send(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: protocol30, UnrecognizedOptions: s.unknown})
	}
	return nil
}

// reportedAtStart are the settings a client is told when its connection begins, in PostgreSQL 15's
// order.
var reportedAtStart = []string{
	"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
	"integer_datetimes", "IntervalStyle", "is_superuser", "server_encoding", "server_version",
	"session_authorization", "standard_conforming_strings", "TimeZone",
}

// defaultParameters are those settings as they are unless somebody knows better.
func (c *Conn) defaultParameters() map[string]string {
	return map[string]string{
		"application_name":              c.Params["application_name"],
		"client_encoding":               "UTF8",
		"DateStyle":                     "ISO, MDY",
		"default_transaction_read_only": "off",
		"in_hot_standby":                "off",
		"integer_datetimes":             "on",
		"IntervalStyle":                 "postgres",
		"is_superuser":                  "on",
		"server_encoding":               "UTF8",
		"server_version":                cmp.Or(c.server.cfg.ServerVersion, "15.0 (Longship)"),
		"session_authorization":         c.User,
		"standard_conforming_strings":   "on",
		"TimeZone":                      "Etc/UTC",
	}
}

// welcome ends start-up: AuthenticationOk, settings, BackendKeyData, ReadyForQuery. A value comes
// from SetParameter, else from the session, else it is the default.
func (c *Conn) welcome(session any, txStatus byte) error {
	values := c.defaultParameters()
	if r, ok := session.(Reporter); ok {
		for name, v := range r.Parameters() {
			if _, known := values[name]; known {
				values[name] = v
			}
		}
	}
	c.mu.Lock()
	for name, v := range c.params {
		values[name] = v
	}
	others := slices.DeleteFunc(c.unsettled, func(name string) bool { return slices.Contains(reportedAtStart, name) })
	c.params, c.unsettled = values, append(slices.Clone(reportedAtStart), others...)
	c.mu.Unlock()

	c.Send(&pgproto3.AuthenticationOk{})
	c.reportParameters(txStatus)
	c.Send(&pgproto3.BackendKeyData{ProcessID: uint32(c.PID), SecretKey: c.secret[:]})
	if err := c.ready(txStatus); err != nil {
		return err
	}
	return c.nc.SetDeadline(time.Time{}) // start-up's; the caller looks at ctx next
}
