package node

import (
	"context"

	"github.com/longship-db/longship/startup"
)

// A Role is what a node is to be, until it is told otherwise or fails.
type Role struct {
	Primary bool

	// NewEpoch makes a primary open a new epoch, and with it a new timeline. Without it the node goes
	// on with the epoch its log ends in, which is safe only after a clean stop: nothing it had sent
	// was lost then.
	NewEpoch bool

	// Upstream is the client address of the node that a standby follows.
	Upstream string
}

// Roles says what a node is to be. Next is called at start and after each role that has ended, with
// what the node found or left in its data directory.
type Roles interface {
	Next(ctx context.Context, id startup.Identity, log *startup.Recovered) (Role, error)
}

// FixedRoles keeps the roles that a cluster was set up with: the node that founded it is its
// primary, the others follow it.
type FixedRoles struct {
	// FindPrimary returns the client address of the primary.
	FindPrimary func(ctx context.Context) (string, error)
}

// Next implements Roles. A primary that crashed may have sent what it then lost, so it opens a new
// epoch, as a newly elected one would.
func (f FixedRoles) Next(ctx context.Context, id startup.Identity, log *startup.Recovered) (Role, error) {
	if id.Founder {
		return Role{Primary: true, NewEpoch: !log.Clean}, nil
	}
	addr, err := f.FindPrimary(ctx)
	return Role{Upstream: addr}, err
}
