package walsender

import (
	"strconv"
	"strings"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// The replication commands, as parsed.
type (
	command interface{ isCommand() }

	identifySystem struct{}

	showSetting struct{ name string }

	readSlot struct{ slot string }

	createSlot struct {
		slot      string
		temporary bool
		logical   bool
		options   []option
	}

	dropSlot struct {
		slot string
		wait bool
	}

	startReplication struct {
		slot     string // empty: without one
		logical  bool
		start    wal.LSN
		timeline wal.TimelineID // 0: the current one
	}

	timelineHistory struct{ timeline wal.TimelineID }

	baseBackup struct{ options []option }
)

func (identifySystem) isCommand()   {}
func (showSetting) isCommand()      {}
func (readSlot) isCommand()         {}
func (createSlot) isCommand()       {}
func (dropSlot) isCommand()         {}
func (startReplication) isCommand() {}
func (timelineHistory) isCommand()  {}
func (baseBackup) isCommand()       {}

// An option is one entry of a list in parentheses: a lower-case name and what follows it.
type option struct {
	name string
	kind argument
	text string // of the argument
}

// An argument is the kind of an option's argument.
type argument uint8

const (
	argNone argument = iota
	argWord          // identifier or 'string'
	argInteger
)

// bool is the option as a boolean: true if it has no argument.
func (o option) bool() (bool, error) {
	switch {
	case o.kind == argNone, o.kind == argInteger && o.text == "1":
		return true, nil
	case o.kind == argInteger && o.text == "0":
		return false, nil
	case o.kind == argWord:
		switch strings.ToLower(o.text) {
		case "true", "on":
			return true, nil
		case "false", "off":
			return false, nil
		}
	}
	return false, pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires a Boolean value", o.name)
}

// string is the option's argument, of any kind.
func (o option) string() (string, error) {
	if o.kind == argNone {
		return "", pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires a parameter", o.name)
	}
	return o.text, nil
}

// int is the option's argument as a number.
func (o option) int() (int64, error) {
	if o.kind == argInteger {
		if n, err := strconv.ParseInt(o.text, 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, pgwire.Errorf(pgwire.CodeSyntaxError, "%s requires an integer value", o.name)
}
