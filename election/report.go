package election

import "time"

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
