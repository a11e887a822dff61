// Package gossip tells who is out there, at which address and how far: a hint, never a vote.
//
// It is hashicorp/memberlist (SWIM with Lifeguard) under names of our own. A member is known to it as
// name.node.incarnation, so that two processes started from one copied directory, or two nodes that
// were given one name, do not pass for each other: they are reported, and nobody is shut out. What a
// node says about itself is a [Meta]. Nothing here decides anything: what a member says of its
// position may be a second old, and a member that is said to be dead may only be slow.
package gossip
