package raftlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// Each line is Raft's configuration, the members, and all the steps from one to the other. A server is
// written ID@address, with ! if it votes; a member that leaves ends in -. The leader is r1.
func TestNextStep(t *testing.T) {
	for _, tt := range []struct{ name, servers, members, want string }{
		{"no cluster yet", "r1@a!", "", ""},
		{"as wanted", "r1@a! r2@b", "r1@a! r2@b", ""},
		{"one to three", "r1@a!", "r1@a! r2@b r3@c", "add without a vote r2@b, add without a vote r3@c"},
		{"ready", "r1@a! r2@b r3@c", "r1@a! r2@b! r3@c", "add with a vote r2@b"},
		{"ready at once", "r1@a!", "r1@a! r2@b!", "add without a vote r2@b, add with a vote r2@b"},
		{"who leaves goes before its vote is taken by another", "r1@a! r2@b! r3@c!", "r1@a! r2@b- r3@c! r4@b", "remove r2@b, add without a vote r4@b"},
		{"unknown server", "r1@a! r9@z", "r1@a!", "remove r9@z"},
		{"moved", "r1@a! r2@b! r3@c", "r1@a! r2@y! r3@z", "add without a vote r2@y, add without a vote r3@z"},
		{"moved itself", "r1@a! r2@b!", "r1@x! r2@b!", "add without a vote r1@x"},
		{"moved and ready", "r1@a! r2@b", "r1@a! r2@y!", "add with a vote r2@y"},
		{"leader leaves, last", "r1@a! r2@b", "r1@a- r2@b! r3@c", "add with a vote r2@b, add without a vote r3@c, hand over"},
		{"no address yet", "r1@a!", "r1@a! r2@", ""},
	} {
		servers := readServers(tt.servers)
		var members []Member
		for _, f := range strings.Fields(tt.members) {
			s := readServers(strings.TrimSuffix(f, "-"))[0]
			members = append(members, Member{RaftID: string(s.ID), RaftAddress: string(s.Address), Voter: s.Suffrage == raft.Voter, Leaving: strings.HasSuffix(f, "-")})
		}
		var steps []string
		for range 10 {
			step := nextStep(servers, members, "r1")
			if step.do == nothing {
				break
			}
			if step.do == handOver {
				steps = append(steps, string(step.do))
				break
			}
			steps = append(steps, fmt.Sprintf("%s %s@%s", step.do, step.server.ID, step.server.Address))
			servers = after(servers, step)
		}
		if got := strings.Join(steps, ", "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func readServers(s string) (servers []raft.Server) {
	for _, f := range strings.Fields(s) {
		server := raft.Server{Suffrage: raft.Nonvoter}
		if f, ok := strings.CutSuffix(f, "!"); ok {
			server.Suffrage = raft.Voter
			s = f
		} else {
			s = f
		}
		id, address, _ := strings.Cut(s, "@")
		server.ID, server.Address = raft.ServerID(id), raft.ServerAddress(address)
		servers = append(servers, server)
	}
	return servers
}

// after is what nextConfiguration of hashicorp/raft makes of a step.
func after(servers []raft.Server, step step) (next []raft.Server) {
	found := false
	for _, s := range servers {
		if s.ID == step.server.ID {
			found = true
			if step.do == remove {
				continue
			}
			s.Address = step.server.Address
			if step.do == addVoter {
				s.Suffrage = raft.Voter
			}
		}
		next = append(next, s)
	}
	if !found {
		next = append(next, raft.Server{Suffrage: raft.Nonvoter, ID: step.server.ID, Address: step.server.Address})
	}
	return next
}
