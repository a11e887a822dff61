package sql

import (
	"bytes"
	"encoding/json"

	"github.com/longship-db/longship/pgwire"
)

// jsonbVersion begins the binary form of jsonb.
const jsonbVersion = 1

// parseJSON checks a json, which stays as it is written, or reads a jsonb, which is written in one way.
func parseJSON(s string, t Type, pace *pacer) (Value, error) {
	if err := checkText(s); err != nil {
		return Null, err
	}
	if !json.Valid(bytesOf(s)) {
		return Null, invalidInput(JSON, s)
	}
	if t == JSON {
		return Value{typ: JSON, s: s}, nil
	}
	text, err := canonicalJSON(s, pace)
	return Value{typ: JSONB, s: text}, err
}

var jsonEscapes = map[byte]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func writeJSONString(b *bytes.Buffer, s string) error {
	b.WriteByte('"')
	written := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b.WriteString(s[written:i])
		written = i + 1
		switch escape := jsonEscapes[c]; {
		case escape != "":
			b.WriteString(escape)
		case c == 0:
			return pgwire.Errorf("22P05", "unsupported Unicode escape sequence").WithDetail(`\u0000 cannot be converted to text.`)
		default:
			b.WriteString(`\u00` + string(hexDigits[c>>4]) + string(hexDigits[c&15]))
		}
	}
	b.WriteString(s[written:])
	b.WriteByte('"')
	return nil
}

// buildObject is json_build_object(key, value, …).
func buildObject(e *env, args []Value) (Value, error) {
	if len(args)%2 != 0 {
		return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "argument list must have even number of elements").
			WithHint("The arguments of json_build_object() must consist of alternating keys and values.")
	}
	var b bytes.Buffer
	for i := 0; i < len(args); i += 2 {
		if args[i].IsNull() {
			return Null, pgwire.Errorf(pgwire.CodeNullValueNotAllowed, "argument %d cannot be null", i+1).WithHint("Object keys should be text.")
		}
		b.WriteString(map[bool]string{true: "{", false: ", "}[i == 0])
		if err := writeJSONString(&b, textOf(args[i], e.loc())); err != nil {
			return Null, err
		}
		b.WriteString(" : ")
		if err := writeJSONValue(&b, args[i+1], e); err != nil {
			return Null, err
		}
	}
	if len(args) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	if b.Len() > maxTextLen {
		return Null, textTooLong()
	}
	return Value{typ: JSON, s: b.String()}, nil
}

// writeJSONValue prints a value as to_json does.
func writeJSONValue(b *bytes.Buffer, v Value, e *env) error {
	text := textOf(v, e.loc())
	switch {
	case v.IsNull():
		b.WriteString("null")
	case v.typ == Bool:
		b.WriteString(map[bool]string{false: "false", true: "true"}[v.Bool()])
	case v.typ.isNumber() && json.Valid(bytesOf(text)), v.typ == JSON, v.typ == JSONB:
		b.WriteString(text)
	default:
		return writeJSONString(b, text)
	}
	return nil
}
