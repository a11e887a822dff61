package node

import (
	"context"
	"errors"
	"time"

	"github.com/longship-db/longship/wal"
)

// beat writes a heartbeat every heartbeat_interval, for as long as the reign is open: by it everybody
// knows how late a standby is, even when nothing else is written. It returns nil when ctx ends, or the
// log takes nothing more.
//
// A heartbeat waits for nobody, and nobody for it. While another node is to take over none is written,
// nor while the one before is not within the horizon yet: it would say nothing new, and be cut off the
// log again if this node is cut off from the others.
func (r *reign) beat(ctx context.Context) error {
	select {
	case <-r.opened:
	case <-ctx.Done():
		return nil
	}
	var last wal.LSN
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := r.node.settings.Changed()
		interval := r.node.settings.Duration("heartbeat_interval")
		if interval > 0 && r.horizon.Load() >= last {
			end, err := r.beatOnce()
			if errors.Is(err, wal.ErrWriterStopped) {
				return nil
			}
			last = max(last, end) // an error is one of room, which commits report
		}
		if timer.Reset(interval); interval == 0 {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// beatOnce writes a heartbeat unless the gate for commits is shut; then end is 0.
func (r *reign) beatOnce() (end wal.LSN, err error) {
	p := r.primary
	shut, err := p.gate.tryEnter()
	if shut != nil || err != nil {
		return 0, nil
	}
	defer p.gate.leave()
	now := time.Now()
	if _, end, err = p.writer.Insert(wal.Heartbeat(now), 0); err != nil {
		return 0, err
	}
	p.ages.note(end, now)
	p.writer.RequestFlush(end) // at the same time as the standbys: the horizon need not be sent once more later
	return end, nil
}
