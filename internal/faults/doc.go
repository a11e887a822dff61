// Package faults breaks a node's network and disk on purpose, while it runs: for drills. A [Table] holds
// what is broken; the dialer, the packets and the file system that it hands out behave accordingly, and as
// those they wrap while it is empty.
//
// A cut is that of a cable, not of a connection. Nothing is refused and nobody is told: what is written
// stays on its way, reads and new connections wait, and so does the end of a connection that is closed
// meanwhile. When the cut is healed everything arrives that had been on its way, in order, as TCP sends again what
// nobody has confirmed. Where only one way is cut TCP stops on the other way too, after a
// moment, since nothing is confirmed; packets of UDP do not.
//
// Everything happens on the side that has dialed a connection, since only that side knows for certain
// who the other is: its wrapper holds what it writes, for a cut to the peer, and what it reads, for one
// from it. So a direction between two nodes is cut as a whole by two faults: "cut to b" at a, for the
// connections that a has made, and "cut from a" at b, for those that b has made. A node that ends while
// it is cut off takes its connections with it: its kernel says so to the others, which the cable would not.
//
// A disk stalls, is full, or fails or is slow to sync, in one folder of the data directory or in all of them.
// What Raft keeps goes through [Table.Write] instead of a file system.
package faults
