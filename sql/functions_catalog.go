package sql

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// catalogFunctions are those that catalog queries call.
var catalogFunctions = slices.Concat(visible, privileges, []Func{
	{Name: "pg_get_userbyid", Args: []Type{OID}, Result: Name, builtin: func(e *env, args []Value) (Value, error) {
		if args[0].n == oidOwner {
			return NameValue(e.session.id.User), nil
		}
		return NameValue("unknown (OID=" + textOf(args[0], nil) + ")"), nil
	}},
	{Name: "format_type", Args: []Type{OID, Int4}, Result: Text, NullOK: true, builtin: func(_ *env, args []Value) (Value, error) {
		if args[0].IsNull() {
			return Null, nil
		}
		return TextValue(typeName(uint32(args[0].n))), nil
	}},
	{Name: "pg_get_indexdef", Args: []Type{OID, Int4, Bool}, Defaults: []Value{Int4Value(0), BoolValue(false)}, Result: Text, builtin: indexDef},
	{Name: "pg_get_constraintdef", Args: []Type{OID, Bool}, Defaults: []Value{BoolValue(false)}, Result: Text,
		builtin: func(_ *env, args []Value) (Value, error) {
			if args[0].n != oidConstraint {
				return Null, nil
			}
			return TextValue("PRIMARY KEY (key)"), nil
		}},
	{Name: "pg_get_viewdef", Args: []Type{OID, Bool}, Defaults: []Value{BoolValue(false)}, Result: Text, builtin: viewDef},
	{Name: "pg_get_function_result", Args: []Type{OID}, Result: Text, builtin: functionText((*Func).resultText)},
	{Name: "pg_get_function_arguments", Args: []Type{OID}, Result: Text, builtin: functionText((*Func).argumentText)},
	{Name: "pg_get_function_identity_arguments", Args: []Type{OID}, Result: Text, builtin: functionText((*Func).argumentText)},
	{Name: "pg_encoding_to_char", Args: []Type{Int4}, Result: Name, builtin: func(_ *env, args []Value) (Value, error) {
		if args[0].n == encodingUTF8 {
			return NameValue("UTF8"), nil
		}
		return NameValue(""), nil
	}},
	{Name: "pg_char_to_encoding", Args: []Type{Name}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		if name := strings.ToLower(args[0].s); name == "utf8" || name == "utf-8" || name == "unicode" {
			return Int4Value(encodingUTF8), nil
		}
		return Int4Value(-1), nil
	}},
	{Name: "getdatabaseencoding", Result: Name, builtin: func(*env, []Value) (Value, error) { return NameValue("UTF8"), nil }},
	{Name: "current_schemas", Args: []Type{Bool}, Result: NameArray, builtin: func(_ *env, args []Value) (Value, error) {
		if args[0].Bool() {
			return arrayValue(NameArray, []string{"pg_catalog", "public"}), nil
		}
		return arrayValue(NameArray, []string{"public"}), nil
	}},
	{Name: "pg_typeof", Args: []Type{Any}, Result: Regtype, NullOK: true, builtin: always(Null)}, // known to the analysis
	{Name: "to_regclass", Args: []Type{Text}, Result: Regclass, builtin: func(e *env, args []Value) (Value, error) {
		v, err := e.session.resolveName(args[0].s, Regclass)
		if e, ok := err.(*pgwire.Error); ok && e.Code == pgwire.CodeUndefinedTable {
			return Null, nil
		}
		return v, err
	}},
	{Name: "pg_get_functiondef", Args: []Type{OID}, Result: Text, builtin: functionText((*Func).definition)},
	{Name: "pg_describe_object", Args: []Type{OID, OID, Int4}, Result: Text, builtin: describeObject},
	{Name: "pg_export_snapshot", Result: Text, builtin: func(*env, []Value) (Value, error) {
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "pg_export_snapshot() is not supported").WithHint("%s", noSnapshots)
	}},
	{Name: "pg_ls_tmpdir", Args: []Type{OID}, Columns: []Column{{"name", Text}, {"size", Int8}, {"modification", Timestamptz}},
		Result: Record, set: func(*env, []Value) ([][]Value, error) { return nil, nil }}, // nothing is kept in files
	{Name: "acldefault", Args: []Type{Char, OID}, Result: ACLArray, builtin: always(Null)},
	{Name: "pg_relation_is_publishable", Args: []Type{Regclass}, Result: Bool, builtin: always(BoolValue(false))},
	{Name: "pg_tablespace_location", Args: []Type{OID}, Result: Text, builtin: always(TextValue(""))},
	{Name: "pg_timezone_names", Columns: []Column{{"name", Text}, {"abbrev", Text}, {"utc_offset", Interval}, {"is_dst", Bool}},
		Result: Record, set: func(*env, []Value) ([][]Value, error) { return nil, nil }},
	{Name: "information_schema._pg_expandarray", Args: []Type{AnyArray}, Result: indexKey, set: expandArray},
	{Name: "pg_get_keywords", Columns: []Column{{"word", Text}, {"catcode", Char}, {"catdesc", Text}}, Result: Record, set: keywords},
	{Name: "pg_options_to_table", Args: []Type{TextArray}, Columns: []Column{{"option_name", Text}, {"option_value", Text}},
		Result: Record, set: func(*env, []Value) ([][]Value, error) { return nil, nil }},

	// Nothing here has what these tell of.
	neverDone("pg_stat_get_last_vacuum_time"), neverDone("pg_stat_get_last_autovacuum_time"),
	neverDone("pg_stat_get_last_analyze_time"), neverDone("pg_stat_get_last_autoanalyze_time"),
	unknownText("pg_get_expr", NodeTree, OID), unknownText("pg_get_expr", NodeTree, OID, Bool),
	unknownText("pg_get_ruledef", OID), unknownText("pg_get_ruledef", OID, Bool),
	unknownText("pg_get_triggerdef", OID), unknownText("pg_get_triggerdef", OID, Bool),
	unknownText("pg_get_statisticsobjdef_columns", OID), unknownText("pg_get_partkeydef", OID),
	unknownText("pg_get_partition_constraintdef", OID),
	unknownText("pg_get_function_sqlbody", OID), unknownText("pg_get_serial_sequence", Text, Text),
	unknownText("obj_description", OID), unknownText("obj_description", OID, Name),
	unknownText("shobj_description", OID, Name), unknownText("col_description", OID, Int4),
	privilege("has_column_privilege", OID, Int2),
})

// privileges are the functions that ask what a role may do with an object, by name or OID: the one who asks, or another.
// There is one role, and pg_has_role says that it is a member of every other that PostgreSQL has.
var privileges = func() []Func {
	var list []Func
	for _, name := range []string{"has_table_privilege", "has_schema_privilege", "has_database_privilege", "has_function_privilege",
		"has_tablespace_privilege", "pg_has_role"} {
		for _, object := range []Type{Text, OID} {
			list = append(list, privilege(name, object), privilege(name, Text, object), privilege(name, OID, object))
		}
	}
	return list
}()

// visible are the functions that tell whether an object needs no schema. Nothing does.
var visible = func() []Func {
	var list []Func
	for _, what := range []string{"function", "type", "operator", "collation", "conversion", "opclass", "opfamily", "ts_config",
		"ts_dict", "ts_parser", "ts_template", "statistics_obj"} {
		list = append(list, Func{Name: "pg_" + what + "_is_visible", Args: []Type{OID}, Result: Bool, builtin: always(BoolValue(true))})
	}
	return append(list, Func{Name: "pg_table_is_visible", Args: []Type{OID}, Result: Bool, builtin: func(e *env, args []Value) (Value, error) {
		obj := e.session.catalog.described().byOID[uint32(args[0].n)]
		if obj == nil {
			return Null, nil
		}
		return BoolValue(obj.schema != oidInfoSchema), nil
	}})
}()

// expandArray is a row for each element of an index's columns, with its number.
func expandArray(_ *env, args []Value) ([][]Value, error) {
	var keys []Value
	for elem := range args[0].elements() {
		v, err := parseInt(elem, Int2)
		if err != nil {
			return nil, err
		}
		i := int64(len(keys) + 1)
		keys = append(keys, Value{typ: indexKey, n: v.n<<32 | i, s: fmt.Sprintf("(%d,%d)", v.n, i)})
	}
	return oneColumn(keys), nil
}

// A fieldExpr is (x).x or (x).n of an indexKey.
type fieldExpr struct {
	x    expr
	elem bool
}

func (x *fieldExpr) typ() Type {
	if x.elem {
		return Int2
	}
	return Int4
}

func (a *analyzer) field(n fieldNode) expr {
	if n.name == "" {
		a.fail(n.at(), pgwire.CodeSyntaxError, `row expansion via "*" is not supported here`)
	}
	x := a.expr(n.x)
	if call, ok := x.(*callExpr); ok && call.fn.Row != nil {
		i := slices.IndexFunc(call.fn.Columns, func(c Column) bool { return c.Name == n.name })
		if i < 0 {
			a.fail(n.at(), pgwire.CodeUndefinedColumn, `could not identify column "%s" in record data type`, n.name)
		}
		return &recordField{call, i}
	}
	if x.typ() != indexKey {
		a.fail(n.at(), pgwire.CodeWrongObjectType, "column notation .%s applied to type %s, which is not a composite type", n.name, x.typ())
	}
	if n.name != "x" && n.name != "n" {
		a.fail(n.at(), pgwire.CodeUndefinedColumn, `column "%s" not found in data type record`, n.name)
	}
	return &fieldExpr{x, n.name == "x"}
}

func (x *fieldExpr) eval(e *env) (Value, error) {
	v, err := x.x.eval(e)
	if err != nil || v.IsNull() {
		return Null, err
	}
	if x.elem {
		return Value{typ: Int2, n: v.n >> 32}, nil
	}
	return Int4Value(int32(v.n)), nil
}

// A recordField is (function(…)).column of a function that returns a record. As in PostgreSQL the function is called
// for each such column by itself.
type recordField struct {
	call  *callExpr
	index int
}

func (x *recordField) typ() Type { return x.call.fn.Columns[x.index].Type }

func (x *recordField) eval(e *env) (Value, error) {
	rows, err := x.call.tuples(e)
	if err != nil {
		return Null, err
	}
	return rows[0][x.index], nil
}

// recordStar is (function(…)).* in a list of targets: each column of the record.
func (a *analyzer) recordStar(n fieldNode) []output {
	x := a.expr(n.x)
	call, ok := x.(*callExpr)
	if !ok || call.fn.Row == nil {
		panic(pgwire.Errorf(pgwire.CodeWrongObjectType, "type %s is not composite", x.typ()))
	}
	outs := make([]output, len(call.fn.Columns))
	for i, c := range call.fn.Columns {
		outs[i] = output{name: c.Name, x: &recordField{call, i}}
	}
	return outs
}

// keywords lists the words that cannot be names; of the others PostgreSQL has more than this grammar.
func keywords(*env, []Value) ([][]Value, error) {
	var rows [][]Value
	for _, word := range slices.Sorted(maps.Keys(reserved)) {
		rows = append(rows, []Value{TextValue(word), charValue("R"), TextValue("reserved")})
	}
	return rows, nil
}

func always(v Value) func(*env, []Value) (Value, error) {
	return func(*env, []Value) (Value, error) { return v, nil }
}

func unknownText(name string, args ...Type) Func {
	return Func{Name: name, Args: args, Result: Text, builtin: always(Null)}
}

// neverDone is a function that asks when something was done to a table last.
func neverDone(name string) Func {
	return Func{Name: name, Args: []Type{OID}, Result: Timestamptz, builtin: always(Null)}
}

// privilege tells that the one role may do everything.
func privilege(name string, object ...Type) Func {
	return Func{Name: name, Args: append(object, Text), Result: Bool, builtin: always(BoolValue(true))}
}

func indexDef(_ *env, args []Value) (Value, error) {
	switch {
	case args[0].n != oidIndex || args[1].n > 1:
		return Null, nil
	case args[1].n == 1:
		return TextValue("key"), nil
	}
	return TextValue(indexDefinition), nil
}

// viewDef says where a view's rows come from: there is no query behind it.
func viewDef(e *env, args []Value) (Value, error) {
	obj := e.session.catalog.described().byOID[uint32(args[0].n)]
	if obj == nil || obj.kind != "v" {
		return Null, nil
	}
	return TextValue(" SELECT * FROM " + obj.qualifiedName() + ";"), nil
}

func functionText(text func(*Func) string) func(*env, []Value) (Value, error) {
	return func(e *env, args []Value) (Value, error) {
		f := e.session.catalog.described().function(uint32(args[0].n))
		if f == nil {
			return Null, nil
		}
		return TextValue(text(f)), nil
	}
}

func (f *Func) resultText() string {
	if f.set != nil {
		return "SETOF " + f.Result.String()
	}
	return f.Result.String()
}

func (f *Func) argumentText() string {
	args := make([]string, len(f.Args))
	for i, t := range f.Args {
		args[i] = t.String()
		if f.variadic && i == len(f.Args)-1 {
			args[i] = "VARIADIC " + args[i]
		}
		if d := i - (len(f.Args) - len(f.Defaults)); d >= 0 && !f.variadic {
			args[i] += " DEFAULT " + textOf(f.Defaults[d], time.UTC)
		}
	}
	return strings.Join(args, ", ")
}

// definition is the function's CREATE FUNCTION.
func (f *Func) definition() string {
	strict := " STRICT\n"
	if f.NullOK {
		strict = ""
	}
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION pg_catalog.%s(%s)\n RETURNS %s\n LANGUAGE internal\n%sAS $function$%[1]s$function$\n",
		quoteIdent(f.Name), f.argumentText(), f.resultText(), strict)
}

// describeObject names a relation as messages do.
func describeObject(e *env, args []Value) (Value, error) {
	obj := e.session.catalog.described().byOID[uint32(args[1].n)]
	if args[0].n != oidClasses || obj == nil {
		return Null, nil
	}
	kind := map[string]string{"r": "table", "i": "index", "v": "view"}[obj.kind]
	return TextValue(kind + " " + obj.qualifiedName()), nil
}

func typeName(oid uint32) string {
	switch info, ok := typeInfos[Type(oid)]; {
	case oid == 0:
		return "-"
	case !ok:
		return "???"
	default:
		return info.name
	}
}

// nameOf is how an OID of type t is shown: by name, or as a number if there is no such object.
func (s *Session) nameOf(oid uint32, t Type) string {
	o := s.catalog.described()
	number := textOf(OIDValue(oid), nil)
	switch obj, fn := o.byOID[oid], o.function(oid); {
	case oid == 0:
		return "-"
	case t == Regclass && obj != nil:
		return obj.qualifiedName()
	case t == Regproc && fn != nil:
		return fn.Name
	case t == Regproc && typeFunctionNames()[oid] != "":
		return typeFunctionNames()[oid]
	case t == Regprocsig && fn != nil:
		return fn.Name + "(" + strings.ReplaceAll(fn.argumentText(), ", ", ",") + ")"
	case t == Regtype:
		return regtypeOf(int64(oid)).s
	case t == Regnsp && schemaNames[oid] != "":
		return schemaNames[oid]
	case t == Regrole && oid == oidOwner:
		return quoteIdent(s.id.User)
	}
	return number
}

// resolveName finds the OID of what a name of type t means.
func (s *Session) resolveName(name string, t Type) (Value, error) {
	if t == Regtype {
		return parseRegtype(name)
	}
	if v, err := parseID(name, OID); err == nil {
		return Value{typ: t, n: v.n, s: s.nameOf(uint32(v.n), t)}, nil
	}
	if name == "-" {
		return Value{typ: t, s: "-"}, nil
	}
	oid, what, code := uint32(0), "operator", pgwire.CodeUndefinedObject
	plain := unquoteIdent(name)
	o := s.catalog.described()
	switch t {
	case Regclass:
		what, code = "relation", pgwire.CodeUndefinedTable
		if obj := o.relation(plain); obj != nil {
			oid = obj.oid
		}
	case Regproc, Regprocsig:
		plain, _, _ = strings.Cut(plain, "(")
		what, code = "function", pgwire.CodeUndefinedFunction
		plain = strings.TrimPrefix(plain, "pg_catalog.")
		for id, function := range typeFunctionNames() {
			if function == plain {
				return Value{typ: t, n: int64(id), s: plain}, nil
			}
		}
		oid = o.functionOID(plain)
	case Regnsp:
		what, code = "schema", pgwire.CodeInvalidSchemaName
		for id, schema := range schemaNames {
			if schema == plain {
				oid = id
			}
		}
	case Regrole:
		what = "role"
		if plain == s.id.User {
			oid = oidOwner
		}
	}
	if oid == 0 {
		return Null, pgwire.Errorf(code, `%s "%s" does not exist`, what, plain)
	}
	return Value{typ: t, n: int64(oid), s: s.nameOf(oid, t)}, nil
}

// typeNamed finds a type as casts spell it or as pg_type has it, 0 if there is none.
func typeNamed(name string) Type {
	if t, ok := typeNames[name]; ok {
		return t
	}
	for t, info := range typeInfos {
		if info.typname == name && t != indexKey {
			return t
		}
	}
	return 0
}

func (o *objects) functionOID(name string) uint32 {
	for i, f := range o.functions {
		if f.Name == name {
			return firstFuncOID + uint32(i)
		}
	}
	return 0
}

// unquoteIdent reads a name, possibly qualified, as the parser would.
func unquoteIdent(name string) string {
	var parts []string
	for _, part := range strings.Split(strings.TrimSpace(name), ".") {
		if len(part) >= 2 && part[0] == '"' && part[len(part)-1] == '"' {
			parts = append(parts, strings.ReplaceAll(part[1:len(part)-1], `""`, `"`))
		} else {
			parts = append(parts, foldName(part))
		}
	}
	return strings.Join(parts, ".")
}

// quoteIdent quotes a name where the parser needs it.
func quoteIdent(name string) string {
	plain := name != "" && !reserved[name] && !isDigit(name[0]) && name[0] != '$'
	for i := 0; plain && i < len(name); i++ {
		c := name[i]
		plain = c >= 'a' && c <= 'z' || c == '_' || isDigit(c) || c == '$' && i > 0
	}
	if plain {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
