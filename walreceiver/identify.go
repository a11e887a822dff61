package walreceiver

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// A System is what an upstream says of itself.
type System struct {
	SystemID    uint64
	Timeline    wal.TimelineID
	Flush       wal.LSN // how far its log reaches
	SegmentSize wal.SegmentSize
	Epoch       uint64 // 0 if it does not say
	History     wal.History
}

// An OtherSystemError says that the upstream belongs to another cluster.
type OtherSystemError struct{ Theirs, Ours uint64 }

func (e *OtherSystemError) Error() string {
	return fmt.Sprintf("database system identifier differs between the primary and standby: the primary's identifier is %d, the standby's identifier is %d", e.Theirs, e.Ours)
}

// epochSetting is the setting in which a node shows its epoch.
const epochSetting = "longship.epoch"

// Identify asks the upstream who it is and how far. It tries once.
func Identify(ctx context.Context, cfg Config) (System, error) {
	cfg = cfg.withDefaults()
	c, err := connect(ctx, &cfg)
	if err != nil {
		return System{}, causeOf(ctx, err)
	}
	defer c.close()
	sys, err := c.identify(&cfg)
	return sys, causeOf(ctx, err)
}

// causeOf replaces the errors of a connection that was closed because ctx ended.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *conn) identify(cfg *Config) (System, error) {
	sys, err := c.identifySystem(cfg)
	if err != nil {
		return System{}, err
	}
	size, err := c.show("wal_segment_size")
	if err != nil {
		return System{}, err
	}
	bytes, err := parseSize(size)
	if sys.SegmentSize = wal.SegmentSize(bytes); err != nil || bytes > uint64(wal.MaxSegmentSize) || !sys.SegmentSize.Valid() {
		return System{}, fmt.Errorf("the upstream has an invalid wal_segment_size %q", size)
	}
	if sys.Epoch, err = c.epoch(); err != nil {
		return System{}, err
	}
	sys.History, err = c.history(sys.Timeline)
	return sys, err
}

// identifySystem runs IDENTIFY_SYSTEM and checks that the upstream is of our cluster.
func (c *conn) identifySystem(cfg *Config) (System, error) {
	rows, err := c.query("IDENTIFY_SYSTEM")
	if err != nil {
		return System{}, err
	}
	var field [3]string
	for i := range field {
		if field[i], err = text(rows, i); err != nil {
			return System{}, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
		}
	}
	id, err1 := strconv.ParseUint(field[0], 10, 64)
	tli, err2 := strconv.ParseUint(field[1], 10, 32)
	flush, err3 := wal.ParseLSN(field[2])
	if err := errors.Join(err1, err2, err3); err != nil || tli == 0 {
		return System{}, fmt.Errorf("IDENTIFY_SYSTEM: unexpected result %q", field)
	}
	if cfg.SystemID != 0 && id != cfg.SystemID {
		return System{}, &OtherSystemError{Theirs: id, Ours: cfg.SystemID}
	}
	return System{SystemID: id, Timeline: wal.TimelineID(tli), Flush: flush}, nil
}

// epoch asks for the upstream's epoch. One that does not know the setting has none.
func (c *conn) epoch() (uint64, error) {
	s, err := c.show(epochSetting)
	if e, ok := errors.AsType[*pgwire.Error](err); ok && e.Code == pgwire.CodeUndefinedObject {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("SHOW %s: %w", epochSetting, err)
	}
	return n, nil
}

// history fetches the history of a timeline. The first has none.
func (c *conn) history(tli wal.TimelineID) (wal.History, error) {
	if tli == 1 {
		return wal.History{Timeline: 1}, nil
	}
	rows, err := c.query(fmt.Sprintf("TIMELINE_HISTORY %d", tli))
	if err != nil {
		return wal.History{}, err
	}
	name, err := text(rows, 0)
	if err != nil || name != wal.HistoryFileName(tli) {
		return wal.History{}, fmt.Errorf("TIMELINE_HISTORY %d: the upstream sent file %q", tli, name)
	}
	content, err := text(rows, 1)
	if err != nil {
		return wal.History{}, fmt.Errorf("TIMELINE_HISTORY %d: %w", tli, err)
	}
	h, err := wal.ParseHistory(tli, []byte(content))
	if err != nil {
		return wal.History{}, err
	}
	return h, checkHistory(h)
}

// checkHistory refuses a history whose switches do not move forward: no log has such an ancestry.
func checkHistory(h wal.History) error {
	var last wal.LSN
	for _, s := range h.Switches {
		if s.At < last || s.At == 0 {
			return fmt.Errorf("history of timeline %d: timeline %d ends at %s, before it begins", h.Timeline, s.Parent, s.At)
		}
		last = s.At
	}
	return nil
}
