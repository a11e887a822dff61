package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/longship-db/longship/internal/history"
)

var cancelDuringWait = Drill{
	Name:   "cancel-during-wait",
	Breaks: "has all standbys stand still for a moment, and cancels the commits that wait for them",
	Holds:  "a commit whose wait is cancelled is answered with 08007, unknown, and shown to nobody before it is durable under the rule",
	Shown:  "each of the five commits is answered with 08007",
	Round: func(ctx context.Context, r *Run) error {
		primary, err := r.Cluster.Primary(ctx)
		if err != nil {
			return err
		}
		standbys, err := r.Cluster.Standbys(ctx)
		if err != nil {
			return err
		}
		sessions, err := openSessions(ctx, primary)
		defer func() {
			for _, conn := range sessions {
				hangUp(conn)
			}
		}()
		if err != nil {
			return err
		}
		r.Strike("all standbys stand still")
		for _, s := range standbys {
			defer s.Thaw()
			if err := s.Freeze(ctx); err != nil {
				return err
			}
		}
		err = r.cancelAll(ctx, sessions)
		r.Mend("they go on")
		return err
	},
}

// cancelled is how many commits are cancelled at a time.
const cancelled = 5

// openSessions returns those that it has opened, even if it fails.
func openSessions(ctx context.Context, n *Node) (all []*pgx.Conn, err error) {
	for range cancelled {
		conn, err := n.connect(ctx)
		if err != nil {
			return all, fmt.Errorf("%s: %w", n.Name, err)
		}
		all = append(all, conn)
	}
	return all, nil
}

// cancelAll has each session insert a row, cancels them, and verifies what they are told.
func (r *Run) cancelAll(ctx context.Context, sessions []*pgx.Conn) error {
	told := make([]error, len(sessions))
	var inserting sync.WaitGroup
	for i, conn := range sessions {
		inserting.Go(func() { told[i] = r.insertCancelled(ctx, conn, i) })
	}
	sleep(ctx, 500*time.Millisecond)
	r.Strike("%d commits that wait are cancelled", len(sessions))
	var failed error
	for _, conn := range sessions {
		failed = errors.Join(failed, conn.PgConn().CancelRequest(ctx))
	}
	inserting.Wait()
	return errors.Join(append(told, failed)...)
}

// insertCancelled inserts a row, and verifies that the client is told that the outcome is unknown.
func (r *Run) insertCancelled(ctx context.Context, conn *pgx.Conn, number int) error {
	w, row := r.work, &inserted{outcome: history.Unknown}
	w.mu.Lock()
	key := fmt.Sprintf("%scancelled/%d", w.key("row", w.era), number)
	w.rows[key] = row
	w.mu.Unlock()
	_, err := conn.Exec(ctx, "INSERT INTO kv VALUES ($1, $2)", key, rowValue(key))
	w.mu.Lock()
	defer w.mu.Unlock()
	row.outcome = OutcomeOf(err)
	w.endedLocked(row.outcome, 0, "", 0)
	if sqlState(err) == "08007" {
		return nil
	}
	return fmt.Errorf("a commit whose wait was cancelled was answered with %v, and not with 08007", err)
}

var flapping = Drill{
	Name:   "flapping",
	Breaks: "kills a node six times in a row, as soon as it is back, or at a random moment before or after; the primary of the moment in every other round",
	Holds:  "nobody trips over what comes and goes",
	Shown:  "the signal has ended each of the six processes, three of them after they were ready",
	Round: func(ctx context.Context, r *Run) error {
		n, err := r.victim(ctx)
		if err != nil {
			return err
		}
		for i := range 6 {
			r.Strike("kill -9 of %s", n.Name)
			if err := n.killed(); err != nil {
				return err
			}
			r.Pause(ctx, 300*time.Millisecond)
			r.Mend("%s is started again", n.Name)
			if err := n.Start(); err != nil {
				return err
			}
			if i%2 == 1 {
				r.Pause(ctx, time.Second)
			} else if err := n.AwaitReady(ctx); err != nil {
				return err
			}
		}
		return nil
	},
}
