package faults

import (
	"reflect"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Fault{
		"cut n2":                       {Effect: Cut, Peer: "n2"},
		"cut *":                        {Effect: Cut, Peer: Everybody},
		" cut  to n2 raft,gossip ":     {Effect: Cut, Direction: To, Peer: "n2", Kinds: []Kind{Raft, Gossip}},
		"cut to":                       {Effect: Cut, Peer: "to"},
		"delay n2 50ms":                {Effect: Delay, Peer: "n2", Time: 50 * time.Millisecond},
		"delay from n2 replication 1s": {Effect: Delay, Direction: From, Peer: "n2", Kinds: []Kind{Replication}, Time: time.Second},
		"limit to n2 replication 2kB":  {Effect: Limit, Direction: To, Peer: "n2", Kinds: []Kind{Replication}, Rate: 2048},
		"limit n2 10":                  {Effect: Limit, Peer: "n2", Rate: 10},
		"stall":                        {Effect: Stall},
		"stall pg_wal":                 {Effect: Stall, Folder: "pg_wal"},
		"full":                         {Effect: Full},
		"fail-sync once pg_wal":        {Effect: FailSync, Folder: "pg_wal", Once: true},
		"fail-sync":                    {Effect: FailSync},
		"slow-sync 200ms":              {Effect: SlowSync, Time: 200 * time.Millisecond},
		"slow-sync 2s raft":            {Effect: SlowSync, Time: 2 * time.Second, Folder: "raft"},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("Parse(%q), from %q, = %+v, %v", got.String(), text, again, err)
		}
	}
	for _, text := range []string{
		"", "cut", "break n2", "cut to n2 everything", "cut to n2 raft gossip", "delay n2", "delay", "delay n2 0s", "delay n2 -1s",
		"delay n2 2m", "limit n2 0", "limit n2 -1", "limit n2 x", "limit n2 99999999999MB", "stall a b", "full pg_wal store",
		"slow-sync", "slow-sync pg_wal", "fail-sync once pg_wal store", "cut n2 " + string(make([]byte, maxText)),
	} {
		if f, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", text, f)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"cut to n2 raft,gossip", "delay from * 50ms", "limit n2 commands 1MB", "stall", "fail-sync once raft", "slow-sync 1s store"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fault, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(fault.String()); err != nil || !reflect.DeepEqual(again, fault) {
			t.Errorf("Parse(%q) = %+v, whose text %q gives %+v, %v", text, fault, fault.String(), again, err)
		}
		if fault.Time > maxTime || fault.Rate > maxRate || fault.Time < 0 || fault.Rate < 0 {
			t.Errorf("Parse(%q) = %+v, out of bounds", text, fault)
		}
	})
}
