package walreceiver

import (
	"context"
	"errors"

	"github.com/longship-db/longship/pgwire"
)

// primarySetting is the setting in which a node shows its primary's address.
const primarySetting = "longship.primary"

// ErrNoPrimary says that a node does not know of a primary.
var ErrNoPrimary = errors.New("the node does not know who the primary is")

// FindPrimary asks the node at cfg.Primary for the client address of the primary, which may be its
// own. It tries once, and as nobody: the asked node learns nothing of this one.
func FindPrimary(ctx context.Context, cfg Config) (string, error) {
	cfg = cfg.withDefaults()
	cfg.NodeID = 0
	c, err := connect(ctx, &cfg)
	if err != nil {
		return "", causeOf(ctx, err)
	}
	defer c.close()
	address, err := c.show(primarySetting)
	if e, ok := errors.AsType[*pgwire.Error](err); ok && e.Code == pgwire.CodeUndefinedObject {
		return "", ErrNotNative
	}
	if err == nil && address == "" {
		err = ErrNoPrimary
	}
	return address, causeOf(ctx, err)
}
