package election

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/longship-db/longship/raftlog"
)

// A Report is what a coordinator is doing, and why it waits.
type Report struct {
	Leader string    `json:"leader"`          // the node that coordinates, by name; empty if there is none
	Doing  string    `json:"doing"`           // one line
	Since  time.Time `json:"since"`           // it is doing that
	Lines  []string  `json:"lines,omitempty"` // what is missing, if it cannot go on
}

// An ExplainReply is what a failover would find now.
type ExplainReply struct {
	Report Report `json:"report"`
	Health []Seen `json:"health"` // in the order of the members
}

// Seen is a member as it was found.
type Seen struct {
	Name   string  `json:"name"`
	Health *Health `json:"health,omitempty"` // nil: it did not answer
	Error  string  `json:"error,omitempty"`
}

// Report says what this coordinator is doing; one that is not the Raft leader does nothing.
func (c *Coordinator) Report() Report {
	if !c.cfg.Raft.IsLeader() {
		leader, _ := c.cfg.Raft.Leader()
		return Report{Leader: leader.Name, Doing: "nothing: not the Raft leader"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Leader = c.cfg.Name
	r.Lines = slices.Clone(r.Lines)
	return r
}

// say notes what the coordinator is doing, and why it does not get on with it. It reports whether that
// is something new.
func (c *Coordinator) say(doing string, lines ...string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := doing != c.report.Doing || !slices.Equal(lines, c.report.Lines)
	if doing != c.report.Doing {
		c.report.Since = time.Now()
	}
	c.report.Doing, c.report.Lines = doing, lines
	return fresh
}

// sayAgain notes what the coordinator is doing. If it did that before, what it waits for is the same
// until something else is known.
func (c *Coordinator) sayAgain(doing string) {
	c.mu.Lock()
	same := c.report.Doing == doing
	c.mu.Unlock()
	if !same {
		c.say(doing)
	}
}

// Explain asks all members how they are, on whichever node it is asked.
func (c *Coordinator) Explain(ctx context.Context, r ExplainRequest) (ExplainReply, error) {
	return onLeader(ctx, c, r.Forwarded, func(ctx context.Context) (ExplainReply, error) {
		return ExplainReply{Report: c.Report(), Health: c.look(ctx, c.cfg.Raft.State())}, nil
	}, func(ctx context.Context, leader string) (ExplainReply, error) {
		r.Forwarded = true
		return c.cfg.Peers.Explain(ctx, leader, r)
	})
}

// look asks all members at once how they are.
func (c *Coordinator) look(ctx context.Context, s *raftlog.State) []Seen {
	all := make([]Seen, len(s.Members))
	var wg sync.WaitGroup
	for i, m := range s.Members {
		wg.Go(func() {
			all[i] = Seen{Name: m.Name}
			if h, err := c.ask(ctx, m.Address); err != nil {
				all[i].Error = err.Error()
			} else {
				all[i].Health = &h
			}
		})
	}
	wg.Wait()
	return all
}
