package sql

import (
	"errors"

	"github.com/longship-db/longship/pgwire"
)

// A statement is one that a session has parsed. It implements pgwire.Statement and is used only by that session.
type statement struct {
	*parsed
	session  *Session
	together bool // one of several in its query string
	share    bool // with other sessions, once it is analyzed
}

// A parsed is what was made of a text: a tree and, once analyzed, its plan. From then on it is not changed: sessions
// share it.
type parsed struct {
	text     string
	node     statementNode // nil for an empty query
	declared []uint32      // parameter types the client chose
	noParams bool          // from a simple query

	size     int // of what was made of the text, in bytes
	analyzed bool
	err      error // from analysis
	plan     planNode
	params   []Type
	columns  []pgwire.Column

	// The query of a DECLARE.
	query        *selectPlan
	queryColumns []pgwire.Column
}

// A planNode is an analyzed SELECT, INSERT, UPDATE or DELETE, or EXPLAIN of one.
type planNode interface {
	outputs() []output
}

// ParamTypes implements pgwire.Statement.
func (s *statement) ParamTypes() []uint32 {
	s.analyze()
	oids := make([]uint32, len(s.params))
	for i, t := range s.params {
		if oids[i] = uint32(t); i < len(s.declared) && s.declared[i] != 0 && Type(s.declared[i]) != Unknown {
			oids[i] = s.declared[i] // as the client has it: pgjdbc insists on varchar
		}
	}
	return oids
}

// Columns implements pgwire.Statement. After a simple query's failed analysis there are none: the
// error comes from Execute. FETCH has those that its cursor has at the moment, EXECUTE those of
// what it names.
func (s *statement) Columns() []pgwire.Column {
	s.analyze()
	if fetch, ok := s.node.(*fetchStmt); ok && !fetch.move {
		if conn, ok := s.session.conn.(CursorKeeper); ok {
			return conn.CursorColumns(fetch.name)
		}
	}
	if execute, ok := s.node.(*executeStmt); ok {
		if st, err := s.session.prepared(execute.name); err == nil {
			return st.columns
		}
	}
	return s.columns
}

// Size implements pgwire.SizedStatement. Its analysis may make it much larger.
func (s *statement) Size() int { return s.size }

// Empty implements pgwire.Statement.
func (s *statement) Empty() bool { return s.node == nil }

// analyze resolves the statement once. In a simple query it runs when the statement's turn comes,
// as in PostgreSQL: an unknown column does not keep earlier statements of the string from running.
// A statement whose analysis was interrupted is over: its client has been told of no columns.
func (s *statement) analyze() error {
	if !s.analyzed {
		end := s.session.timed()
		s.err, s.analyzed = end(s.analysis()), true
		if s.share && s.err == nil {
			s.session.catalog.shared.put(s.parsed)
		}
	}
	return s.err
}

func (s *statement) analysis() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = failure(r)
		}
	}()
	a := s.session.analyzer(s.text, s.noParams)
	defer func() {
		_ = s.session.hold(-a.held) // less, which cannot fail; who keeps the statement counts it again
		a.pace, a.hold = nil, nil   // it lives on with the plan, which other sessions share
	}()
	for _, oid := range s.declared {
		a.params = append(a.params, paramType(oid))
	}
	s.resolve(a)
	for i, t := range a.params {
		if t == Unknown {
			panic(pgwire.Errorf(pgwire.CodeIndeterminateDatatype, "could not determine data type of parameter $%d", i+1))
		}
	}
	s.params = a.params
	s.size += a.held
	return nil
}

// paramType is the type a client declared for a parameter; other character types are text.
func paramType(oid uint32) Type {
	const bpchar, bpcharArray, varcharArray = 1042, 1014, 1015
	t := Type(oid)
	switch {
	case oid == 0, t == Unknown:
		return Unknown
	case oid == bpchar || t == Varchar:
		return Text
	case oid == bpcharArray || oid == varcharArray:
		return TextArray
	case typeInfos[t].name == "" || t.family() == familyNone && t != JSON && t != JSONB:
		panic(pgwire.Errorf(pgwire.CodeUndefinedObject, "parameters of type %d are not supported", oid))
	}
	return t
}

func (s *statement) resolve(a *analyzer) {
	switch n := s.node.(type) {
	case *selectStmt, *insertStmt, *updateStmt, *deleteStmt:
		s.plan = a.plan(n)
	case *explainPlanStmt:
		s.plan = a.explainPlan(n)
	case *declareStmt:
		s.query = a.selectPlan(n.query).(*selectPlan)
		s.queryColumns = resultColumns(s.query)
	case *showStmt:
		s.columns = s.session.settings.showColumns(n.name)
	case *explainStmt:
		if n.lsn != nil {
			if _, err := parseValue(*n.lsn, PgLSN, nil, nil); err != nil {
				panic(a.placed(err, n.at()))
			}
		}
		s.columns = []pgwire.Column{wireColumn("QUERY PLAN", Text)}
	case *waitStmt:
		if _, err := parseValue(n.lsn, PgLSN, nil, nil); err != nil {
			panic(a.placed(err, n.at()))
		}
		s.columns = []pgwire.Column{wireColumn("status", Text)}
	}
	switch plan := s.plan.(type) {
	case nil:
	case *explainPlan:
		s.columns = plan.columns()
	case *selectPlan:
		s.columns = resultColumns(plan)
	default:
		if len(plan.outputs()) > 0 {
			s.columns = resultColumns(plan)
		}
	}
}

// plan analyzes a SELECT, INSERT, UPDATE or DELETE.
func (a *analyzer) plan(n statementNode) planNode {
	switch n := n.(type) {
	case *selectStmt:
		return a.selectPlan(n)
	case *insertStmt:
		return a.insertPlan(n)
	case *updateStmt:
		return a.updatePlan(n)
	case *deleteStmt:
		return a.deletePlan(n)
	}
	panic(errForeignStatement)
}

// resultColumns describes the rows of a plan to the client.
func resultColumns(plan planNode) []pgwire.Column {
	outs := plan.outputs()
	columns := make([]pgwire.Column, 0, len(outs))
	for _, out := range outs {
		column := wireColumn(out.name, out.x.typ())
		if kv, ok := out.x.(*kvColumn); ok {
			column.Table, column.Number = oidTable, int16(kv.index+1)
		}
		columns = append(columns, column)
	}
	return columns
}

// errForeignStatement is for a statement that another session parsed: a bug of the caller.
var errForeignStatement = errors.New("statement does not belong to this session")
