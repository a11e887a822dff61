package sql

import "github.com/longship-db/longship/pgwire"

// typedLiteral reads the type in type 'literal'.
func (p *parser) typedLiteral() (Type, bool) {
	if p.tok.kind != tokIdent {
		return 0, false
	}
	word := p.tok.text
	typ, known := typeNames[word]
	if !known && !missingTypes[word] && longTypes[word] == "" && word != "pg_catalog" {
		return 0, false // which most names are: no need to look further
	}
	next := p.peek()
	if next.kind == tokIdent && (longTypes[word] == next.text || known && next.text == "without") || word == "pg_catalog" {
		return p.longTypedLiteral()
	}
	if next.kind != tokString {
		return 0, false
	}
	if !known && missingTypes[word] {
		p.typeName() // refuses it
	}
	if known {
		p.advance()
	}
	return typ, known
}

// longTypes are the first words of types that have several, and what follows.
var longTypes = map[string]string{"double": "precision", "character": "varying", "timestamp": "with", "time": "with"}

// longTypedLiteral reads a type of several words, if a literal follows.
func (p *parser) longTypedLiteral() (typ Type, ok bool) {
	before := *p
	if before.ahead != nil {
		before.ahead = new(*p.ahead)
	}
	if p.tok.text != "pg_catalog" {
		typ = p.typeName()
	} else if p.advance(); p.acceptOp(".") && p.tok.kind == tokIdent {
		if typ = typeNames[p.tok.text]; typ != 0 {
			p.advance()
		}
	}
	if typ != 0 && p.tok.kind == tokString {
		return typ, true
	}
	*p = before
	return 0, false
}

// refuseFields refuses the field in interval '1' day.
func (p *parser) refuseFields() {
	if p.isKeyword("year", "month", "day", "hour", "minute", "second") {
		p.unsupported(p.tok.pos, "a field of an interval", "Write it into the literal: interval '1 day'.")
	}
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
	case name == "time" && p.acceptBoth("with", "time"):
		p.expect("zone")
		name = "timetz"
	case (name == "timestamp" || name == "time") && p.acceptBoth("without", "time"):
		p.expect("zone")
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
var missingTypes = wordSet(`bit bpchar char character cidr circle line lseg macaddr macaddr8
	money nchar national path point polygon timetz tsquery tsvector varbit xml regoper regconfig regdictionary regcollation`)

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
