package sql

import (
	"fmt"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// showColumns describes the result of SHOW. An unknown name panics with the client's error, as
// analysis does.
func (s *sessionSettings) showColumns(name string) []pgwire.Column {
	if name == "all" {
		return []pgwire.Column{wireColumn("name", Text), wireColumn("setting", Text), wireColumn("description", Text)}
	}
	def, err := s.server.lookup(name)
	if err != nil {
		panic(err)
	}
	return []pgwire.Column{wireColumn(def.Name, Text)}
}

// show is the value of a setting as SHOW and current_setting print it.
func (s *Session) show(name string) (string, error) {
	def, err := s.settings.server.lookup(name)
	if err != nil {
		return "", err
	}
	if !s.settings.known(def) {
		return "", pgwire.Errorf(pgwire.CodeUndefinedObject, `unrecognized configuration parameter "%s"`, name)
	}
	return s.displayed(def), nil
}

// displayed is a setting's value in this session, with those that follow from its state.
func (s *Session) displayed(def *Setting) string {
	switch def.Name {
	case "transaction_read_only":
		return onOff(s.readOnly())
	case "session_authorization":
		return s.id.User
	case lastCommitLSN:
		return s.last.lsn()
	case lastCommitLevel:
		return s.last.level()
	case "data_directory_mode":
		v, _ := parseInt(s.settings.get(def.Name), Int4)
		return fmt.Sprintf("%04o", v.n)
	}
	return def.display(s.settings.get(foldName(def.Name)))
}

func (s *Session) showAll(out *encoder) (int64, error) {
	defs := s.settings.server.all()
	for _, def := range defs {
		out.begin()
		out.add(TextValue(def.Name))
		out.add(TextValue(s.displayed(def)))
		out.add(TextValue(def.Short))
		if err := out.send(); err != nil {
			return 0, err
		}
	}
	return int64(len(defs)), nil
}

// pgSettings are the rows of pg_settings.
func (s *Session) pgSettings() [][]Value {
	var rows [][]Value
	for _, def := range s.settings.server.all() {
		folded := foldName(def.Name)
		value, source := s.settings.getSource(folded)
		switch def.Name {
		case "transaction_read_only", "session_authorization", "data_directory_mode", lastCommitLSN, lastCommitLevel:
			value = s.displayed(def)
		}
		minimum, maximum := Null, Null
		if def.Kind == KindInt || def.Kind == KindReal {
			minimum, maximum = TextValue(def.number(def.Min)), TextValue(def.number(def.Max))
		}
		enum := Null
		if def.Kind == KindEnum {
			enum = TextArrayValue(def.Enum)
		}
		rows = append(rows, []Value{
			TextValue(def.Name), TextValue(value), textOrNull(def.Unit), TextValue(def.Category),
			TextValue(def.Short), Null, TextValue(string(def.Context)), TextValue(string(def.Kind)),
			TextValue(source), minimum, maximum, enum, TextValue(def.Boot),
			TextValue(s.settings.resetValue(folded)), Null, Null, BoolValue(s.settings.server.Pending(def.Name)),
		})
	}
	return rows
}

func textOrNull(s string) Value {
	if s == "" {
		return Null
	}
	return TextValue(s)
}

// setValues makes one value of the list in SET name = a, b.
func setValues(def *Setting, values []string) (string, error) {
	switch foldName(def.Name) {
	case "search_path":
		quoted := make([]string, len(values))
		for i, value := range values {
			quoted[i] = quoteIdent(value)
		}
		values = quoted
	case "datestyle", "synchronous_standby_names":
	default:
		if len(values) > 1 {
			return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, "SET %s takes only one argument", def.Name)
		}
	}
	return strings.Join(values, ", "), nil
}

// Parameters are the values to report when a connection starts. It implements pgwire.Reporter.
func (s *Session) Parameters() map[string]string {
	reported := map[string]string{}
	for _, def := range s.settings.server.all() {
		if def.Report {
			reported[def.Name] = s.displayed(def)
		}
	}
	return reported
}
