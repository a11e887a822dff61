package sql

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// A Kind is the type of a setting, as in pg_settings.vartype.
type Kind string

const (
	KindBool   Kind = "bool"
	KindInt    Kind = "integer"
	KindReal   Kind = "real"
	KindString Kind = "string"
	KindEnum   Kind = "enum"
)

// A Context says who may change a setting and when, as in pg_settings.context.
type Context string

const (
	ContextInternal   Context = "internal"   // never
	ContextPostmaster Context = "postmaster" // at start
	ContextSighup     Context = "sighup"     // while running, for all sessions
	ContextSuperuser  Context = "superuser"  // as user: there is one role
	ContextUser       Context = "user"       // in a session
)

// A Setting is a configuration parameter. Values are kept in canonical text form: integers without
// a unit, booleans as on and off.
type Setting struct {
	Name      string
	Kind      Kind
	Unit      string // base unit of an integer or real: "B", "kB", "8kB", "MB", "ms", "s", "min" or ""
	Boot      string // value without any configuration
	Min, Max  float64
	Enum      []string
	Context   Context
	Short     string
	Category  string
	Report    bool // changes are reported to the client (ParameterStatus)
	NotInFile bool // ALTER SYSTEM refuses it: it is each node's or each transaction's own

	// Check, if set, refuses values that the kind alone does not, and returns the form that a value is kept in;
	// its error is the client's.
	Check func(value string) (string, error)
}

// Settings is the registry of settings with their server-wide values. It is safe for concurrent
// use. Sessions overlay it with values of their own.
//
// A value of the node's own, from its command line, comes before one of the cluster, and that before
// the boot value. All maps are by folded name.
type Settings struct {
	mu      sync.RWMutex
	defs    map[string]*Setting
	own     map[string]setValue
	cluster map[string]string // in canonical form
	pending map[string]bool   // the cluster has another value, which needs a restart
	version atomic.Uint64
	changed chan struct{}
}

type setValue struct{ value, source string }

// NewSettings returns a registry of the settings of PostgreSQL that Longship has, at their boot
// values.
func NewSettings() *Settings {
	s := &Settings{defs: map[string]*Setting{}, own: map[string]setValue{}, changed: make(chan struct{})}
	for _, def := range builtinSettings() {
		s.Define(def)
	}
	return s
}

// Define adds a setting, or replaces its definition. It panics if its own boot value is invalid.
func (s *Settings) Define(def Setting) {
	if _, err := def.canonical(def.Boot); err != nil {
		panic(fmt.Sprintf("sql: setting %s: %v", def.Name, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defs[foldName(def.Name)] = &def
}

// lookup finds a definition. A name with a point belongs to nobody and may hold any text
// (PostgreSQL 15 manual, "Customized Options").
func (s *Settings) lookup(name string) (*Setting, error) {
	s.mu.RLock()
	def := s.defs[foldName(name)]
	s.mu.RUnlock()
	if def != nil {
		return def, nil
	}
	if strings.Contains(name, ".") {
		return &Setting{Name: foldName(name), Kind: KindString, Context: ContextUser, Category: customized}, nil
	}
	return nil, pgwire.Errorf(pgwire.CodeUndefinedObject, `unrecognized configuration parameter "%s"`, name)
}

// Set changes a value of the node's own, whatever the setting's context. source is as in
// pg_settings.source: "command line" or "override". The error is a *pgwire.Error.
func (s *Settings) Set(name, value, source string) error {
	def, err := s.lookup(name)
	if err != nil {
		return err
	}
	text, err := def.canonical(value)
	if err != nil {
		return err
	}
	s.update(func() { s.own[foldName(name)] = setValue{text, source} })
	return nil
}

func (s *Settings) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.version.Add(1)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed returns a channel that is closed at the next change of any value: take it, read, wait.
func (s *Settings) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// String returns the server-wide value in canonical form, "" for an unknown name.
func (s *Settings) String(name string) string {
	value, _ := s.get(foldName(name))
	return value
}

func (s *Settings) get(folded string) (value, source string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if v, ok := s.own[folded]; ok {
		return v.value, v.source
	}
	if v, ok := s.cluster[folded]; ok {
		return v, sourceCluster
	}
	if def := s.defs[folded]; def != nil {
		return def.Boot, "default"
	}
	return "", "default"
}

// Show returns the server-wide value as SHOW prints it, and an error for an unknown name.
func (s *Settings) Show(name string) (string, error) {
	def, err := s.lookup(name)
	if err != nil {
		return "", err
	}
	return def.display(s.String(name)), nil
}

// Int returns the value of an integer setting in its base unit, 0 for an unknown name.
func (s *Settings) Int(name string) int64 {
	v, _ := parseInt(s.String(name), Int8)
	return v.n
}

// Real returns the value of a real setting in its base unit, 0 for an unknown name.
func (s *Settings) Real(name string) float64 {
	v, _ := parseFloat(s.String(name), Float8)
	return v.float()
}

// Bool returns the value of a boolean setting.
func (s *Settings) Bool(name string) bool { return s.String(name) == "on" }

// Duration returns the value of a setting whose unit is a time; negative values stay negative.
func (s *Settings) Duration(name string) time.Duration {
	def, err := s.lookup(name)
	if err != nil {
		return 0
	}
	v, _ := parseFloat(s.String(name), Float8)
	return time.Duration(v.float() * timeUnits[def.Unit] * float64(time.Microsecond))
}

// DurationFunc returns what reads a setting as Duration does, at next to no cost while nothing changes.
func (s *Settings) DurationFunc(name string) func() time.Duration {
	type read struct {
		version uint64
		value   time.Duration
	}
	var last atomic.Pointer[read]
	return func() time.Duration {
		version := s.version.Load() // before the value: at worst that is read again
		r := last.Load()
		if r == nil || r.version != version {
			r = &read{version, s.Duration(name)}
			last.Store(r)
		}
		return r.value
	}
}

// Bytes returns the value of a setting whose unit is an amount of memory; −1 stays −1.
func (s *Settings) Bytes(name string) int64 {
	def, err := s.lookup(name)
	if err != nil {
		return 0
	}
	n := s.Int(name)
	if n < 0 {
		return n
	}
	return n * int64(max(memoryUnits[def.Unit], 1))
}

// reported lists the settings that clients are told of and that may change: a promotion changes
// in_hot_standby, ALTER SYSTEM most others.
func (s *Settings) reported() []*Setting {
	return slices.DeleteFunc(s.all(), func(def *Setting) bool {
		return !def.Report || !def.inFile() && def.Name != "in_hot_standby"
	})
}

// All lists the definitions by name.
func (s *Settings) All() []Setting {
	var list []Setting
	for _, def := range s.all() {
		list = append(list, *def)
	}
	return list
}

// all lists the definitions by name, without regard to case.
func (s *Settings) all() []*Setting {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*Setting, 0, len(s.defs))
	for _, folded := range slices.Sorted(maps.Keys(s.defs)) {
		list = append(list, s.defs[folded])
	}
	return list
}
