package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// metaVersion comes first in an encoded Meta. A release that has more to say appends it, and
// readers skip what they do not know; one that says it differently counts this up.
const metaVersion = 1

// maxMeta is how long an encoded Meta may be, in bytes.
const maxMeta = memberlist.MetaMaxSize

var errMeta = errors.New("malformed gossip metadata")

// A Role is what a node says it is.
type Role uint8

// The roles. A node between two of them is starting.
const (
	Starting Role = iota
	Standby
	Primary
)

// String is the role in lower case.
func (r Role) String() string {
	switch r {
	case Starting:
		return "starting"
	case Standby:
		return "standby"
	case Primary:
		return "primary"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// Health is what is wrong with a node, bit by bit; 0: nothing.
type Health uint64

// What can be wrong.
const (
	Copying  Health = 1 << iota // it has no complete data yet
	SlowDisk                    // writes take long enough to be worried about
)

// String lists what is wrong, or is "ok".
func (h Health) String() string {
	if h == 0 {
		return "ok"
	}
	var list []string
	for i, name := range []string{"copying", "slow disk"} {
		if bit := Health(1) << i; h&bit != 0 {
			list, h = append(list, name), h&^bit
		}
	}
	if h != 0 {
		list = append(list, fmt.Sprintf("%#x", uint64(h)))
	}
	return strings.Join(list, ", ")
}

// A Meta is what a node says about itself. Encoded it is at most 512 bytes:
//
//	| version 1B | role 1B | node 8B | incarnation 8B | health | epoch | write | flush | replay |
//	| length 1B | client address | length 1B | Raft address | more, from later releases |
//
// Node and incarnation are big endian; health, epoch and the LSNs are unsigned varints.
type Meta struct {
	ID     syncrep.ID
	Client string // host:port for clients, receivers and members
	Raft   string // host:port
	Role   Role
	Health Health
	Epoch  uint64 // of the last record in its log
	Write  wal.LSN
	Flush  wal.LSN
	Replay wal.LSN
}

// smallAdvance is by how many bytes a position may move on without being news at once: on a cluster that
// is idle but for heartbeats each of these moves all positions, and what is announced costs every node more
// than the heartbeat itself.
const smallAdvance = 1024

// news reports whether the others should hear m, of what was said last. Positions that have moved on a
// little are news once that was long ago; everything else is at once, such as a position that moves back.
func (m Meta) news(said Meta, longAgo bool) bool {
	if longAgo || far(said.Write, m.Write) || far(said.Flush, m.Flush) || far(said.Replay, m.Replay) {
		return m != said
	}
	m.Write, m.Flush, m.Replay = said.Write, said.Flush, said.Replay
	return m != said
}

func far(said, at wal.LSN) bool { return at < said || at-said >= smallAdvance }

// encode fails for addresses that are too long or hold other than printable ASCII.
func (m Meta) encode() ([]byte, error) {
	b := make([]byte, 0, 128)
	b = append(b, metaVersion, byte(m.Role))
	b = binary.BigEndian.AppendUint64(b, m.ID.Node)
	b = binary.BigEndian.AppendUint64(b, m.ID.Incarnation)
	for _, n := range []uint64{uint64(m.Health), m.Epoch, uint64(m.Write), uint64(m.Flush), uint64(m.Replay)} {
		b = binary.AppendUvarint(b, n)
	}
	for _, addr := range []string{m.Client, m.Raft} {
		if len(addr) > 255 || !printable(addr) {
			return nil, fmt.Errorf("address %q: want at most 255 printable ASCII characters", addr)
		}
		b = append(append(b, byte(len(addr))), addr...)
	}
	if len(b) > maxMeta {
		return nil, fmt.Errorf("addresses %q and %q are too long for gossip: %d bytes, want at most %d", m.Client, m.Raft, len(b), maxMeta)
	}
	return b, nil
}

func decodeMeta(b []byte) (Meta, error) {
	const fixed = 2 + 8 + 8
	if len(b) > maxMeta || len(b) < fixed || b[0] != metaVersion {
		return Meta{}, errMeta
	}
	m := Meta{Role: Role(b[1])}
	m.ID.Node = binary.BigEndian.Uint64(b[2:])
	m.ID.Incarnation = binary.BigEndian.Uint64(b[10:])
	b = b[fixed:]
	for _, to := range []*uint64{(*uint64)(&m.Health), &m.Epoch, (*uint64)(&m.Write), (*uint64)(&m.Flush), (*uint64)(&m.Replay)} {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return Meta{}, errMeta
		}
		*to, b = v, b[n:]
	}
	for _, to := range []*string{&m.Client, &m.Raft} {
		if len(b) == 0 || len(b)-1 < int(b[0]) {
			return Meta{}, errMeta
		}
		text := string(b[1 : 1+b[0]])
		if !printable(text) {
			return Meta{}, errMeta
		}
		*to, b = text, b[1+len(text):]
	}
	return m, nil
}

// printable guards what ends up in logs and on terminals.
func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
