package node

import (
	"slices"
	"testing"

	"github.com/longship-db/longship/wal"
)

func TestPrimaryAddresses(t *testing.T) {
	for conf, want := range map[string][]string{
		"": nil,
		"primary_conninfo = 'user=u passfile=''/x'' host=127.0.0.1 port=7533 sslmode=prefer'\nprimary_slot_name = 's'\n": {"127.0.0.1:7533"},
		"primary_conninfo = 'host=a,b port=1,2'":                                   {"a:1", "b:2"},
		"primary_conninfo = 'host=a,b port=5433'":                                  {"a:5433", "b:5433"},
		"primary_conninfo = 'host=/tmp port=1'":                                    nil,
		"primary_conninfo = 'host=a'":                                              nil,
		"primary_conninfo = 'host=a port=1'\nprimary_conninfo='host=::1 port=2'\n": {"[::1]:2"},
	} {
		if got := primaryAddresses(conf); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", conf, got, want)
		}
	}
}

// A backup may be of a timeline that the cluster has left behind, but not of one that it never was on.
func TestHistoryOf(t *testing.T) {
	h := wal.History{Timeline: 3, Switches: []wal.Switch{{Parent: 1, At: 100}, {Parent: 2, At: 200}}}
	for tli, switches := range map[wal.TimelineID]int{1: 0, 2: 1, 3: 2} {
		if got, err := historyOf(h, tli); err != nil || got.Timeline != tli || len(got.Switches) != switches {
			t.Errorf("history of timeline %d is %+v, %v", tli, got, err)
		}
	}
	if got, err := historyOf(h, 4); err == nil {
		t.Errorf("timeline 4 has the history %+v", got)
	}
}
