package integration

import "testing"

// What no cluster could meet is refused, and nothing is written; of what this one makes hard there is a warning, and
// it is written. As psql shows it, from any node.
func TestRuleIsJudged(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	for _, n := range c.nodes {
		for value, want := range map[string][]string{
			"ANY 2 (n2)":       {"ERROR:  22023: invalid value for parameter \"synchronous_standby_names\"", "DETAIL:  2 standbys are to acknowledge, and 1 are listed.", "HINT:  It could never be met."},
			"FIRST 1 (n2, N2)": {"ERROR:  22023:", "is listed twice", "HINT:  Each standby counts once."},
			"ANY 1 (n2":        {"ERROR:  42601: invalid value for parameter", "syntax error at end of input"},
		} {
			wantLines(t, psql(t, n, "ALTER SYSTEM SET synchronous_standby_names = '"+value+"'"), want...)
		}
		psql(t, n, "ALTER SYSTEM SET degrade_after = '"+n.name[1:]+"s';\nSELECT pg_reload_conf()")
		n.await("SHOW degrade_after", n.name[1:]+"s") // what is written applies now
		if got := n.value("SHOW synchronous_standby_names"); got != "ANY MAJORITY (*)" {
			t.Errorf("%s: %q was written", n.name, got)
		}
		wantLines(t, psql(t, n, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 5 (*)'"),
			"WARNING:  01000: 5 must acknowledge and 1 match besides n1, which is the primary: the rule before stays in force until more join", "ALTER SYSTEM")
		wantLines(t, psql(t, n, "ALTER SYSTEM SET synchronous_standby_names = 'vault'"),
			"WARNING:  01000:", "no receiver of that name is connected", "ALTER SYSTEM")
		psql(t, n, "ALTER SYSTEM RESET synchronous_standby_names")
	}
}
