package sql

import "github.com/longship-db/longship/pgwire"

// typedLiteral reads the type in type 'literal'.
func (p *parser) typedLiteral() (Type, bool) {
	if p.tok.kind != tokIdent {
		return 0, false
	}
	if _, known := typeNames[p.tok.text]; !known || p.peek().kind != tokString {
		return 0, false
	}
	typ := typeNames[p.tok.text]
	p.advance()
	return typ, true
}

// typeName reads the name of a type; lengths and precisions are not supported.
func (p *parser) typeName() Type {
	at, quoted := p.tok.pos, p.tok.kind == tokQuoted
	name := p.label()
	if p.acceptOp(".") {
		name, quoted = qualified(name, p.label()), true
	}
	switch {
	case name == "char" && quoted:
		return p.arrayType(at, Char)
	case name == "double":
		p.expect("precision")
		name = "float8"
	case name == "character" && p.accept("varying"):
		name = "varchar"
	case name == "timestamp" && p.acceptBoth("with", "time"):
		p.expect("zone")
		name = "timestamptz"
	}
	typ, ok := typeNames[name]
	if !ok {
		if missingTypes[name] {
			p.unsupported(at, "type "+name, "Values are text; numbers, times and LSNs appear in expressions.")
		}
		p.fail(at, pgwire.CodeUndefinedObject, `type "%s" does not exist`, name)
	}
	if p.isOp("(") {
		p.unsupported(p.tok.pos, "a type modifier", "")
	}
	return p.arrayType(at, typ)
}

// missingTypes are the types of PostgreSQL that there is no use for here.
var missingTypes = wordSet(`bit bpchar bytea char character cidr circle date json jsonb line lseg macaddr macaddr8
	money nchar national path point polygon time timestamp timetz tsquery tsvector uuid varbit xid8 xml regoper regconfig regdictionary regcollation`)

// arrayType reads [] after the name of a type, in which a bound means nothing.
func (p *parser) arrayType(at int, elem Type) Type {
	if !p.isOp("[") {
		return elem
	}
	for p.acceptOp("[") {
		if p.tok.kind == tokInt {
			p.advance()
		}
		p.expectOp("]")
	}
	array := arrayOf(elem)
	if array == 0 {
		p.unsupported(at, "an array of "+elem.String(), "")
	}
	return array
}
