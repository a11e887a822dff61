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

// An ExplainReply is what a failover would find now. It is advice: the members are asked one by one, and
// have promised nothing.
type ExplainReply struct {
	Report Report            `json:"report"`
	Health []Seen            `json:"health"` // in the order of the members
	Lines  []Line            `json:"lines"`
	WhatIf []raftlog.Outcome `json:"what_if"`
}

// A Line is a raftlog.Line: why a node is a candidate or is not, or, without a node, what is missing.
type Line struct {
	Node      string `json:"node,omitempty"`
	Candidate bool   `json:"candidate"`
	Why       string `json:"why"`
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
		leader, ok := c.cfg.Raft.Leader()
		if !ok {
			return Report{Doing: "nothing: there is no Raft leader", Lines: []string{"a majority of the members must be up and reach each other"}}
		}
		return Report{Leader: leader.Name, Doing: "nothing: " + leader.Name + " coordinates"}
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

// Explain says what a failover would find now. Any node answers: the Raft leader if it can be reached,
// which knows what it waits for, or else this one.
func (c *Coordinator) Explain(ctx context.Context, r ExplainRequest) (ExplainReply, error) {
	if leader, ok := c.cfg.Raft.Leader(); ok && !r.Forwarded && leader.ID != c.cfg.Self() {
		there, cancel := context.WithTimeout(ctx, c.failoverTimeout())
		defer cancel()
		if reply, err := c.cfg.Peers.Explain(there, leader.Address, ExplainRequest{Forwarded: true}); err == nil {
			return reply, nil
		}
	}
	s := c.cfg.Raft.State()
	reply := ExplainReply{Report: c.Report(), Health: c.look(ctx, s)}
	if !s.Initialised() {
		return reply, nil
	}
	reports := reportsOf(s, reply.Health)
	for _, l := range raftlog.Explain(s, reports) {
		reply.Lines = append(reply.Lines, Line(l))
	}
	reply.WhatIf = WhatIf(s, reply.Health)
	return reply, nil
}

// WhatIf is raftlog.WhatIf by what all members said, in their order.
func WhatIf(s *raftlog.State, all []Seen) []raftlog.Outcome {
	var f raftlog.Fallback
	for _, seen := range all {
		if h := seen.Health; inOffice(s, h) && h.Fallback != nil {
			f = *h.Fallback
		}
	}
	return raftlog.WhatIf(s, reportsOf(s, all), f)
}

// reportsOf makes raftlog's reports of what all members said, in their order, and after them of the
// receivers that the primary tells of.
func reportsOf(s *raftlog.State, all []Seen) []raftlog.Report {
	var reports, receivers []raftlog.Report
	for i, m := range s.Members {
		r := raftlog.Report{ID: m.ID, Name: m.Name}
		if h := all[i].Health; h != nil && h.ID == m.ID {
			r.Alive, r.Position, r.Damaged, r.Lacking = true, h.Position, h.Damaged, h.Lacking
			r.Streaming = h.StreamEpoch == s.Epoch && h.StreamSilence >= 0
		}
		reports = append(reports, r)
		if h := all[i].Health; inOffice(s, h) {
			for _, name := range h.Receivers {
				receivers = append(receivers, raftlog.Report{Name: name, Alive: true, Streaming: true})
			}
		}
	}
	return append(reports, receivers...)
}

// inOffice reports whether it is the primary of the present epoch that answered.
func inOffice(s *raftlog.State, h *Health) bool {
	return h != nil && h.ID == s.Primary.ID && h.InOffice && h.Epoch == s.Epoch
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
