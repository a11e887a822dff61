package sql

import (
	"encoding/binary"
	"iter"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// Arrays have one dimension. Elements are kept in text form.

// nullElem stands for NULL among the elements: no text holds such a byte.
const nullElem = "\xff"

// maxArrayLen bounds the elements of an array, which take ten times the memory of a text while they are looked at.
const maxArrayLen = 1 << 20

// arrayTooLong is PostgreSQL's error, whose arrays may be longer.
func arrayTooLong() error {
	return pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "array size exceeds the maximum allowed (%d)", maxArrayLen)
}

func arrayValue(t Type, elems []string) Value {
	return Value{typ: t, n: int64(len(elems)), s: strings.Join(elems, "\x00")}
}

// arrayOfValues makes an array of type t of values of its element type.
func arrayOfValues(t Type, values []Value, loc *time.Location, pace *pacer) (Value, error) {
	elems := make([]string, len(values))
	for i, v := range values {
		if elems[i] = nullElem; !v.IsNull() {
			elems[i] = textOf(v, loc)
		}
		if err := pace.step(elementCost); err != nil {
			return Null, err
		}
	}
	return arrayValue(t, elems), nil
}

// elementCost is how many steps an element counts that is read or written.
const elementCost = 64

// elements are the elements of an array in text form.
func (v Value) elements() iter.Seq[string] {
	if v.n == 0 {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(v.s, "\x00")
}

// element reads the text form of an element.
func (v Value) element(text string) (Value, error) {
	if text == nullElem {
		return Null, nil
	}
	return parseElement(text, v.typ.elem(), nil)
}

// parseElement reads the text form of an element of type t.
func parseElement(text string, t Type, pace *pacer) (Value, error) {
	if t == Regtype {
		return parseRegtype(text)
	}
	return parseValue(text, t, time.UTC, pace)
}

// parseRegtype reads a type by its name, or by its OID.
func parseRegtype(text string) (Value, error) {
	if v, err := parseID(text, OID); err == nil {
		return regtypeOf(v.n), nil
	}
	if text == "-" {
		return regtypeOf(0), nil
	}
	for t, info := range typeInfos {
		if info.name == text { // "char" is another type than char
			return regtypeOf(int64(t)), nil
		}
	}
	name := strings.TrimPrefix(unquoteIdent(text), "pg_catalog.")
	t := typeNamed(name)
	if t == 0 {
		return Null, pgwire.Errorf(pgwire.CodeUndefinedObject, `type "%s" does not exist`, name)
	}
	return regtypeOf(int64(t)), nil
}

// regtypeOf is the type with an OID, which shows as a number if there is none.
func regtypeOf(oid int64) Value {
	v := Value{typ: Regtype, n: oid, s: typeInfos[Type(oid)].name}
	switch {
	case oid == 0:
		v.s = "-"
	case v.s == "":
		v.s = textOf(OIDValue(uint32(oid)), nil)
	}
	return v
}

// castElement converts an element to one of type t.
func castElement(v Value, t Type, loc *time.Location, pace *pacer) (Value, error) {
	switch {
	case t != Regtype || v.typ == Regtype:
		return castValue(v, t, loc, pace)
	case v.typ.family() == familyText:
		return parseRegtype(v.s)
	}
	oid, err := castValue(v, OID, loc, pace)
	return regtypeOf(oid.n), err
}

// values are the elements of an array.
func (v Value) values(pace *pacer) ([]Value, error) {
	values := make([]Value, 0, v.n)
	for text := range v.elements() {
		elem, err := v.element(text)
		if err == nil {
			err = pace.step(elementCost + len(text))
		}
		if err != nil {
			return nil, err
		}
		values = append(values, elem)
	}
	return values, nil
}

// lowerBound is the subscript of an array's first element.
func (v Value) lowerBound() int64 {
	if v.typ == Int2Vector || v.typ == OIDVector {
		return 0
	}
	return 1
}

// parseArray reads {a,b} as array_in does, and a vector's elements between blanks.
func parseArray(s string, t Type, pace *pacer) (Value, error) {
	if t == Int2Vector || t == OIDVector {
		if len(s) > maxArrayLen {
			return Null, arrayTooLong()
		}
		return checkedArray(strings.Fields(s), t, pace)
	}
	text := strings.TrimSpace(s)
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return Null, malformedArray(s)
	}
	elems, ok := splitArray(text[1:len(text)-1], pace)
	if err := pace.step(0); err != nil {
		return Null, err
	}
	switch {
	case !ok:
		return Null, malformedArray(s)
	case len(elems) > maxArrayLen:
		return Null, arrayTooLong()
	}
	return checkedArray(elems, t, pace)
}

func malformedArray(s string) error {
	return pgwire.Errorf(pgwire.CodeInvalidTextRepresentation, `malformed array literal: "%s"`, s)
}

// splitArray splits what is between the braces, up to the element that is one too many.
func splitArray(s string, pace *pacer) (elems []string, ok bool) {
	for rest := strings.TrimSpace(s); rest != ""; {
		elem, n, ok := arrayElement(rest)
		if !ok || pace.step(elementCost+n) != nil {
			return nil, false
		}
		if elems = append(elems, elem); len(elems) > maxArrayLen {
			break
		}
		rest = strings.TrimLeft(rest[n:], " \t\n\r\v\f")
		if rest == "" {
			break
		}
		if rest[0] != ',' {
			return nil, false
		}
		if rest = strings.TrimLeft(rest[1:], " \t\n\r\v\f"); rest == "" {
			return nil, false
		}
	}
	return elems, true
}

// arrayElement reads one element and the number of bytes that it takes.
func arrayElement(s string) (elem string, n int, ok bool) {
	quoted := s[0] == '"'
	var b []byte
	for i := map[bool]int{true: 1}[quoted]; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b = append(b, s[i])
		case quoted && c == '"':
			return string(b), i + 1, true
		case !quoted && c == ',':
			return unquotedElement(b, i)
		case !quoted && strings.IndexByte(`{}"\`, c) >= 0:
			return "", 0, false
		default:
			b = append(b, c)
		}
	}
	if quoted {
		return "", 0, false
	}
	return unquotedElement(b, len(s))
}

func unquotedElement(b []byte, n int) (string, int, bool) {
	elem := strings.TrimSpace(string(b))
	if strings.EqualFold(elem, "null") {
		return nullElem, n, true
	}
	return elem, n, elem != ""
}

// checkedArray makes an array of elements that are valid, each in the form that its type prints.
func checkedArray(elems []string, t Type, pace *pacer) (Value, error) {
	for i, e := range elems {
		if e == nullElem {
			continue
		}
		v, err := parseElement(e, t.elem(), pace)
		if err == nil {
			err = pace.step(elementCost + len(e))
		}
		if err != nil {
			return Null, err
		}
		elems[i] = textOf(v, time.UTC)
	}
	return arrayValue(t, elems), nil
}

// castArray converts an array to another array type.
func castArray(v Value, t Type, loc *time.Location, pace *pacer) (Value, error) {
	values, err := v.values(pace)
	if err != nil {
		return Null, err
	}
	for i := range values {
		if values[i].IsNull() {
			continue
		}
		if values[i], err = castElement(values[i], t.elem(), loc, pace); err == nil {
			err = pace.step(elementCost)
		}
		if err != nil {
			return Null, err
		}
	}
	return arrayOfValues(t, values, loc, pace)
}

// appendArray prints {a,b}, quoting elements as array_out does; the elements of a vector stand between
// blanks.
func appendArray(b []byte, v Value) []byte {
	if v.lowerBound() == 0 {
		return append(b, strings.ReplaceAll(v.s, "\x00", " ")...)
	}
	start := len(b)
	for e := range v.elements() {
		b = append(b, ',')
		switch {
		case e == nullElem:
			b = append(b, "NULL"...)
		case e == "" || strings.ContainsAny(e, "{}\",\\ \t\n\r\v\f") || strings.EqualFold(e, "null"):
			b = append(b, '"')
			b = append(b, arrayQuoter.Replace(e)...)
			b = append(b, '"')
		default:
			b = append(b, e...)
		}
	}
	if len(b) == start {
		return append(b, "{}"...)
	}
	b[start] = '{'
	return append(b, '}')
}

var arrayQuoter = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// appendBinaryArray appends {dimensions, has NULLs, element oid, [length, lower bound], elements}.
func appendBinaryArray(b []byte, v Value, pace *pacer) []byte {
	dims, nulls := min(int(v.n), 1), 0
	for text := range v.elements() {
		if text == nullElem {
			nulls = 1
		}
	}
	for _, n := range []int{dims, nulls, int(v.typ.elem())} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	if dims == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(v.n))
	b = binary.BigEndian.AppendUint32(b, uint32(v.lowerBound()))
	for text := range v.elements() {
		e, _ := v.element(text) // they have been read before
		if pace.step(elementCost+len(text)) != nil {
			break
		}
		if e.IsNull() {
			b = binary.BigEndian.AppendUint32(b, ^uint32(0))
			continue
		}
		at := len(b)
		b = appendBinary(append(b, 0, 0, 0, 0), e, pace)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b
}

// parseBinaryArray reads what appendBinaryArray writes, of at most one dimension.
func parseBinaryArray(b []byte, t Type, pace *pacer) (Value, error) {
	if len(b) < 12 {
		return Null, invalidBinary()
	}
	dims := binary.BigEndian.Uint32(b)
	b = b[12:]
	switch {
	case dims == 0 && len(b) == 0:
		return arrayValue(t, nil), nil
	case dims > 1:
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "arrays of several dimensions are not supported")
	case dims == 0 || len(b) < 8 || int(binary.BigEndian.Uint32(b)) > len(b)/4:
		return Null, invalidBinary()
	case binary.BigEndian.Uint32(b) > maxArrayLen:
		return Null, arrayTooLong()
	}
	values := make([]Value, binary.BigEndian.Uint32(b))
	b = b[8:]
	for i := range values {
		if len(b) < 4 {
			return Null, invalidBinary()
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		if b = b[4:]; n == -1 {
			continue
		}
		if n < 0 || n > len(b) {
			return Null, invalidBinary()
		}
		var err error
		if values[i], err = parseBinary(b[:n], t.elem(), pace); err == nil {
			err = pace.step(elementCost + n)
		}
		if err != nil {
			return Null, err
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return Null, invalidBinary()
	}
	return arrayOfValues(t, values, time.UTC, pace)
}
