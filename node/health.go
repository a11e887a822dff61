package node

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/longship-db/longship/walreceiver"
)

// hungWrite is how long a write may take before /healthz says that the disk does not answer. It is
// before disk_watchdog_timeout ends the process, as a rule, and long after a disk is only slow.
const hungWrite = 2 * time.Second

// healthy says whether the process does what a process can: it runs, and its disk answers. That it has
// no role, or nobody to follow, is no illness: to start it again would not help.
func (n *Node) healthy() verdict {
	if !n.connected.Load() {
		return yes("ok: starting")
	}
	return diskVerdict(n.stalled())
}

func diskVerdict(what string, stalled time.Duration) verdict {
	if stalled >= hungWrite {
		return no("the disk hangs: a write of %s has not returned for %s", what, stalled.Round(time.Millisecond))
	}
	return yes("ok")
}

// A wish is what a load balancer wants of a node: a role, and how far it may be behind.
type wish struct {
	role   string // "primary", "standby", or "" for either
	maxLag int64  // bytes; negative: any
}

// parseReadiness reads the query of /readyz. What it does not know is an error: a probe that asks for
// something else than it means would never be noticed.
func parseReadiness(query string) (w wish, err error) {
	w.maxLag = -1
	values, err := url.ParseQuery(query)
	if err != nil {
		return w, fmt.Errorf("the query makes no sense: %w", err)
	}
	for name, list := range values {
		value := list[len(list)-1]
		switch name {
		case "role":
			if value != rolePrimary && value != roleStandby {
				return w, fmt.Errorf("role=%.20q: want primary or standby", value)
			}
			w.role = value
		case "max_lag":
			lag, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return w, fmt.Errorf("max_lag=%.20q: want a number of bytes", value)
			}
			w.maxLag = int64(lag)
		default:
			return w, fmt.Errorf("unknown parameter %.20q: there are role and max_lag", name)
		}
	}
	return w, nil
}

const (
	rolePrimary = "primary"
	roleStandby = "standby"
	roleWitness = "witness"
)

func (r *reign) role() string {
	if r.primary != nil {
		return rolePrimary
	}
	return r.node.standbyRole()
}

// proofTimeout bounds how long a primary may take to prove that it is one.
const proofTimeout = time.Second

// readiness says whether clients should be sent here. life is the node's, ask the request's.
func (n *Node) readiness(life, ask context.Context, w wish) verdict {
	r, v := n.servingReign(life)
	switch {
	case !v.ok:
		return v
	case n.cfg.Witness:
		return no("this node is a witness, which keeps no table")
	case w.role != "" && w.role != r.role():
		return no("this node is a %s", r.role())
	case r.primary != nil:
		return r.provePrimary(ask)
	}
	return r.standbyVerdict(w.maxLag)
}

// servingReign is the reign that answers clients now, if one does.
func (n *Node) servingReign(life context.Context) (*reign, verdict) {
	if life.Err() != nil {
		return nil, no("the node is being stopped")
	}
	if !n.connected.Load() {
		return nil, no("the node is starting")
	}
	if !n.ready.Load() {
		return nil, no("the node has no data yet: it takes a base copy of the primary's")
	}
	r, _ := n.present.load()
	if r == nil {
		return nil, no("the node has no role now: it recovers its log, or changes its role")
	}
	select {
	case <-r.opened:
		return r, yes("%s, epoch %d", r.role(), r.epoch)
	default:
		return nil, no("%s, epoch %d, waiting %s", r.role(), r.epoch, n.waitingFor(r))
	}
}

// provePrimary is what a read does on a primary: it needs the lease, which a primary that was replaced,
// and does not know it yet, cannot get (I11).
func (r *reign) provePrimary(ctx context.Context) verdict {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	if err := r.primary.group.WaitLease(ctx); err != nil {
		return no("primary, epoch %d, but not enough members say so: %v", r.epoch, err)
	}
	select {
	case <-r.over:
		return no("this node was the primary until now")
	default:
		return yes("primary, epoch %d", r.epoch)
	}
}

// standbyVerdict holds a standby against how far it may be behind. While it does not stream nobody
// knows.
func (r *reign) standbyVerdict(maxLag int64) verdict {
	waiting := r.node.waitingFor(r)
	if maxLag < 0 {
		if waiting != "" {
			return yes("standby, epoch %d, waiting %s", r.epoch, waiting)
		}
		return yes("standby, epoch %d", r.epoch)
	}
	behind, ok := r.behind()
	if !ok {
		return no("standby, epoch %d, nobody knows how far behind, waiting %s", r.epoch, waiting)
	}
	if behind > maxLag {
		return no("standby, epoch %d, %d bytes behind", r.epoch, behind)
	}
	return yes("standby, epoch %d, %d bytes behind", r.epoch, behind)
}

// behind is how many bytes of its upstream's log a standby has not applied, as far as it was told; ok
// is false unless it streams.
func (r *reign) behind() (bytes int64, ok bool) {
	if r.stream == nil {
		return 0, false
	}
	s := r.stream.Status()
	if s.State != walreceiver.StateStreaming {
		return 0, false
	}
	return max(0, int64(s.LatestEndLSN-min(s.LatestEndLSN, r.applied.Load()))), true
}
