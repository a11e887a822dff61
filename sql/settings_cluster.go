package sql

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// sourceCluster is pg_settings.source of what ALTER SYSTEM has written, as in PostgreSQL, though it is
// no file.
const sourceCluster = "configuration file"

// Configure makes values, as ALTER SYSTEM has written them, those of the cluster. When the node starts,
// before anybody has read a setting, all of them count; later, one that needs a restart stays as it is,
// and is pending.
//
// What cannot be used is left as it was, and the rest is used: the errors say what and why. A name that
// this version does not know may be one of a newer version.
func (s *Settings) Configure(values map[string]string, starting bool) (problems []error) {
	s.update(func() {
		next := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			folded := foldName(name)
			text, err := s.usableLocked(name, values[name])
			if err == nil {
				next[folded] = text
				continue
			}
			problems = append(problems, err)
			if old, ok := s.cluster[folded]; ok {
				next[folded] = old
			}
		}
		s.pending = map[string]bool{}
		for folded, def := range s.defs {
			if def.Context == ContextPostmaster && !starting {
				s.keepLocked(folded, def, next)
			}
		}
		s.cluster = next
	})
	return problems
}

// usableLocked is the canonical form of a value of the cluster.
func (s *Settings) usableLocked(name, value string) (string, error) {
	def := s.defs[foldName(name)]
	switch {
	case def == nil:
		return "", fmt.Errorf("setting %s is unknown to this version", name)
	case !def.inFile():
		return "", fmt.Errorf("setting %s is each node's own", name)
	}
	text, err := def.serverValue(value)
	if err != nil {
		return "", fmt.Errorf("setting %s: %w", name, err)
	}
	return text, nil
}

// keepLocked leaves a setting that needs a restart as it is in next, and notes whether that would change
// it.
func (s *Settings) keepLocked(folded string, def *Setting, next map[string]string) {
	if _, own := s.own[folded]; own {
		return // comes before whatever the cluster says, now and then
	}
	valueIn := func(values map[string]string) string {
		if v, ok := values[folded]; ok {
			return v
		}
		return def.Boot
	}
	if valueIn(next) == valueIn(s.cluster) {
		return
	}
	s.pending[folded] = true
	delete(next, folded)
	if old, ok := s.cluster[folded]; ok {
		next[folded] = old
	}
}

// inFile reports whether ALTER SYSTEM may write a setting.
func (d *Setting) inFile() bool { return d.Context != ContextInternal && !d.NotInFile }

// serverValue checks a server-wide value and returns its canonical form.
func (d *Setting) serverValue(value string) (string, error) {
	if foldName(d.Name) == "timezone" {
		loc, err := loadZone(value)
		if err != nil {
			return "", d.invalid(value)
		}
		return loc.String(), nil
	}
	return d.canonical(value)
}

// Pending reports whether the cluster has another value of a setting, for which the node must be started
// again.
func (s *Settings) Pending(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pending[foldName(name)]
}

// Own reports whether the node was started with a value of its own, which comes before the cluster's.
func (s *Settings) Own(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, own := s.own[foldName(name)]
	return own
}

// alterable finds a setting that ALTER SYSTEM may write, as PostgreSQL 15 decides it (manual, "ALTER
// SYSTEM"). The name of a newer version's setting, or a customized option, is unknown.
func (s *Settings) alterable(name string) (*Setting, error) {
	s.mu.RLock()
	def := s.defs[foldName(name)]
	s.mu.RUnlock()
	if def == nil {
		return nil, pgwire.Errorf(pgwire.CodeUndefinedObject, `unrecognized configuration parameter "%s"`, name)
	}
	if def.inFile() {
		return def, nil
	}
	err := pgwire.Errorf(pgwire.CodeCantChangeRuntimeParam, `parameter "%s" cannot be changed`, def.Name)
	if def.Context == ContextPostmaster {
		err = err.WithHint("Each node has its own: give it to longship start.")
	}
	return nil, err
}

// written is what ALTER SYSTEM writes of a value: as it was given, once it is known to be good. A later
// version may count in other units.
func (d *Setting) written(values []string) (string, error) {
	value, err := setValues(d, values)
	if err != nil {
		return "", err
	}
	if _, err := d.serverValue(value); err != nil {
		return "", err
	}
	if strings.Contains(value, "\n") {
		return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, "parameter value for ALTER SYSTEM must not contain a newline")
	}
	return value, nil
}
