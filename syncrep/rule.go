package syncrep

import (
	"strconv"
	"strings"
)

// A Method is how a rule chooses among the standbys it lists.
type Method uint8

// The methods. FIRST follows the order of the list, ANY takes whoever is fastest.
const (
	First Method = iota
	Any
	Majority // ANY k of the members, k such that primary + k is a majority
)

// wildcard is the list entry that matches every member, quoted or not, as in PostgreSQL.
const wildcard = "*"

// A Rule is what synchronous_standby_names says. What it means for a cluster, a [Resolved], is worked
// out when it is agreed on. The zero Rule is empty: nobody is waited for.
type Rule struct {
	Method Method
	Num    int      // standbys to wait for, > 0; 0 for an empty rule and for MAJORITY
	Names  []string // as written; a matching entry's place is the priority
	Zones  int      // distinct zones to wait for; 0: wherever they are
}

// Empty reports whether the rule waits for nobody, whatever the cluster.
func (r Rule) Empty() bool { return len(r.Names) == 0 }

// String returns the rule in one normal form, which ParseRule reads back as the same rule.
func (r Rule) String() string {
	if r.Empty() {
		return ""
	}
	var b strings.Builder
	switch r.Method {
	case Majority:
		b.WriteString("ANY MAJORITY")
	case Any:
		b.WriteString("ANY " + strconv.Itoa(r.Num))
	default:
		b.WriteString("FIRST " + strconv.Itoa(r.Num))
	}
	b.WriteString(" (")
	for i, name := range r.Names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(name))
	}
	b.WriteString(")")
	if r.Zones > 0 {
		b.WriteString(" ZONES " + strconv.Itoa(r.Zones))
	}
	return b.String()
}

// quoteName returns name as the grammar takes it: bare if the scanner would read it back as the same
// name, else in double quotes.
func quoteName(name string) string {
	s := scanner{text: name}
	if t := s.next(); (t.kind == tokenName || t.kind == tokenNum) && t.text == name {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// Matches returns the 1-based place of the first entry of the list that matches a name, or 0: what
// pg_stat_replication shows as sync_priority. ANY knows no order: whoever matches has priority 1. The
// wildcard matches members of the cluster alone.
func (r Rule) Matches(name string, member bool) (priority int) {
	for i, entry := range r.Names {
		if entry == wildcard && member || entry != wildcard && equalFold(entry, name) {
			if r.Method == First {
				return i + 1
			}
			return 1
		}
	}
	return 0
}

// equalFold compares as pg_strcasecmp does in a UTF-8 locale: only ASCII letters fold. Names match
// so even when they are quoted.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
