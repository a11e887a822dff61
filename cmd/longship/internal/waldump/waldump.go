// Package waldump prints the log in readable form: a line for each record, as pg_waldump does, but
// with our own records decoded, which that tool shows as unknown.
//
// It reads segment files and nothing else, so it works on a running node's log, on a stopped one's,
// on the tails in orphans/ and on files that were copied elsewhere.
package waldump

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/longship-db/longship/wal"
)

// A Config says what to print and how.
type Config struct {
	Paths    []string       // segment files, or folders of them; or none and
	DataDir  string         // a node's data directory
	Timeline wal.TimelineID // whose log to follow in DataDir; 0: the newest

	From, To wal.LSN // print records that start at From or later and end by To; 0: no bound
	Key      string  // print only commits that touch a key with this prefix, if not ""
	Stats    bool    // print how many records of each type there are instead of the records
	JSON     bool    // print an object per line

	Out    io.Writer
	Notice io.Writer // where a log ends and why, and what was passed over
}

// ErrEnded says that a log ended, or could not be read any further, before the position asked for.
// Why has been written to Config.Notice. That is how every live log ends, and pg_waldump's exit
// status 1.
var ErrEnded = errors.New("the log ended")

// Run prints what cfg asks for.
func Run(cfg Config) error {
	chains, err := cfg.chains()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(cfg.Out, 64<<10)
	var p printer = &textPrinter{out: out}
	switch {
	case cfg.Stats:
		p = &statsPrinter{out: out, json: cfg.JSON, types: map[string]*typeStats{}}
	case cfg.JSON:
		p = newJSONPrinter(out)
	}
	ended := false
	for _, c := range chains {
		err := cfg.dump(c, p)
		if flushErr := out.Flush(); flushErr != nil {
			return flushErr // nobody reads any more, or nowhere to write
		}
		end, ok := errors.AsType[*endError](err)
		switch {
		case ok:
			ended = ended || !end.mild
			fmt.Fprintf(cfg.Notice, "longship: %v\n", end)
		case err != nil:
			return err
		}
	}
	if err := errors.Join(p.finish(), out.Flush()); err != nil {
		return err
	}
	if ended {
		return ErrEnded
	}
	return nil
}

// A printer takes the records one by one.
type printer interface {
	print(e *Entry) error
	finish() error
}

func (cfg *Config) dump(c chain, p printer) error {
	r, err := newChainReader(c, cfg.From, cfg.To)
	if err != nil {
		return err
	}
	defer r.close()
	first := true
	for {
		rec, ok, err := r.next()
		if !ok || err != nil {
			return err
		}
		if rec.LSN < cfg.From {
			continue
		}
		if first && rec.LSN > cfg.From && cfg.From > c.start() {
			fmt.Fprintf(cfg.Notice, "first record is after %s, at %s, skipping over %d bytes\n", cfg.From, rec.LSN, rec.LSN-cfg.From)
		}
		first = false
		e := decode(&rec, r.timeline())
		if cfg.Key != "" && !e.keepKeys(cfg.Key) {
			continue
		}
		if err := p.print(&e); err != nil {
			return err
		}
	}
}
