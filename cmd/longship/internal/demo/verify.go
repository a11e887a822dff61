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
	say := func(format string, args ...any) { d.show.event(fmt.Sprintf(format, args...)) }
	totals := d.ledger.Totals()
	say("")
	say("ran %s, %.0f commits/s; looking for what was acknowledged", ran.Round(100*time.Millisecond), float64(totals.Acknowledged)/ran.Seconds())
	lost := map[string]bool{}
	unchecked := false
	check := func(p *process, until wal.LSN) (end wal.LSN) {
		rows, end, err := d.readNode(hurry, p, until)
		if hurry.Err() != nil {
			return 0
		}
		if err != nil {
			say("%s: not checked: %v", p.name, err)
			unchecked = true
			return 0
		}
		checked, missing := d.ledger.Check(rows)
		say("%s: %d keys checked, %d lost", p.name, checked, len(missing))
		for i, l := range missing {
			lost[l.Key] = true
			if i < 10 {
				say("  %s", l)
			}
		}
		return end
	}
	primary, err := d.waitPrimary(hurry)
	if hurry.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return fmt.Errorf("nothing could be checked: no primary: %w", err)
	}
	end := check(primary, 0)
	for _, p := range d.cluster.processes {
		if p != primary && end != 0 {
			check(p, end)
		}
	}
	say("acknowledged %d, unknown %d, refused %d, lost %d", totals.Acknowledged, totals.Unknown, totals.Refused, len(lost))
	switch {
	case hurry.Err() != nil:
		return errInterrupted
	case len(lost) > 0:
		return ErrLost
	case unchecked:
		return errNotChecked
	}
	return nil
}

func (d *demo) waitPrimary(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	for {
		if p := d.cluster.primary(); p != nil {
			return p, nil
		}
		if !sleep(ctx, retryPause) {
			return nil, ctx.Err()
		}
	}
}

// readNode reads the keys of the load from a node once it has replayed everything before until. It
// returns the position of the newest row, too.
func (d *demo) readNode(ctx context.Context, p *process, until wal.LSN) (rows map[string]string, end wal.LSN, err error) {
	client, err := status.NewClient(nodeConninfo(p))
	if err != nil {
		return nil, 0, err
	}
	defer client.Close(context.WithoutCancel(ctx))
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	for {
		rows, end, err := readKeys(ctx, client, until)
		if err == nil {
			return rows, end, nil
		}
		if !sleep(ctx, retryPause) {
			return nil, 0, err
		}
	}
}

func nodeConninfo(p *process) string {
	return fmt.Sprintf("host=%s port=%s %s target_session_attrs=any", host, port(p.address), credentials)
}

// readKeys fails while the node has not come far enough.
func readKeys(ctx context.Context, src status.Source, until wal.LSN) (map[string]string, wal.LSN, error) {
	if until != 0 {
		answer, err := src.Query(ctx, "SELECT pg_last_wal_replay_lsn() AS replay_lsn")
		if err != nil {
			return nil, 0, err
		}
		if replay, _ := answer[0][0].LSN("replay_lsn"); replay < until {
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
