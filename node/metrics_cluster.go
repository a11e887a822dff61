package node

import (
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/election"
	"github.com/longship-db/longship/raftlog"
)

// What the cluster has agreed on, as far as this node has heard: longship_cluster, longship_history.
var (
	mEpoch       = gauge("longship_cluster_epoch", "The last epoch for which a primary was named.")
	mPhase       = gauge("longship_cluster_phase", "1 for the phase that the epoch is in.", "phase")
	mPrimary     = gauge("longship_cluster_primary", "Whether this member is the primary that Raft holds.", "member")
	mEpochBegan  = gauge("longship_epoch_start_time_seconds", "When the epoch's primary was named.")
	mEpochStart  = gauge("longship_epoch_start_lsn_bytes", "Where the epoch begins in the log.")
	mFailovers   = counter("longship_failovers_total", "Changes of the primary in the cluster's history, by cause.", "cause")
	mLost        = counter("longship_lost_bytes_total", "WAL given up by failovers in which somebody accepted a loss, at most.")
	mRuleVersion = gauge("longship_rule_version", "How often the rule was changed.")
	mRuleNeeds   = gauge("longship_rule_standbys", "How many of those listed the rule waits for.")
	mRuleListed  = gauge("longship_rule_listed", "How many the rule lists.")
	mRuleJoint   = gauge("longship_rule_changing", "Whether the rule is being changed: the old one and the new one bind.")
	mDegraded    = gauge("longship_rule_degraded", "Whether the rule is done without (synchronous_mode): the primary alone is sure to have what it acknowledges.")
	mDebtAge     = gauge("longship_debt_seconds", "How long ago the durability debt began. 0: there is none.")
	mDebtBytes   = gauge("longship_debt_bytes", "WAL that the primary alone is sure to have, on the primary. 0: there is no debt.")
	mDebtCommits = gauge("longship_debt_commits", "Commits among that, of those acknowledged in this epoch.")

	mRaftHasLeader = gauge("longship_raft_has_leader", "Whether this node knows a Raft leader.")
	mRaftLeads     = gauge("longship_raft_is_leader", "Whether this node leads Raft.")
	mRaftTerm      = gauge("longship_raft_term", "Raft's term.")
	mRaftLast      = gauge("longship_raft_last_index", "The last entry in this node's Raft log.")
	mRaftCommitted = gauge("longship_raft_commit_index", "The last entry that a majority has, as far as this node knows.")
	mRaftApplied   = gauge("longship_raft_applied_index", "The last entry that this node has applied.")
	mStateIndex    = gauge("longship_raft_state_index", "The entry that changed the cluster's state last.")
)

var phases = []string{string(raftlog.Steady), string(raftlog.Sealing), string(raftlog.Opening)}

// failoverCauses are classes of what longship_history has as text.
var failoverCauses = []struct{ class, text string }{
	{"switchover", "switchover"},
	{"loss_accepted", "failover, loss of data accepted"},
	{"by_hand", "failover"},
	{"gone", ": the process is gone"},
	{"restarted", ": the process was started again"},
	{"silent", ": no answer for "},
}

const otherCause = "other"

// failoverCause is the class of a text. A cause that is a member's name and what is wrong with it is
// found by the latter.
func failoverCause(text string) string {
	for _, c := range failoverCauses {
		if text == c.text || strings.HasPrefix(c.text, ":") && strings.Contains(text, c.text) {
			return c.class
		}
	}
	return otherCause
}

// cluster is the same on all members, but for those that have not heard of the last entries.
func (s *scrape) cluster() {
	n := s.node
	s.raft()
	state := n.raft.State()
	if !state.Initialised() {
		return
	}
	s.put(mEpoch, float64(state.Epoch))
	s.oneOf(mPhase, phases, string(state.Phase))
	for _, m := range lastNamed(state.Members) {
		s.flag(mPrimary, m.ID == state.Primary.ID, m.Name)
	}
	s.history(state.History)
	rule := state.Rule
	if state.Opening != nil {
		rule = *state.Opening
	}
	s.put(mRuleVersion, float64(rule.Version))
	s.put(mRuleNeeds, float64(rule.K))
	s.put(mRuleListed, float64(len(rule.Listed)))
	s.flag(mRuleJoint, state.Joint != nil)
	age := 0.0
	if debt := state.Debt(); debt != nil {
		age = time.Since(debt.Since).Seconds()
	}
	s.flag(mDegraded, state.Debt() != nil)
	s.put(mDebtAge, age)
}

func (s *scrape) history(history []raftlog.Reign) {
	count := map[string]int{}
	var lost uint64
	for _, h := range history {
		lost += h.LostBytes
		if h.Parent != 0 {
			count[failoverCause(h.Cause)]++
		}
	}
	for _, c := range failoverCauses {
		s.put(mFailovers, float64(count[c.class]), c.class)
	}
	s.put(mFailovers, float64(count[otherCause]), otherCause)
	s.put(mLost, float64(lost))
	if len(history) > 0 {
		last := history[len(history)-1]
		s.time(mEpochBegan, last.Time)
		s.lsn(mEpochStart, last.Start)
	}
}

func (s *scrape) raft() {
	n := s.node
	_, led := n.raft.Leader()
	s.flag(mRaftHasLeader, led)
	s.flag(mRaftLeads, n.raft.IsLeader())
	p := n.raft.Progress()
	s.put(mRaftTerm, float64(p.Term))
	s.put(mRaftLast, float64(p.Last))
	s.put(mRaftCommitted, float64(p.Committed))
	s.put(mRaftApplied, float64(p.Applied))
	s.put(mStateIndex, float64(n.raft.State().Index))
}

// The members: longship_members.
var (
	mMemberInfo     = gauge("longship_member_info", "Always 1; the labels say where the member is.", "member", "zone", "address")
	mMemberUp       = gauge("longship_member_up", "Whether the member answers, or streams from this node.", "member")
	mMemberWrite    = gauge("longship_member_write_lsn_bytes", "How far the member has written the log.", "member")
	mMemberFlush    = gauge("longship_member_flush_lsn_bytes", "How far the log is durable there.", "member")
	mMemberReplay   = gauge("longship_member_replay_lsn_bytes", "How far it is applied there.", "member")
	mMemberWriteAge = gauge("longship_member_write_age_seconds", "How old the newest is that the member has written. The primary knows of all, a standby how old what it replays is.", "member")
	mMemberFlushAge = gauge("longship_member_flush_age_seconds", "The same for what is durable there.", "member")
	mMemberAge      = gauge("longship_member_replay_age_seconds", "The same for what is applied there. With heartbeats a member that keeps up is never older than heartbeat_interval and a little.", "member")
	mMemberCounted  = gauge("longship_member_counted", "Whether majorities count the member.", "member")
	mMemberVoter    = gauge("longship_member_voter", "Whether the member votes in Raft.", "member")
	mMemberLeaving  = gauge("longship_member_leaving", "Whether the member is being removed.", "member")
	mMemberPriority = gauge("longship_member_failover_priority", "The member's failover priority; 0: never promoted.", "member")

	mSurvives  = gauge("longship_what_if_survives", "Whether the cluster would go on acknowledging commits, by itself and with nothing lost, if the member were lost; of members that are up.", "member")
	mLossBytes = gauge("longship_what_if_lost_bytes", "WAL that would be lost with the member, if that were accepted, as far as this node knows; 0 if nothing has to be.", "member")
)

func (s *scrape) members(r *reign) {
	known := r.memberStates() // bounded by itself
	for _, m := range lastNamed(s.node.raft.State().Members) {
		at := known[m.Name]
		s.put(mMemberInfo, 1, m.Name, m.Zone, m.Address)
		s.flag(mMemberUp, at.state != "down", m.Name)
		s.lsn(mMemberWrite, at.write, m.Name)
		s.lsn(mMemberFlush, at.flush, m.Name)
		s.lsn(mMemberReplay, at.apply, m.Name)
		s.age(mMemberWriteAge, at.writeAge, m.Name)
		s.age(mMemberFlushAge, at.flushAge, m.Name)
		s.age(mMemberAge, at.applyAge, m.Name)
		s.flag(mMemberCounted, m.Counted, m.Name)
		s.flag(mMemberVoter, m.Voter, m.Name)
		s.flag(mMemberLeaving, m.Leaving, m.Name)
		s.put(mMemberPriority, float64(m.Priority), m.Name)
	}
	s.whatIf()
}

// whatIf is longship_what_if, of single members, as this node finds them: what monitoring asks again and again
// is not asked of the Raft leader.
func (s *scrape) whatIf() {
	n := s.node
	state, health := n.raft.State(), n.health()
	var all []election.Seen
	for _, m := range state.Members {
		seen := election.Seen{Name: m.Name}
		if h, answered := health[m.Name]; answered {
			seen.Health = &h
		}
		all = append(all, seen)
	}
	for _, o := range election.WhatIf(state, all) {
		if len(o.Lose) == 1 {
			s.flag(mSurvives, o.Writes && o.LostBytes == 0, o.Lose[0])
			s.put(mLossBytes, float64(o.LostBytes), o.Lose[0])
		}
	}
}

// lastNamed leaves out those who leave and whose name another member has by now: a name is one series.
func lastNamed(members []raftlog.Member) (last []raftlog.Member) {
	for i, m := range members {
		if !slices.ContainsFunc(members[i+1:], func(o raftlog.Member) bool { return o.Name == m.Name }) {
			last = append(last, m)
		}
	}
	return last
}

// age leaves out what is not known.
func (s *scrape) age(m *metric, d time.Duration, labels ...string) {
	if d != unknown {
		s.put(m, d.Seconds(), labels...)
	}
}
