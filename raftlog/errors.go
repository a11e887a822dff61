package raftlog

import (
	"errors"
	"strings"
)

// A ConflictError is a command that came too late: what it compares with has changed, and its author
// has to look at the state again.
type ConflictError struct {
	What string
}

func (e *ConflictError) Error() string { return "the cluster's state has changed: " + e.What }

// An InvalidError is a command that no state would take.
type InvalidError struct {
	What string
}

func (e *InvalidError) Error() string { return "invalid cluster command: " + e.What }

// Why a command is refused or not proposed.
var (
	ErrNameTaken  = errors.New("another node has this name")
	ErrSlotExists = errors.New("replication slot already exists")
	ErrNoSlot     = errors.New("replication slot does not exist")
	ErrNotLeader  = errors.New("not the leader of Raft") // nothing was proposed here
	ErrUnknown    = errors.New("outcome unknown")        // it may have been agreed on, or may be yet
	ErrBehind     = errors.New("agreed on, but not applied here yet")
	ErrClosed     = errors.New("node of raft is closed")
)

// sentinels are the errors without numbers, by their code on the wire.
var sentinels = map[string]error{
	"name_taken":  ErrNameTaken,
	"slot_exists": ErrSlotExists,
	"no_slot":     ErrNoSlot,
	"not_leader":  ErrNotLeader,
	"unknown":     ErrUnknown,
}

// EncodeError turns the error of a command into two texts for the wire, empty for nil. What is not an
// error of this package has the code "error".
func EncodeError(err error) (code, text string) {
	if err == nil {
		return "", ""
	}
	if e, ok := errors.AsType[*ConflictError](err); ok {
		return "conflict", e.What
	}
	if e, ok := errors.AsType[*InvalidError](err); ok {
		return "invalid", e.What
	}
	if e, ok := errors.AsType[*Refusal](err); ok {
		return "refusal", strings.Join(e.Lines, "\n")
	}
	for code, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return code, err.Error()
		}
	}
	return "error", err.Error()
}

// DecodeError is the inverse of EncodeError, as far as errors.Is, errors.As and Error can tell.
func DecodeError(code, text string) error {
	switch code {
	case "":
		return nil
	case "conflict":
		return &ConflictError{What: text}
	case "invalid":
		return &InvalidError{What: text}
	case "refusal":
		return &Refusal{Lines: strings.Split(text, "\n")}
	}
	if sentinel, ok := sentinels[code]; ok {
		return &remoteError{text: text, is: sentinel}
	}
	return errors.New(text)
}

// A remoteError is a sentinel that came over the wire, with the text it had there.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

// answered reports whether err is an answer of the state machine, the same on every member.
func answered(err error) bool {
	switch code, _ := EncodeError(err); code {
	case "not_leader", "unknown", "error":
		return false
	}
	return true
}
