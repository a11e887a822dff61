package pgwire

import (
	"context"
	"time"
)

// A Handler gives connections to those who can answer them. Both methods run on the connection's
// goroutine after start-up and authentication, under the authentication timeout; an error refuses
// the connection (57P03 while the server cannot serve). ctx carries the connection's end: its cause
// is what the client is told.
type Handler interface {
	Connect(ctx context.Context, c *Conn) (Session, error)
	// ConnectReplication serves KindPhysical and KindDatabase, see [Conn.Kind].
	ConnectReplication(ctx context.Context, c *Conn) (Replication, error)
}

// A Session answers one connection's SQL. Its methods are called by one goroutine, never
// concurrently. Errors are *Error, or wrap one; anything else is reported as XX000, unless ctx has
// ended, which explains it.
type Session interface {
	// Parse prepares text, which holds one statement or none. paramTypes are the client's types,
	// 0 or missing where it leaves the choice.
	Parse(ctx context.Context, text string, paramTypes []uint32) (Statement, error)

	// ParseAll splits and prepares a simple query string; an error means nothing of it has run.
	ParseAll(ctx context.Context, text string) ([]Statement, error)

	// Bind checks the parameters of a portal that is about to be made, and whether the statement may run at
	// all in the present transaction. An error about a parameter says which in its context, to which the
	// portal's name is added.
	Bind(st Statement, args Args) error

	// Execute runs a statement, feeds its rows to out and returns the command tag. args and what it
	// holds are valid until Execute returns. final: nothing follows in this implicit transaction,
	// so the statement may commit with it; the tag is sent only after Execute has returned.
	Execute(ctx context.Context, st Statement, args Args, out RowSink, final bool) (tag string, err error)

	// Open begins a SELECT that stops between rows. nil without an error: the statement is to be run by
	// Execute. args are kept.
	Open(ctx context.Context, st Statement, args Args) (Cursor, error)

	// Finish ends the implicit transaction, at a Sync and at the end of a simple query: it commits
	// what is uncommitted and does nothing in an explicit block, or after Fail.
	Finish(ctx context.Context) error

	// Fail says that an error, the session's own or one of the protocol, happened since the last
	// Finish: an implicit transaction is rolled back, an explicit block marked as failed.
	Fail()

	// TxStatus is 'I' idle, 'T' in a transaction block, 'E' in a failed one.
	TxStatus() byte

	// Close is called once, last, when the connection has ended.
	Close()
}

// A Statement is a prepared statement of a Session. It is kept until the client closes it, and used
// only on its own connection.
type Statement interface {
	ParamTypes() []uint32
	Columns() []Column // nil: the statement returns no rows
	Empty() bool       // an empty query string
}

// A SizedStatement is a Statement that says how much memory it takes beside its text, in bytes.
type SizedStatement interface {
	Statement
	Size() int
}

// A Column describes one column of a result.
type Column struct {
	Name string
	Type uint32 // OID
	Size int16  // bytes, negative if variable (pg_type.typlen)
	Mod  int32  // type modifier, -1 if none

	// Where a column comes from, if it is one of a table: the OID of that, and the number there, from 1.
	Table  uint32
	Number int16
}

// Args are the parameters of one execution. Format lists have no entry (all text), one (for all) or
// one for each; an entry is 0 for text, 1 for binary. [Format] reads them.
type Args struct {
	Values        [][]byte // nil entry = NULL
	Formats       []int16  // of Values
	ResultFormats []int16  // of the columns
}

// Format is the format of entry i in a list of format codes, by the rules of the Bind message.
func Format(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return 0
	case 1:
		return formats[0]
	}
	return formats[i]
}

// A RowSink takes the rows of a result. values hold one encoded value per column, nil = NULL, and
// are used only until Row returns. An error means the client cannot be sent any more: the statement
// must end and return it.
type RowSink interface {
	Row(values [][]byte) error
}

// A Replication answers the commands of a replication connection.
type Replication interface {
	// Command acts on the text of one Query message and sends its results through the Conn, up to
	// and including CommandComplete. The error it returns, and ReadyForQuery, are sent by pgwire;
	// ErrHangup and errors of the socket close the connection in silence. While Command runs it
	// owns the Conn, Receive and deadlines included, and must end when ctx does; a nil error after
	// ctx ended closes the connection without a word, as PostgreSQL's walsender does after its
	// last CommandComplete.
	Command(ctx context.Context, text string) error

	// Close is called once, last, when the connection has ended.
	Close()
}

// A Reporter is a Session or Replication that knows better than the server's defaults what a new
// client is told about its settings (ParameterStatus). Names that are not reported at connection
// start are ignored.
type Reporter interface {
	Parameters() map[string]string
}

// An Idler is a Session that does not wait for its client's next message for ever.
type Idler interface {
	// IdleLimit is how long the next message may take to arrive whole, 0 for no limit, and the FATAL error
	// that the client is told if it takes longer.
	IdleLimit() (time.Duration, *Error)
}
