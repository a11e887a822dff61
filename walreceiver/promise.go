package walreceiver

import (
	"context"
	"errors"
	"fmt"
)

// standbySetting is the setting in which a node shows whether it is a standby.
const standbySetting = "in_hot_standby"

// ErrNotPrimary says that the upstream is not, or not any more, a primary: nobody acknowledges a commit
// there, and that it speaks does not mean that the primary lives.
var ErrNotPrimary = errors.New("the upstream is not a primary")

// An EpochError says that this node must not follow an upstream of that epoch: it has promised a later
// one, or could not promise.
type EpochError struct {
	Epoch uint64 // the upstream's
	Err   error
}

func (e *EpochError) Error() string { return fmt.Sprintf("follow epoch %d: %v", e.Epoch, e.Err) }

func (e *EpochError) Unwrap() error { return e.Err }

// promise settles that the upstream is one to follow, before anything is done for its sake (I3): a node
// that has promised more neither cuts its log nor acknowledges anything for it, since its log may be
// all that is left of a commit. The upstream must have been found to be of our cluster: the epochs of
// another one mean nothing here.
func (s *Stream) promise(ctx context.Context, c *conn) error {
	epoch, err := c.epoch()
	switch {
	case err != nil:
		return err
	case epoch == 0:
		return ErrNotNative
	case epoch < s.epoch:
		return &EpochError{epoch, fmt.Errorf("this node has followed epoch %d", s.epoch)}
	case s.cfg.Fetch:
		s.epoch = epoch
		return nil
	}
	standby, err := c.show(standbySetting)
	if err != nil {
		return err
	}
	if standby != "off" {
		return ErrNotPrimary
	}
	if s.cfg.Promise != nil {
		if err := s.cfg.Promise(ctx, epoch); err != nil {
			return &EpochError{epoch, err}
		}
	}
	s.epoch = epoch
	if s.cfg.Leases != nil {
		s.cfg.Leases.Stop(epoch)
	}
	return nil
}
