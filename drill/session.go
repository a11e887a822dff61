package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/longship-db/longship/internal/history"
	"github.com/longship-db/longship/wal"
)

// How long the drill waits for an answer, and for a connection to a node that perhaps does not run.
const (
	askTimeout     = 2 * time.Second
	connectTimeout = 300 * time.Millisecond
)

// A login is what a connection string says besides hosts and ports.
type login string

// loopbackLogin is that of the drill's own clusters. What the environment says of other servers is left out of it.
const loopbackLogin login = "user=longship password='' dbname=longship sslmode=disable"

// connString is how clients reach the nodes at these addresses, the first of them that has the attributes
// (target_session_attrs).
func (l login) connString(attrs string, addresses ...string) (string, error) {
	var hosts, ports []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", fmt.Errorf("address %q: want host:port", address)
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	return fmt.Sprintf("host=%s port=%s %s application_name='longship drill' target_session_attrs=%s",
		strings.Join(hosts, ","), strings.Join(ports, ","), l, attrs), nil
}

// connConfig is connString for pgx.
func (l login) connConfig(attrs string, addresses ...string) (*pgx.ConnConfig, error) {
	text, err := l.connString(attrs, addresses...)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = connectTimeout
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // one message to the server for each statement
	return cfg, nil
}

// connect opens a session on the node.
func (n *Node) connect(ctx context.Context) (*pgx.Conn, error) { return n.connectTo(ctx, "") }

// connectTo opens a session on the node in a database, which says what it is for; "": that of clients.
func (n *Node) connectTo(ctx context.Context, database string) (*pgx.Conn, error) {
	cfg, err := n.cluster.login.connConfig("any", n.Address)
	if err != nil {
		return nil, err
	}
	if database != "" {
		cfg.Database = database
	}
	cfg.ConnectTimeout = askTimeout
	return pgx.ConnectConfig(ctx, cfg)
}

// hangUp ends a session; whether the server hears of it does not matter.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	conn.Close(ctx)
}

// Exec runs a statement in a session of its own.
func (n *Node) Exec(ctx context.Context, query string, args ...any) error {
	conn, err := n.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, query, args...); err != nil {
		return fmt.Errorf("%s: %s: %w", n.Name, query, err)
	}
	return nil
}

// Value is the first column of the first row of a query's answer, as text; "" if there is no row, or NULL.
func (n *Node) Value(ctx context.Context, query string) (string, error) {
	rows, err := n.Rows(ctx, query)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

// Rows is a query's answer, each value as text, NULL as "". It waits for askTimeout at most.
func (n *Node) Rows(ctx context.Context, query string) (all [][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := n.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer hangUp(conn)
	rows, err := conn.Query(ctx, query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name, query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var row []string
		for _, v := range rows.RawValues() {
			row = append(row, string(v))
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", n.Name, query, err)
	}
	return all, nil
}

// flushed is how far the log of the primary is durable.
func (n *Node) flushed(ctx context.Context) (wal.LSN, error) {
	text, err := n.Value(ctx, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return 0, err
	}
	return wal.ParseLSN(text)
}

// sqlState is the SQLSTATE of an error, "" if the server did not send one.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// OutcomeOf is what an error tells of the statement that it answers: that it was certainly not done, now or
// ever, or that nobody knows. Whatever it does not know counts as unknown. 57P01 ends a session between two
// statements: what becomes of a commit under way is told with 08007. 57P02 refuses a commit, since the node cannot
// write its log any more.
func OutcomeOf(err error) history.Outcome {
	if err == nil {
		return history.Committed
	}
	// pgx says of a closed connection that it is safe to retry, although it has sent the statement, if it
	// finds the connection closed only before it reads the answer.
	if pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed) {
		return history.Aborted
	}
	code := sqlState(err)
	if len(code) != 5 {
		return history.Unknown
	}
	switch code[:2] {
	case "0A", "22", "23", "25", "26", "42", "53", "54", "55": // refused before anything was written
		return history.Aborted
	case "40":
		if code != "40003" { // statement_completion_unknown
			return history.Aborted
		}
	case "57":
		if code == "57P01" || code == "57P02" || code == "57P03" {
			return history.Aborted
		}
	}
	return history.Unknown
}
