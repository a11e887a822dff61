package node

import (
	"net"
	"slices"
	"testing"
)

// FuzzReadiness: what a load balancer asks makes sense or is refused.
func FuzzReadiness(f *testing.F) {
	for _, query := range []string{"", "role=primary", "role=standby&max_lag=1000", "max_lag=-1", "role=%zz", "a=b", "role=primary&role=standby", "max_lag=9223372036854775808"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		w, err := parseReadiness(query)
		if err == nil && (!slices.Contains([]string{"", rolePrimary, roleStandby}, w.role) || w.maxLag < -1) {
			t.Errorf("%q: %+v", query, w)
		}
	})
}

// FuzzConninfo: the addresses in a base backup's postgresql.auto.conf can be dialled.
func FuzzConninfo(f *testing.F) {
	f.Add("primary_conninfo = 'user=x host=127.0.0.1,::1 port=1,2'\n")
	f.Add("primary_conninfo='host=/tmp port=5432'\nprimary_conninfo = 'host=a,b port=5'")
	f.Add("x=y\n=\nprimary_conninfo")
	f.Fuzz(func(t *testing.T, conf string) {
		for _, addr := range primaryAddresses(conf) {
			if _, _, err := net.SplitHostPort(addr); err != nil && !slices.ContainsFunc([]byte(addr), func(b byte) bool { return b == '[' || b == ']' }) {
				t.Errorf("%q: address %q: %v", conf, addr, err)
			}
		}
	})
}
