package faults

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Effect is what a fault does.
type Effect string

// The effects on the network, and those on the disk.
const (
	Cut   Effect = "cut"   // nothing arrives
	Delay Effect = "delay" // everything arrives later, by Fault.Time
	Limit Effect = "limit" // each connection carries so much in a second: Fault.Rate

	Stall    Effect = "stall"     // writes and syncs wait
	Full     Effect = "full"      // no file can grow
	FailSync Effect = "fail-sync" // syncs fail, all or one
	SlowSync Effect = "slow-sync" // syncs take longer, by Fault.Time
)

// A Kind is what a connection is for.
type Kind string

// The kinds. Commands are what members ask of each other: probes, promises, proposals.
const (
	Raft        Kind = "raft"
	Replication Kind = "replication"
	Commands    Kind = "commands"
	Gossip      Kind = "gossip"
)

var kinds = []Kind{Raft, Replication, Commands, Gossip}

// A Direction is one way of a connection, as this node sees it.
type Direction string

// The directions.
const (
	To   Direction = "to"
	From Direction = "from"
)

func (d Direction) opposite() Direction {
	if d == To {
		return From
	}
	return To
}

// Everybody stands for all peers.
const Everybody = "*"

// Bounds of what a fault may ask for, so that a mistake does not hang a node for good.
const (
	maxText = 256
	maxTime = time.Minute
	maxRate = 1 << 40
)

// A Fault is one thing that is broken. Its text is
//
//	cut [to|from] PEER [KIND,…]
//	delay [to|from] PEER [KIND,…] TIME
//	limit [to|from] PEER [KIND,…] BYTES
//	stall [FOLDER]
//	full [FOLDER]
//	fail-sync [once] [FOLDER]
//	slow-sync TIME [FOLDER]
//
// with the name of a member or * as PEER, both directions and all kinds unless they are given, a folder
// of the data directory (pg_wal, store, global, raft), or all, as FOLDER, a TIME like 50ms, and BYTES
// in a second like 100000 or 100kB.
type Fault struct {
	Effect    Effect
	Direction Direction // "": both
	Peer      string    // of effects on the network: the name of a member, or Everybody
	Kinds     []Kind    // nil: all
	Folder    string    // of effects on the disk; "": all
	Time      time.Duration
	Rate      int64 // in bytes per second
	Once      bool  // FailSync: the next sync only
}

// Parse reads a fault's text.
func Parse(text string) (Fault, error) {
	if len(text) > maxText {
		return Fault{}, fmt.Errorf("the fault has %d bytes, at most %d are read", len(text), maxText)
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return Fault{}, fmt.Errorf("empty fault: want one of cut, delay, limit, stall, full, fail-sync, slow-sync")
	}
	f := Fault{Effect: Effect(words[0])}
	var err error
	switch f.Effect {
	case Cut, Delay, Limit:
		err = f.parseNetwork(words[1:])
	case Stall, Full, FailSync, SlowSync:
		err = f.parseDisk(words[1:])
	default:
		err = fmt.Errorf("want one of cut, delay, limit, stall, full, fail-sync, slow-sync")
	}
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w", text, err)
	}
	return f, nil
}

func (f *Fault) parseNetwork(words []string) (err error) {
	amount := ""
	if f.Effect != Cut {
		if len(words) == 0 {
			return fmt.Errorf("want a peer, and how much at the end")
		}
		words, amount = words[:len(words)-1], words[len(words)-1]
	}
	if len(words) > 1 && (words[0] == string(To) || words[0] == string(From)) {
		f.Direction, words = Direction(words[0]), words[1:]
	}
	if len(words) < 1 || len(words) > 2 {
		return fmt.Errorf("want to or from, a member's name or *, and kinds of connections separated by commas")
	}
	f.Peer = words[0]
	if len(words) == 2 {
		for k := range strings.SplitSeq(words[1], ",") {
			if !slices.Contains(kinds, Kind(k)) {
				return fmt.Errorf("%q is no kind of connection: want some of %v", k, kinds)
			}
			f.Kinds = append(f.Kinds, Kind(k))
		}
	}
	switch f.Effect {
	case Delay:
		f.Time, err = parseTime(amount)
	case Limit:
		f.Rate, err = parseRate(amount)
	}
	return err
}

func (f *Fault) parseDisk(words []string) (err error) {
	if f.Effect == FailSync && len(words) > 0 && words[0] == "once" {
		f.Once, words = true, words[1:]
	}
	if f.Effect == SlowSync {
		if len(words) == 0 {
			return fmt.Errorf("want how long a sync takes")
		}
		if f.Time, err = parseTime(words[0]); err != nil {
			return err
		}
		words = words[1:]
	}
	if len(words) > 1 {
		return fmt.Errorf("want at most one folder of the data directory")
	}
	if len(words) == 1 {
		f.Folder = words[0]
	}
	return nil
}

func parseTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxTime {
		return 0, fmt.Errorf("%q: want a time up to %v, like 50ms", s, maxTime)
	}
	return d, nil
}

func parseRate(s string) (int64, error) {
	digits, unit := s, int64(1)
	for suffix, size := range map[string]int64{"kB": 1 << 10, "MB": 1 << 20} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = rest, size
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > maxRate/unit {
		return 0, fmt.Errorf("%q: want bytes in a second, like 100000 or 100kB", s)
	}
	return n * unit, nil
}

// String is the text that Parse reads.
func (f Fault) String() string {
	words := []string{string(f.Effect)}
	add := func(is bool, word string) {
		if is {
			words = append(words, word)
		}
	}
	add(f.Direction != "", string(f.Direction))
	add(f.Peer != "", f.Peer)
	add(len(f.Kinds) > 0, joinKinds(f.Kinds))
	add(f.Once, "once")
	add(f.Time != 0, f.Time.String())
	add(f.Rate != 0, strconv.FormatInt(f.Rate, 10))
	add(f.Folder != "", f.Folder)
	return strings.Join(words, " ")
}

func joinKinds(list []Kind) string {
	var names []string
	for _, k := range list {
		names = append(names, string(k))
	}
	return strings.Join(names, ",")
}

// onNetwork reports whether the fault is one of the network.
func (f *Fault) onNetwork() bool { return f.Peer != "" }

// concerns reports whether the fault is one on a kind of connection, in a direction.
func (f *Fault) concerns(k Kind, d Direction) bool {
	return f.onNetwork() && (f.Direction == "" || f.Direction == d) && (len(f.Kinds) == 0 || slices.Contains(f.Kinds, k))
}
