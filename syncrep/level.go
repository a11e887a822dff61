package syncrep

import (
	"fmt"
	"strings"
)

// A Level is how much a commit waits for: the values of synchronous_commit, weakest first. What is
// released at one level is released at every weaker one.
type Level uint8

// The levels. Under an empty rule everything above Local means Local.
const (
	Off         Level = iota // nothing
	Local                    // the primary's own flush
	RemoteWrite              // own flush, and written under the rule
	On                       // own flush, and flushed under the rule: the default
	RemoteApply              // as On, and applied under the rule

	numLevels
)

var levelNames = [numLevels]string{"off", "local", "remote_write", "on", "remote_apply"}

// String returns the name PostgreSQL gives the level.
func (l Level) String() string {
	if l >= numLevels {
		return fmt.Sprintf("Level(%d)", uint8(l))
	}
	return levelNames[l]
}

// ParseLevel reads a value of synchronous_commit in any case. As in PostgreSQL true, yes and 1 mean
// on, and false, no and 0 mean off.
func ParseLevel(text string) (Level, error) {
	folded := strings.ToLower(text)
	for l, name := range levelNames {
		if folded == name {
			return Level(l), nil
		}
	}
	switch folded {
	case "true", "yes", "1":
		return On, nil
	case "false", "no", "0":
		return Off, nil
	}
	return Off, fmt.Errorf("invalid value for parameter \"synchronous_commit\": \"%s\"", text)
}
