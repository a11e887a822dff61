package sql

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// A Preparer is a Conn that keeps prepared statements by name, for PREPARE and EXECUTE; *pgwire.Conn is one. They are the
// protocol's, too.
type Preparer interface {
	Prepare(name, query string, st pgwire.Statement) error
	Prepared(name string) (pgwire.Statement, error)
	PreparedStatements() []pgwire.PreparedStatement
}

func (s *Session) preparer() (Preparer, error) {
	conn, ok := s.conn.(Preparer)
	if !ok {
		return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "PREPARE is not supported").
			WithHint("Use the protocol's prepared statements.")
	}
	return conn, nil
}

// prepare runs PREPARE.
func (s *Session) prepare(stmt *statement, n *prepareStmt) error {
	conn, err := s.preparer()
	if err != nil {
		return err
	}
	text, size, before := stmt.text, stmt.size, 0
	if stmt.together { // it must not keep what else there is of the query string
		before = utf8.RuneCountInString(text[:n.start])
		text = strings.Clone(text[n.start:n.end])
		nodes, own, err := s.parse(text)
		if err != nil {
			return err
		}
		n, size = nodes[0].(*prepareStmt), own
	}
	st := s.newStatement(parsed{text: text, node: n.node, size: size})
	for _, t := range n.types {
		st.declared = append(st.declared, uint32(t))
	}
	if err := st.analyze(); err != nil {
		if e, ok := err.(*pgwire.Error); ok && e.Position > 0 {
			e.Position += before
		}
		return err
	}
	return conn.Prepare(n.name, text, st)
}

// preparedStatements are the rows of pg_prepared_statements.
func preparedStatements(s *Session) []Fields {
	conn, err := s.preparer()
	if err != nil {
		return nil
	}
	var rows []Fields
	for _, p := range conn.PreparedStatements() {
		types := make([]string, len(p.ParamTypes))
		for i, t := range p.ParamTypes {
			types[i] = Type(t).String()
		}
		rows = append(rows, Fields{
			"name": TextValue(p.Name), "statement": TextValue(p.Query), "prepare_time": TimeValue(p.Since), "from_sql": BoolValue(p.FromSQL),
			"parameter_types": arrayValue(RegtypeArr, types), "generic_plans": Int8Value(0), "custom_plans": Int8Value(0),
		})
	}
	return rows
}

// prepared is the statement that EXECUTE names, nil with an error if there is none.
func (s *Session) prepared(name string) (*statement, error) {
	conn, err := s.preparer()
	if err != nil {
		return nil, err
	}
	found, err := conn.Prepared(name)
	if err != nil {
		return nil, err
	}
	st, ok := found.(*statement)
	if !ok {
		return nil, errForeignStatement
	}
	return st, nil
}

// executed is the statement that EXECUTE stands for; s.params are then its parameters.
func (s *Session) executed(ctx context.Context, stmt *statement, n *executeStmt) (*statement, error) {
	st, err := s.prepared(n.name)
	if err != nil {
		return nil, err
	}
	if _, nested := st.node.(*executeStmt); nested || st.Empty() {
		return nil, pgwire.Errorf(pgwire.CodeFeatureNotSupported, `EXECUTE of prepared statement "%s" is not supported`, n.name)
	}
	if len(n.args) != len(st.params) {
		return nil, pgwire.Errorf(pgwire.CodeSyntaxError, `wrong number of parameters for prepared statement "%s"`, n.name).
			WithDetail("Expected %d parameters but got %d.", len(st.params), len(n.args))
	}
	args, err := planned(func() []expr { return stmt.executeArgs(n, st.params) })
	if err != nil {
		return nil, err
	}
	e := env{ctx: ctx, session: s}
	s.params = s.params[:0]
	for _, x := range args {
		v, err := x.eval(&e)
		if err != nil {
			return nil, err
		}
		s.params = append(s.params, v)
	}
	return st, s.refuseInFailedBlock(st)
}

// executeArgs analyzes the parameters of EXECUTE, which become of the types that the statement has.
func (s *statement) executeArgs(n *executeStmt, types []Type) []expr {
	a := s.session.analyzer(s.text, true)
	a.noAggregate = "EXECUTE parameters"
	args := make([]expr, len(n.args))
	for i, arg := range n.args {
		x := a.expr(arg)
		if !implicitly(x.typ(), types[i]) && !(types[i] == Text && castable(x.typ(), Text)) && !(x.typ().isNumber() && types[i].isNumber()) {
			panic(errorAt(s.text, arg.at(), pgwire.CodeDatatypeMismatch, "parameter $%d of type %s cannot be coerced to the expected type %s", i+1, x.typ(), types[i]).
				WithHint("You will need to rewrite or cast the expression."))
		}
		args[i] = a.coerce(x, types[i], arg.at())
	}
	if a.nested {
		panic(pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot use subquery in EXECUTE parameter"))
	}
	return args
}
