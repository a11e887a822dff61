package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/longship-db/longship/cmd/longship/internal/status"
	"github.com/longship-db/longship/wal"
)

// verifyTimeout is how long a node may take to come up and catch up before it counts as not checked.
const verifyTimeout = 30 * time.Second

var (
	errNotChecked  = errors.New("not every node could be checked")
	errInterrupted = errors.New("interrupted before every node was checked")
)

// finish looks for every acknowledged commit on every node, the primary first, and says what it
// found.
func (d *demo) finish(hurry context.Context, ran time.Duration) error {
	d.show.endBlock()
	totals := d.ledger.Totals()
	d.say("")
	d.say("ran %s, %.0f commits/s; looking for what was acknowledged", ran.Round(100*time.Millisecond), float64(totals.Acknowledged)/ran.Seconds())
	c := &check{demo: d, lost: map[string]bool{}}
	primary, rows, end, err := d.readPrimary(hurry)
	if hurry.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return fmt.Errorf("nothing could be checked: no primary: %w", err)
	}
	c.compare(primary, rows)
	for _, p := range d.cluster.processes {
		if p == primary {
			continue
		}
		rows, err := d.readStandby(hurry, p, end)
		if hurry.Err() != nil {
			return errInterrupted
		}
		if err != nil {
			d.say("%s: not checked: %v", p.name, err)
			c.unchecked = true
			continue
		}
		c.compare(p, rows)
	}
	if count, longest := d.reigns.Changes(); count > 0 {
		d.say("primary changed %s, at most %s without an acknowledged commit", times(count), seconds(longest))
	}
	d.say("acknowledged %d, unknown %d, refused %d, lost %d", totals.Acknowledged, totals.Unknown, totals.Refused, len(c.lost))
	switch {
	case len(c.lost) > 0:
		return ErrLost
	case c.unchecked:
		return errNotChecked
	}
	return nil
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// A check compares what nodes hold with what was acknowledged.
type check struct {
	demo      *demo
	lost      map[string]bool // keys
	unchecked bool            // some node
}

// shownLosses is how many losses of a node are listed.
const shownLosses = 10

func (c *check) compare(p *process, rows map[string]string) {
	checked, missing := c.demo.ledger.Check(rows)
	c.demo.say("%s: %d keys checked, %d lost", p.name, checked, len(missing))
	for i, l := range missing {
		c.lost[l.Key] = true
		if i < shownLosses {
			c.demo.say("  %s", l)
		}
	}
}

// readPrimary reads the keys of the load from whoever is the primary. It returns the position of the
// newest row, too.
func (d *demo) readPrimary(ctx context.Context) (primary *process, rows map[string]string, end wal.LSN, err error) {
	err = persist(ctx, func(ctx context.Context) error {
		if primary = d.cluster.primary(); primary == nil {
			return errors.New("no node is the primary")
		}
		rows, end, err = readNode(ctx, primary, onlyPrimary, 0)
		return err
	})
	return primary, rows, end, err
}

// readStandby reads the keys of the load from a node once it has everything before until. It may have
// become the primary meanwhile, and then it has.
func (d *demo) readStandby(ctx context.Context, p *process, until wal.LSN) (rows map[string]string, err error) {
	err = persist(ctx, func(ctx context.Context) error {
		rows, _, err = readNode(ctx, p, anyNode, until)
		return err
	})
	return rows, err
}

// persist calls read until it succeeds, or verifyTimeout is over.
func persist(ctx context.Context, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	for {
		err := read(ctx)
		if err == nil || !sleep(ctx, retryPause) {
			return err
		}
	}
}

// Values of target_session_attrs.
const (
	anyNode     = "any"
	onlyPrimary = "read-write"
)

func nodeConninfo(p *process, attrs string) string {
	return fmt.Sprintf("host=%s port=%s %s target_session_attrs=%s", host, port(p.address), credentials, attrs)
}

// readTimeout bounds one attempt to read from a node.
const readTimeout = 10 * time.Second

func readNode(ctx context.Context, p *process, attrs string, until wal.LSN) (map[string]string, wal.LSN, error) {
	client, err := status.NewClient(nodeConninfo(p, attrs))
	if err != nil {
		return nil, 0, err
	}
	defer client.Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return readKeys(ctx, client, until)
}

// readKeys fails while the node has not come far enough.
func readKeys(ctx context.Context, src status.Source, until wal.LSN) (map[string]string, wal.LSN, error) {
	if until != 0 {
		answer, err := src.Query(ctx, "SELECT pg_last_wal_replay_lsn() AS replay_lsn, pg_is_in_recovery() AS standby")
		if err != nil {
			return nil, 0, err
		}
		replay, _ := answer[0][0].LSN("replay_lsn")
		if standby := answer[0][0][1].Value != false; standby && replay < until {
			return nil, 0, fmt.Errorf("it has replayed up to %s, and the last commit ends at %s", replay, until)
		}
	}
	answer, err := src.Query(ctx, fmt.Sprintf("SELECT key, value, lsn FROM kv WHERE key >= '%s' AND key < '%s'", keyLow, keyHigh))
	if err != nil {
		return nil, 0, err
	}
	rows := map[string]string{}
	var end wal.LSN
	for _, r := range answer[0] {
		rows[r.Text("key")] = r.Text("value")
		if l, ok := r.LSN("lsn"); ok {
			end = max(end, l)
		}
	}
	return rows, end, nil
}
