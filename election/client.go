package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
)

// Peers are the members, each at its address: what a [Service] does, asked of another node.
type Peers interface {
	Probe(ctx context.Context, address string, r ProbeRequest) (Health, error)
	Seal(ctx context.Context, address string, r SealRequest) (raftlog.Answer, error)
	Propose(ctx context.Context, address string, r ProposeRequest) (ProposeReply, error)
	Join(ctx context.Context, address string, r JoinRequest) (JoinReply, error)
	Hold(ctx context.Context, address string, r HoldRequest) (HoldReply, error)
	Release(ctx context.Context, address string, r ReleaseRequest) (ReleaseReply, error)
	Fetch(ctx context.Context, address string, r FetchRequest) (raftlog.Answer, error)
	Switchover(ctx context.Context, address string, r SwitchoverRequest) (SwitchoverReply, error)
	Failover(ctx context.Context, address string, r FailoverRequest) (FailoverReply, error)
	Explain(ctx context.Context, address string, r ExplainRequest) (ExplainReply, error)
	Remove(ctx context.Context, address string, r RemoveRequest) (RemoveReply, error)
}

// A DialFunc opens a connection; net.Dialer.DialContext is one.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// defaultTimeout bounds a call whose context has no earlier deadline.
const defaultTimeout = 30 * time.Second

// A ClientConfig says who is calling, and how.
type ClientConfig struct {
	ID       func() syncrep.ID // this node with its present disk
	Name     string
	Address  string        // where this node is reached
	SystemID func() uint64 // of the cluster; 0: this node has no data yet
	Secret   string        // of the cluster; may be empty

	Dial    DialFunc      // nil: a net.Dialer's
	Timeout time.Duration // of a call, connecting included; 0: 30 s
}

// A Client asks other members. It keeps one idle connection to each address. Its methods may be called
// at the same time: a call that finds no idle connection opens one.
//
// A call ends with its context, or after the configured time, whichever comes first. Its error is a
// *pgwire.Error if the peer refused; [Gone] tells whether nobody listens there.
type Client struct {
	cfg ClientConfig

	mu     sync.Mutex // guards what follows
	idle   map[string]*conn
	busy   map[*conn]struct{}
	closed bool
}

var _ Peers = (*Client)(nil)

// NewClient makes a client. It connects to nobody until it is asked.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	return &Client{cfg: cfg, idle: make(map[string]*conn), busy: make(map[*conn]struct{})}
}

// Close ends all connections, and the calls that use them.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		conn.close()
	}
	for conn := range c.busy {
		conn.close()
	}
	clear(c.idle)
	return nil
}

// Probe asks how a process is.
func (c *Client) Probe(ctx context.Context, address string, r ProbeRequest) (Health, error) {
	return call[Health](ctx, c, address, VerbProbe, r)
}

// Seal asks for a promise.
func (c *Client) Seal(ctx context.Context, address string, r SealRequest) (raftlog.Answer, error) {
	return call[raftlog.Answer](ctx, c, address, VerbSeal, r)
}

// Propose hands a command to the Raft leader.
func (c *Client) Propose(ctx context.Context, address string, r ProposeRequest) (ProposeReply, error) {
	return call[ProposeReply](ctx, c, address, VerbPropose, r)
}

// Join asks a member, any one, to be taken as one.
func (c *Client) Join(ctx context.Context, address string, r JoinRequest) (JoinReply, error) {
	return call[JoinReply](ctx, c, address, VerbJoin, r)
}

// Hold asks the primary to stop taking commits.
func (c *Client) Hold(ctx context.Context, address string, r HoldRequest) (HoldReply, error) {
	return call[HoldReply](ctx, c, address, VerbHold, r)
}

// Release asks the primary to take commits again.
func (c *Client) Release(ctx context.Context, address string, r ReleaseRequest) (ReleaseReply, error) {
	return call[ReleaseReply](ctx, c, address, VerbRelease, r)
}

// Fetch asks a sealed member to get the rest of the log.
func (c *Client) Fetch(ctx context.Context, address string, r FetchRequest) (raftlog.Answer, error) {
	return call[raftlog.Answer](ctx, c, address, VerbFetch, r)
}

// Switchover asks a member, any one, for another primary.
func (c *Client) Switchover(ctx context.Context, address string, r SwitchoverRequest) (SwitchoverReply, error) {
	return call[SwitchoverReply](ctx, c, address, VerbSwitchover, r)
}

// Failover asks a member, any one, for a failover.
func (c *Client) Failover(ctx context.Context, address string, r FailoverRequest) (FailoverReply, error) {
	return call[FailoverReply](ctx, c, address, VerbFailover, r)
}

// Explain asks a member, any one, what a failover would find.
func (c *Client) Explain(ctx context.Context, address string, r ExplainRequest) (ExplainReply, error) {
	return call[ExplainReply](ctx, c, address, VerbExplain, r)
}

// Remove asks a member, any one, to drop one.
func (c *Client) Remove(ctx context.Context, address string, r RemoveRequest) (RemoveReply, error) {
	return call[RemoveReply](ctx, c, address, VerbRemove, r)
}

// Read asks a member for bytes of its log.
func (c *Client) Read(ctx context.Context, address string, r ReadRequest) (ReadReply, error) {
	return call[ReadReply](ctx, c, address, VerbRead, r)
}

// Forward hands a command, as encoded by raftlog, to the Raft leader: it is raftlog's Config.Forward. An
// error that the leader did not answer says nothing about the command.
func (c *Client) Forward(ctx context.Context, leader raftlog.Member, command []byte) error {
	reply, err := c.Propose(ctx, leader.Address, ProposeRequest{Command: command})
	if err != nil {
		return err
	}
	return raftlog.DecodeError(reply.Code, reply.Text)
}

// Gone reports whether a call failed because nobody listens at the address, or because the process
// that listened has ended: the connection was refused, reset or closed. Silence is not it.
func Gone(err error) bool {
	for _, known := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// again reports whether a command may be sent a second time when its connection broke: one that a
// kept connection did not survive may have arrived or not. The others always get a fresh connection. A
// proposal may, but by who proposes, who then knows that its outcome is open.
func (v Verb) again() bool { return v != VerbSwitchover && v != VerbFailover && v != VerbRemove }

// call sends one command and decodes its answer.
func call[Reply any](ctx context.Context, c *Client, address string, v Verb, request any) (reply Reply, err error) {
	text, err := Format(v, request)
	if err != nil {
		return reply, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	answer, err := c.exchange(ctx, address, v, text)
	if err != nil {
		return reply, fmt.Errorf("%s at %s: %w", v, address, err)
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return reply, fmt.Errorf("%s at %s: decode the answer: %w", v, address, err)
	}
	return reply, nil
}

// exchange sends a command over a kept connection, and over a new one if there is none or it turns out
// to be broken, or ended by the peer: that may have been restarted since.
func (c *Client) exchange(ctx context.Context, address string, v Verb, text string) ([]byte, error) {
	if v.again() {
		if kept := c.take(address); kept != nil {
			answer, err := c.use(ctx, kept, text)
			if err == nil || !Gone(err) && !kept.fatal || v == VerbPropose {
				return answer, err
			}
		}
	}
	fresh, err := c.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return c.use(ctx, fresh, text)
}

// use sends a command over a connection, which is busy, and keeps it afterwards if it can be used on.
func (c *Client) use(ctx context.Context, conn *conn, text string) ([]byte, error) {
	answer, err := conn.query(ctx, text)
	_, refused := errors.AsType[*pgwire.Error](err)
	c.put(conn, err == nil || refused && !conn.fatal)
	return answer, err
}

// take returns the idle connection to an address, now busy, or nil.
func (c *Client) take(address string) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.idle[address]
	if conn == nil {
		return nil
	}
	delete(c.idle, address)
	if conn.as != c.self() { // this node introduced itself as another one
		conn.close()
		return nil
	}
	c.busy[conn] = struct{}{}
	return conn
}

// put keeps a connection, or closes it if it is broken or one is kept already.
func (c *Client) put(conn *conn, usable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, conn)
	if !usable || c.closed || c.idle[conn.address] != nil {
		conn.close()
		return
	}
	c.idle[conn.address] = conn
}

// connect opens a connection, which is busy.
func (c *Client) connect(ctx context.Context, address string) (*conn, error) {
	nc, err := c.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, endOf(ctx, err)
	}
	conn := newConn(nc, address, c.self())
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.busy[conn] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		conn.close()
		return nil, net.ErrClosed
	}
	if err := conn.start(ctx, c.parameters(conn.as)); err != nil {
		c.put(conn, false)
		return nil, fmt.Errorf("start session: %w", err)
	}
	return conn, nil
}

// self is who this node is now.
func (c *Client) self() identity { return identity{c.cfg.ID(), c.cfg.SystemID()} }

// parameters is the start-up packet of a native replication connection of this node.
func (c *Client) parameters(as identity) map[string]string {
	return map[string]string{
		"user":                 "longship",
		"database":             "replication",
		"replication":          "true",
		"application_name":     c.cfg.Name,
		"_pq_.longship":        "1",
		"longship.node_id":     fmt.Sprintf("%016x", as.id.Node),
		"longship.incarnation": fmt.Sprintf("%016x", as.id.Incarnation),
		"longship.address":     c.cfg.Address,
		"longship.system_id":   strconv.FormatUint(as.systemID, 10),
		"longship.secret":      c.cfg.Secret,
	}
}
