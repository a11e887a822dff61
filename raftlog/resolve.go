package raftlog

import (
	"slices"

	"github.com/longship-db/longship/syncrep"
)

// Resolve works out what a value of synchronous_standby_names means for a primary, now: it is
// recorded resolved, and never worked out when it is used (invariant I2). The counted members include
// the primary, which is left out: it does not count itself.
//
// MAJORITY is so many of the others that with the primary they are a majority. ANY k is k of those the
// list matches, FIRST k is the k of them that are waited for now, pinned: those that stream first,
// then those earlier in the list. The wildcard matches every member; a name that matches none is a
// receiver's, and has a zero ID. Streams reports whether a member, or a receiver of which it is given
// the name alone, has a stream that may count.
//
// If the list matches fewer than k the rule cannot be met, and commits wait, as in PostgreSQL. So they
// do if those it matches are in fewer zones than it asks for; but a primary that is alone is its own
// majority, in whatever zones. A rule that asks for zones records which one each is in: who moves to
// another is listed anew, by a change of the rule like any other.
//
// The error is a *syncrep.SyntaxError, a *syncrep.NumError or a *syncrep.ZonesError.
func Resolve(text string, primary syncrep.ID, counted []Member, streams func(Member) bool) (syncrep.Resolved, error) {
	rule, err := syncrep.ParseRule(text)
	if err != nil || rule.Empty() {
		return syncrep.Resolved{}, err
	}
	matched := match(rule.Names, primary, counted)
	r := syncrep.Resolved{K: rule.Num, Zones: rule.Zones}
	switch rule.Method {
	case syncrep.Majority:
		if r.K = (len(matched) + 1) / 2; r.K == 0 {
			r.Zones = 0
		}
		r.K = max(r.K, r.Zones) // what so many zones come to
	case syncrep.First:
		matched = pin(rule.Num, matched, streams)
	}
	r.Listed = listed(matched, r.Zones > 0)
	return r, nil
}

// RuleFor is what the text of the rule in force means in an epoch of another primary, with the members that
// count.
func RuleFor(s *State, primary syncrep.ID, streams func(Member) bool) (Rule, error) {
	counted := slices.DeleteFunc(slices.Clone(s.Members), func(m Member) bool { return !m.Counted && m.ID != primary })
	resolved, err := Resolve(s.Rule.Text, primary, counted, streams)
	return Rule{Text: s.Rule.Text, Resolved: resolved}, err
}

// match returns those the entries of a list match, in the order of the list, each once. A receiver is
// a Member with nothing but its name.
func match(entries []string, primary syncrep.ID, counted []Member) []Member {
	var matched []Member
	add := func(m Member) {
		for _, o := range matched {
			if o.ID == m.ID && (m.ID != syncrep.ID{} || sameName(o.Name, m.Name)) {
				return
			}
		}
		matched = append(matched, m)
	}
	for _, entry := range entries {
		known := entry == wildcard
		for _, m := range counted {
			if entry != wildcard && !sameName(entry, m.Name) {
				continue
			}
			known = true
			if m.ID != primary {
				add(m)
			}
		}
		if !known {
			add(Member{Name: entry})
		}
	}
	return matched
}

// wildcard is the entry of a list that matches every member.
const wildcard = "*"

// pin takes k of those matched, the ones that stream first.
func pin(k int, matched []Member, streams func(Member) bool) []Member {
	var first, then []Member
	for _, m := range matched {
		if streams(m) {
			first = append(first, m)
		} else {
			then = append(then, m)
		}
	}
	all := append(first, then...)
	return all[:min(k, len(all))]
}

// listed says who is listed, and where they are if that matters: otherwise who moves is still the same.
func listed(members []Member, zones bool) []syncrep.Listed {
	var all []syncrep.Listed
	for _, m := range members {
		l := syncrep.Listed{ID: m.ID, Name: m.Name, Witness: m.Witness}
		if zones {
			l.Zone = m.Zone
		}
		all = append(all, l)
	}
	return all
}

// sameName compares names as a rule does: ASCII letters in any case.
func sameName(a, b string) bool { return syncrep.Rule{Names: []string{a}}.Matches(b, false) > 0 }
