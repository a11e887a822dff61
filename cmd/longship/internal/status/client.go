package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/longship-db/longship/node"
)

// Where clients look for a node, unless told otherwise.
const (
	DefaultHost = "127.0.0.1"
	DefaultPort = 5433
)

// A Client asks a node over a connection that it opens when it is needed, and again when it broke.
// It is used by one goroutine.
type Client struct {
	// Warn is called with what a node warns of, in one line. It is set before the first query; nil: nobody hears.
	Warn func(text string)

	config *pgconn.Config
	conn   *pgconn.PgConn
}

// connectTimeout bounds the attempts at all the nodes there are, unless PGCONNECT_TIMEOUT says otherwise
// of each.
const connectTimeout = 5 * time.Second

// Conninfo is how to reach the node at host and port, or the first that answers of several, as for
// libpq. If one of them is empty, PGHOST or PGPORT is taken, or else the default.
func Conninfo(host, port string) string {
	var settings []string
	if host == "" && os.Getenv("PGHOST") == "" {
		host = DefaultHost
	}
	if port == "" && os.Getenv("PGPORT") == "" {
		port = strconv.Itoa(DefaultPort)
	}
	if host != "" {
		settings = append(settings, "host="+quote(host))
	}
	if port != "" {
		settings = append(settings, "port="+quote(port))
	}
	return strings.Join(settings, " ")
}

// NewClient returns a client of the node that the connection string names. What it does not say, the
// PG* variables do, as for libpq.
func NewClient(conninfo string) (*Client, error) {
	config, err := pgconn.ParseConfig(conninfo)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout / time.Duration(len(c.addresses()))
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "longship status"
	}
	config.Database = node.AdminDatabase // which a witness has, too
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if c.Warn != nil && n.Severity == "WARNING" {
			c.Warn(sentences(n.Message, n.Detail, n.Hint))
		}
	}
	return c, nil
}

// NewClientAt returns a client of the node at host:port.
func NewClientAt(address string) (*Client, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return NewClient(Conninfo(host, port))
}

// Literal makes s a string in a statement.
func Literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// quote makes s a value in a connection string.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// Address is where the node is, or are those of which one will be asked.
func (c *Client) Address() string {
	if all := c.addresses(); c.conn == nil || len(all) == 1 {
		return strings.Join(all, ", ")
	}
	return c.conn.Conn().RemoteAddr().String()
}

// addresses are all that may be asked. With TLS that is not required each is there twice in a row.
func (c *Client) addresses() []string {
	all := []string{net.JoinHostPort(c.config.Host, strconv.Itoa(int(c.config.Port)))}
	for _, f := range c.config.Fallbacks {
		all = append(all, net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))))
	}
	return slices.Compact(all)
}

// An EndedError says that the connection ended before the node had answered: what it was asked to do
// may have been done.
type EndedError struct{ Err error }

func (e *EndedError) Error() string { return e.Err.Error() }
func (e *EndedError) Unwrap() error { return e.Err }

// Query implements Source: all statements travel as one query string. The error is an *EndedError if
// it is not known whether they were run.
func (c *Client) Query(ctx context.Context, statements ...string) ([][]Row, error) {
	if c.conn == nil || c.conn.IsClosed() {
		conn, err := pgconn.ConnectConfig(ctx, c.config)
		if err != nil {
			c.conn = nil // it may be another node's
			return nil, c.explain(err)
		}
		c.conn = conn
	}
	results, err := c.conn.Exec(ctx, strings.Join(statements, "; ")).ReadAll()
	if err != nil && c.conn.IsClosed() {
		return nil, &EndedError{c.explain(err)}
	}
	if err != nil {
		return nil, c.explain(err)
	}
	if len(results) != len(statements) {
		return nil, fmt.Errorf("%s answered %d of %d statements", c.Address(), len(results), len(statements))
	}
	rows := make([][]Row, len(results))
	for i, r := range results {
		rows[i] = readRows(r)
	}
	return rows, nil
}

// Close ends the connection.
func (c *Client) Close(ctx context.Context) error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close(ctx)
}

// explain makes one line of an error, with what to do.
func (c *Client) explain(err error) error {
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok && len(c.addresses()) > 1 {
		return fmt.Errorf("cannot reach any node, tried %s: %s", c.Address(), oneLine(failed.Unwrap()))
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pgErr.Code == "42P01" || pgErr.Code == "42883" { // unknown table or function
			return fmt.Errorf("the server at %s is not a Longship node of this version (%s): choose one with --host and --port", c.Address(), pgErr.Message)
		}
		return errors.New(sentences(fmt.Sprintf("%s: %s (SQLSTATE %s)", c.Address(), pgErr.Message, pgErr.Code), pgErr.Detail, pgErr.Hint))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("cannot reach a node at %s: %w: is it running? choose one with --host and --port", c.Address(), op.Err)
	}
	return fmt.Errorf("%s: %s", c.Address(), oneLine(err))
}

// sentences makes one line of a message and what follows it.
func sentences(text string, more ...string) string {
	for _, m := range more {
		switch {
		case m == "":
		case strings.HasSuffix(text, "."):
			text += " " + m
		default:
			text += ": " + m
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// oneLine is the text of errors, each once.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = strings.Join(strings.Fields(line), " ")
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// readRows gives each value a Go type by its PostgreSQL type; all are in text format.
func readRows(r *pgconn.Result) []Row {
	var rows []Row
	for _, values := range r.Rows {
		row := make(Row, len(values))
		for i, v := range values {
			f := r.FieldDescriptions[i]
			row[i] = Field{f.Name, goValue(f.DataTypeOID, v)}
		}
		rows = append(rows, row)
	}
	return rows
}

func goValue(oid uint32, v []byte) any {
	if v == nil {
		return nil
	}
	s := string(v)
	switch oid {
	case pgtype.BoolOID:
		return s == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.XIDOID:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	case pgtype.Float8OID, pgtype.NumericOID:
		if n := json.Number(s); json.Valid(v) {
			return n
		}
	}
	return s
}
