package sql

import (
	"slices"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// arrayFunctions are those on arrays, sets, and texts made of several values.
var arrayFunctions = []Func{
	{Name: "array_to_string", Args: []Type{AnyArray, Text}, Result: Text, builtin: arrayToString},
	{Name: "array_to_string", Args: []Type{AnyArray, Text, Text}, Result: Text, NullOK: true, builtin: arrayToString},
	{Name: "array_length", Args: []Type{AnyArray, Int4}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		if args[1].n != 1 || args[0].n == 0 {
			return Null, nil
		}
		return Int4Value(int32(args[0].n)), nil
	}},
	{Name: "array_lower", Args: []Type{AnyArray, Int4}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		if args[1].n != 1 || args[0].n == 0 {
			return Null, nil
		}
		return Int4Value(int32(args[0].lowerBound())), nil
	}},
	{Name: "array_upper", Args: []Type{AnyArray, Int4}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		if args[1].n != 1 || args[0].n == 0 {
			return Null, nil
		}
		return Int4Value(int32(args[0].lowerBound() + args[0].n - 1)), nil
	}},
	{Name: "cardinality", Args: []Type{AnyArray}, Result: Int4, builtin: func(_ *env, args []Value) (Value, error) {
		return Int4Value(int32(args[0].n)), nil
	}},
	{Name: "array_remove", Args: []Type{AnyArray, AnyElement}, Result: AnyArray, NullOK: true, builtin: arrayRemove},
	{Name: "array_position", Args: []Type{AnyArray, AnyElement}, Result: Int4, NullOK: true, builtin: arrayPosition},
	{Name: "array_position", Args: []Type{AnyArray, AnyElement, Int4}, Result: Int4, NullOK: true, builtin: arrayPosition},
	{Name: "unnest", Args: []Type{AnyArray}, Result: AnyElement, set: func(e *env, args []Value) ([][]Value, error) {
		values, err := args[0].values(&e.session.pace)
		return oneColumn(values), err
	}},
	{Name: "unnest", Args: []Type{Int2Vector}, Result: Int2, set: func(e *env, args []Value) ([][]Value, error) {
		values, err := args[0].values(&e.session.pace)
		return oneColumn(values), err
	}},
	{Name: "generate_subscripts", Args: []Type{AnyArray, Int4}, Result: Int4, set: subscripts},
	{Name: "json_build_object", Args: []Type{Any}, Result: JSON, NullOK: true, variadic: true, builtin: buildObject},
	{Name: "generate_series", Args: []Type{Int4, Int4}, Result: Int4, set: generateSeries},
	{Name: "generate_series", Args: []Type{Int4, Int4, Int4}, Result: Int4, set: generateSeries},
	{Name: "generate_series", Args: []Type{Int8, Int8}, Result: Int8, set: generateSeries},
	{Name: "generate_series", Args: []Type{Int8, Int8, Int8}, Result: Int8, set: generateSeries},
	textFunction("quote_ident", Text, func(s string) Value { return TextValue(quoteIdent(s)) }),
	textFunction("quote_literal", Text, func(s string) Value { return TextValue(quoteLiteral(s)) }),
	{Name: "quote_nullable", Args: []Type{Text}, Result: Text, NullOK: true, builtin: func(_ *env, args []Value) (Value, error) {
		if args[0].IsNull() {
			return TextValue("NULL"), nil
		}
		return TextValue(quoteLiteral(args[0].s)), nil
	}},
	{Name: "concat", Args: []Type{Any}, Result: Text, NullOK: true, variadic: true, builtin: func(e *env, args []Value) (Value, error) {
		return joinTexts(e, args, "")
	}},
	{Name: "concat_ws", Args: []Type{Text, Any}, Result: Text, NullOK: true, variadic: true, builtin: func(e *env, args []Value) (Value, error) {
		if args[0].IsNull() {
			return Null, nil
		}
		return joinTexts(e, args[1:], args[0].s)
	}},
	{Name: "format", Args: []Type{Text, Any}, Result: Text, NullOK: true, variadic: true, builtin: formatText},
}

func oneColumn(values []Value) [][]Value {
	rows := make([][]Value, len(values))
	for i := range values {
		rows[i] = values[i : i+1]
	}
	return rows
}

// subscripts are those of an array's only dimension.
func subscripts(_ *env, args []Value) ([][]Value, error) {
	var all []Value
	for i := range args[0].n {
		if args[1].n == 1 {
			all = append(all, Int4Value(int32(args[0].lowerBound()+i)))
		}
	}
	return oneColumn(all), nil
}

// arrayToString joins the elements that are not NULL, or all if a text stands for NULL.
func arrayToString(_ *env, args []Value) (Value, error) {
	if args[0].IsNull() || args[1].IsNull() {
		return Null, nil
	}
	var b textBuilder
	between := ""
	for elem := range args[0].elements() {
		if elem == nullElem {
			if len(args) < 3 || args[2].IsNull() {
				continue
			}
			elem = args[2].s
		}
		if err := b.add(between); err != nil {
			return Null, err
		}
		if err := b.add(elem); err != nil {
			return Null, err
		}
		between = args[1].s
	}
	return b.value(), nil
}

func arrayRemove(e *env, args []Value) (Value, error) {
	if args[0].IsNull() {
		return Null, nil
	}
	gone := elementText(e, args[1])
	kept := slices.DeleteFunc(slices.Collect(args[0].elements()), func(s string) bool { return s == gone })
	return arrayValue(args[0].typ, kept), nil
}

// elementText is a value as an array has it among its elements.
func elementText(e *env, v Value) string {
	if v.IsNull() {
		return nullElem
	}
	return textOf(v, e.loc())
}

// arrayPosition is the subscript of the first element, from a subscript on, that is the value looked for.
func arrayPosition(e *env, args []Value) (Value, error) {
	if args[0].IsNull() {
		return Null, nil
	}
	least := args[0].lowerBound()
	if len(args) == 3 {
		if args[2].IsNull() {
			return Null, pgwire.Errorf(pgwire.CodeNullValueNotAllowed, "initial position must not be null")
		}
		least = max(least, args[2].n)
	}
	wanted, at := elementText(e, args[1]), args[0].lowerBound()
	for elem := range args[0].elements() {
		if at >= least && elem == wanted {
			return Int4Value(int32(at)), nil
		}
		at++
	}
	return Null, nil
}

func generateSeries(_ *env, args []Value) ([][]Value, error) {
	first, last, by := args[0].n, args[1].n, int64(1)
	if len(args) == 3 {
		by = args[2].n
	}
	if by == 0 {
		return nil, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "step size cannot equal zero")
	}
	var values []Value
	for n := first; by > 0 && n <= last || by < 0 && n >= last; n += by {
		if values = append(values, Value{typ: args[0].typ, n: n}); len(values) > maxDerivedRows {
			return nil, tooManyRows()
		}
		if next := n + by; (next > n) != (by > 0) {
			break // past the largest number
		}
	}
	return oneColumn(values), nil
}

func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// joinTexts is concat_ws: NULLs are left out.
func joinTexts(e *env, args []Value, separator string) (Value, error) {
	var texts []string
	size := 0
	for _, v := range args {
		if v.IsNull() {
			continue
		}
		text := textOf(v, e.loc())
		if size += len(text) + len(separator); size > maxTextLen {
			return Null, textTooLong()
		}
		texts = append(texts, text)
	}
	return TextValue(strings.Join(texts, separator)), nil
}

// formatText is format() with %s, %I, %L and %%.
func formatText(e *env, args []Value) (Value, error) {
	if args[0].IsNull() {
		return Null, nil
	}
	var b strings.Builder
	pattern, rest := args[0].s, args[1:]
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		i++
		if i < len(pattern) && pattern[i] == '%' {
			b.WriteByte('%')
			continue
		}
		switch {
		case i == len(pattern):
			return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "unterminated format() type specifier")
		case len(rest) == 0:
			return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "too few arguments for format()")
		}
		text, err := formatOne(e, pattern[i], rest[0])
		if err != nil {
			return Null, err
		}
		if rest = rest[1:]; b.Len()+len(text) > maxTextLen {
			return Null, textTooLong()
		}
		b.WriteString(text)
	}
	return TextValue(b.String()), nil
}

func formatOne(e *env, kind byte, v Value) (string, error) {
	switch {
	case strings.IndexByte("sIL", kind) < 0:
		return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `unrecognized format() type specifier "%c"`, kind)
	case v.IsNull() && kind == 'I':
		return "", pgwire.Errorf(pgwire.CodeNullValueNotAllowed, "null values cannot be formatted as an SQL identifier")
	case v.IsNull() && kind == 'L':
		return "NULL", nil
	case v.IsNull():
		return "", nil
	}
	text := textOf(v, e.loc())
	switch kind {
	case 'I':
		return quoteIdent(text), nil
	case 'L':
		return quoteLiteral(text), nil
	}
	return text, nil
}
