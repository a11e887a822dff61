package faults

import "time"

// Packets are the packets of one kind that a node sends and receives, through a table: they are lost in a
// cut. A limit does not concern them.
type Packets struct {
	table *Table
	kind  Kind
}

// Packets returns the way of packets of one kind.
func (t *Table) Packets(kind Kind) Packets { return Packets{t, kind} }

// Send calls send now, later, or never, as the way to an address is.
func (p Packets) Send(address string, send func()) { p.pass(address, To, send) }

// Receive calls receive now, later, or never, as the way from an address is.
func (p Packets) Receive(address string, receive func()) { p.pass(address, From, receive) }

func (p Packets) pass(address string, d Direction, do func()) {
	w := p.table.weather(link{address, p.kind}, d)
	switch {
	case w.cut != nil:
		w.cut.hits.Add(1)
	case w.delay > 0:
		w.delayed.hits.Add(1)
		time.AfterFunc(w.delay, do)
	default:
		do()
	}
}
