package waldump

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// shownValue is how many bytes of a value a line of text shows.
const shownValue = 40

// A textPrinter prints a line per record in pg_waldump's format.
type textPrinter struct{ out io.Writer }

func (p *textPrinter) print(e *Entry) error {
	_, err := fmt.Fprintf(p.out, "rmgr: %-11s len (rec/tot): %6d/%6d, tx: %10d, lsn: %s, prev %s, desc: %s\n",
		e.Rmgr, e.Length, e.Length, e.XID, padded(uint64(e.LSN)), padded(uint64(e.Prev)), e.describe())
	return err
}

func (p *textPrinter) finish() error { return nil }

// padded prints an LSN as pg_waldump does at the start of a line.
func padded(l uint64) string { return fmt.Sprintf("%X/%08X", l>>32, uint32(l)) }

func timestamp(t time.Time) string { return t.Format("2006-01-02 15:04:05.000000 MST") }

// describe is the text behind "desc:".
func (e *Entry) describe() string {
	var b strings.Builder
	b.WriteString(e.Type)
	switch {
	case e.Error != "":
		fmt.Fprintf(&b, " (cannot be decoded: %s)", e.Error)
	case e.Commit != nil:
		e.Commit.describe(&b)
	case e.Checkpoint != nil:
		c := e.Checkpoint
		kind := "online"
		if e.Type == "CHECKPOINT_SHUTDOWN" {
			kind = "shutdown"
		}
		fmt.Fprintf(&b, " redo %s; tli %d; prev tli %d; xid %d:%d; time %s; %s",
			c.Redo, c.Timeline, c.PrevTimeline, c.NextXID>>32, uint32(c.NextXID), c.Time.Format("2006-01-02 15:04:05 MST"), kind)
	case e.EndOfRecovery != nil:
		r := e.EndOfRecovery
		fmt.Fprintf(&b, " tli %d; prev tli %d; time %s", r.Timeline, r.PrevTimeline, timestamp(r.Time.Time))
	case e.Detail != "":
		b.WriteString(" " + e.Detail)
	}
	return b.String()
}

func (c *Commit) describe(b *strings.Builder) {
	fmt.Fprintf(b, " %s; horizon %s; flushed %s", timestamp(c.Time.Time), c.Horizon, c.Flushed)
	for i := range c.Ops {
		b.WriteString("; ")
		c.Ops[i].describe(b)
	}
	switch {
	case c.Others == 1:
		b.WriteString("; 1 other operation")
	case c.Others > 1:
		fmt.Fprintf(b, "; %d other operations", c.Others)
	}
}

func (o *Op) describe(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s (%d)", o.Op, strconv.Quote(o.Key), o.KeyBytes)
	switch {
	case o.Op != "put":
	case o.Value != nil:
		shown, more := shorten(*o.Value, shownValue)
		fmt.Fprintf(b, " = %s%s (%d)", strconv.Quote(shown), more, o.ValueBytes)
	default:
		shown, more := shorten(o.ValueHex, shownValue)
		fmt.Fprintf(b, ` = \x%s%s (%d)`, shown, more, o.ValueBytes)
	}
}

// shorten cuts s to at most n bytes, between characters, and says so.
func shorten(s string, n int) (shown, more string) {
	if len(s) <= n {
		return s, ""
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], "..."
}

// A jsonPrinter prints an object per line.
type jsonPrinter struct {
	out     io.Writer
	line    bytes.Buffer
	encoder *json.Encoder
}

func newJSONPrinter(out io.Writer) *jsonPrinter {
	p := &jsonPrinter{out: out}
	p.encoder = json.NewEncoder(&p.line)
	p.encoder.SetEscapeHTML(false)
	return p
}

func (p *jsonPrinter) print(e *Entry) error {
	p.line.Reset()
	if err := p.encoder.Encode(e); err != nil {
		return err
	}
	_, err := p.out.Write(p.line.Bytes())
	return err
}

func (p *jsonPrinter) finish() error { return nil }
