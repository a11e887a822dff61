package pgwire

import (
	"strings"
	"time"
	"unicode/utf8"
)

// A WaitEvent is what somebody waits for, as pg_stat_activity has it (PostgreSQL 15 manual, "Wait Event Types").
type WaitEvent struct{ Type, Name string }

var clientRead = WaitEvent{"Client", "ClientRead"}

// Wait says what the work waits for from now on, nil for nothing in particular.
func (c *Conn) Wait(e *WaitEvent) { c.waits.Store(e) }

// An Activity is what a connection is doing, for pg_stat_activity.
type Activity struct {
	Working     bool      // on what the client has sent; else it waits for the client
	TxStatus    byte      // as the client was told last: 'I', 'T' or 'E'; 0 before that, and on replication connections
	Since       time.Time // how long it has been so: to a second, as nobody looks more often
	Query       string    // that is being worked on, or was last: queryShown bytes of it at most
	Application string
	Waits       *WaitEvent // nil: it works
}

// queryShown is how much of a query's text is kept for others to see, PostgreSQL's track_activity_query_size.
const queryShown = 1024

// Activity says what the connection is doing.
func (c *Conn) Activity() Activity {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := Activity{Working: c.working, TxStatus: c.txStatus, Since: c.seenAt, Query: c.query, Application: c.params["application_name"]}
	if a.Waits = c.waits.Load(); !a.Working {
		a.Waits = &clientRead
	}
	if c.params == nil {
		a.Application = c.Params["application_name"]
	}
	if c.work != c.seen || a.Since.IsZero() {
		a.Since = time.Now() // it has changed since the last look
	}
	return a
}

// look is busy, and notes since when it is so. That is what makes statements cost no look at the clock.
func (c *Conn) look() (work uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.work != c.seen || c.seenAt.IsZero() {
		c.seen, c.seenAt = c.work, time.Now()
	}
	return c.work, c.working
}

// setQuery says what is being worked on.
func (c *Conn) setQuery(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.query = text
}

// briefly is the beginning of a text, which keeps no longer one in memory.
func briefly(text string) string {
	if len(text) <= queryShown {
		return text
	}
	n := queryShown
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return strings.Clone(text[:n])
}
