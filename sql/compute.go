package sql

import (
	"cmp"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// compareValues orders two values of one family, neither NULL. Text compares byte by byte.
func compareValues(a, b Value) int {
	switch a.typ.family() {
	case familyNumber:
		return compareNumbers(a, b)
	case familyLSN:
		return cmp.Compare(uint64(a.n), uint64(b.n))
	case familyInterval:
		daysA, usA := intervalOrder(a)
		daysB, usB := intervalOrder(b)
		return cmp.Or(cmp.Compare(daysA, daysB), cmp.Compare(usA, usB))
	case familyXID8:
		return cmp.Compare(uint64(a.n), uint64(b.n))
	case familyText, familyInet, familyBytea, familyUUID, familyArray, familyNone:
		return strings.Compare(a.s, b.s)
	}
	return cmp.Compare(a.n, b.n)
}

func compareNumbers(a, b Value) int {
	rank := max(numberRank(a.typ), numberRank(b.typ))
	switch {
	case rank <= numberRank(Int8):
		return cmp.Compare(a.n, b.n)
	case rank == numberRank(Numeric):
		return toDecimal(a).cmp(toDecimal(b))
	}
	return compareFloats(toFloat(a), toFloat(b))
}

// compareFloats puts NaN after everything, as PostgreSQL does.
func compareFloats(a, b float64) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a):
		return 1
	case math.IsNaN(b):
		return -1
	}
	return cmp.Compare(a, b)
}

func toDecimal(v Value) decimal {
	if v.typ == Numeric {
		d, _ := parseDecimal(v.s)
		return d
	}
	return decimalFromInt(v.n)
}

func toFloat(v Value) float64 {
	switch v.typ {
	case Float4, Float8:
		return v.float()
	case Numeric:
		f, _ := strconv.ParseFloat(v.s, 64)
		return f
	}
	return float64(v.n)
}

// arith computes l op r with a result of type t.
func arith(op byte, l, r Value, t Type, loc *time.Location) (Value, error) {
	sign := 1
	if op == '-' {
		sign = -1
	}
	switch {
	case l.typ == PgLSN && r.typ == PgLSN:
		d, err := decimalArith('-', lsnDecimal(l), lsnDecimal(r))
		return decimalValue(d), err
	case l.typ == PgLSN:
		return moveLSN(op, l, r)
	case r.typ == PgLSN:
		return moveLSN(op, r, l)
	case l.typ.family() == familyTime:
		return timeArith(l, r, sign, loc)
	case r.typ.family() == familyTime:
		return timeArith(r, l, sign, loc)
	case l.typ == Interval && op != '+' && op != '-':
		return scaleInterval(op, l, toFloat(r))
	case r.typ == Interval && op == '*':
		return scaleInterval(op, r, toFloat(l))
	case l.typ == Interval:
		s := int32(sign)
		return Value{typ: Interval, months: l.months + s*r.months, days: l.days + s*r.days, n: l.n + int64(sign)*r.n}, nil
	case t == Float8:
		return floatArith(op, toFloat(l), toFloat(r))
	case t == Numeric:
		d, err := decimalArith(op, toDecimal(l), toDecimal(r))
		if err != nil {
			return Null, err
		}
		return decimalValue(d), nil
	}
	return intArith(op, l.n, r.n, t)
}

func lsnDecimal(v Value) decimal { return decimalFromUint(uint64(v.n)) }

// moveLSN is pg_lsn ± numeric.
func moveLSN(op byte, l, by Value) (Value, error) {
	d, err := decimalArith(op, lsnDecimal(l), toDecimal(by))
	if err != nil {
		return Null, err
	}
	n := d.rescale(0).unscaled
	if !n.IsUint64() {
		return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "pg_lsn out of range")
	}
	return LSNValue(wal.LSN(n.Uint64())), nil
}

func floatArith(op byte, l, r float64) (Value, error) {
	var f float64
	switch op {
	case '+':
		f = l + r
	case '-':
		f = l - r
	case '*':
		f = l * r
	default:
		if r == 0 {
			return Null, divisionByZero()
		}
		f = l / r
	}
	if math.IsInf(f, 0) && !math.IsInf(l, 0) && !math.IsInf(r, 0) {
		return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "value out of range: overflow")
	}
	return Float8Value(f), nil
}

func intArith(op byte, l, r int64, t Type) (Value, error) {
	var n int64
	overflow := false
	switch op {
	case '+':
		n = l + r
		overflow = (n > l) != (r > 0) && r != 0
	case '-':
		n = l - r
		overflow = (n < l) != (r > 0) && r != 0
	case '*':
		wide := new(big.Int).Mul(big.NewInt(l), big.NewInt(r))
		n, overflow = wide.Int64(), !wide.IsInt64()
	case '&':
		n = l & r
	case '|':
		n = l | r
	default:
		if r == 0 {
			return Null, divisionByZero()
		}
		overflow = op == '/' && l == math.MinInt64 && r == -1
		if op == '/' {
			n = l / r
		} else {
			n = l % r
		}
	}
	if overflow {
		return Null, outOfRange(t)
	}
	return intValue(n, t)
}

// intValue checks n against the range of t.
func intValue(n int64, t Type) (Value, error) {
	switch {
	case t == Int2 && n != int64(int16(n)), t == Int4 && n != int64(int32(n)):
		return Null, outOfRange(t)
	case (t == OID || t == XID) && n != int64(uint32(n)):
		return Null, outOfRange(OID)
	}
	return Value{typ: t, n: n}, nil
}

// castValue converts v, not NULL, to type t. castable has said that the cast exists.
func castValue(v Value, t Type, loc *time.Location, pace *pacer) (Value, error) {
	from := v.typ
	switch {
	case from == t:
		return v, nil
	case t == Text || t == Varchar:
		if from == Bool {
			return TextValue(strconv.FormatBool(v.Bool())), nil
		}
		return TextValue(textOf(v, loc)), nil
	case t == Name:
		return NameValue(truncateName(textOf(v, loc))), nil
	case t == Char:
		return charValue(textOf(v, loc)), nil
	case from.family() == familyText:
		return parseValue(v.s, t, loc, pace)
	case from.elem() != 0:
		return castArray(v, t, loc, pace)
	case from.family() == familyTime:
		return castTime(v, t, loc), nil
	case from == JSON || from == JSONB:
		return parseJSON(v.s, t, pace)
	case from == XID8:
		return Value{typ: XID, n: int64(uint32(v.n))}, nil
	case t == Float8 && from == Numeric, t == Float4:
		return parseFloat(textOf(v, loc), t)
	case t == Float8:
		return Float8Value(toFloat(v)), nil
	case t == Numeric:
		return toNumeric(v)
	case t == Bool:
		return BoolValue(v.n != 0), nil
	}
	return toInteger(v, t)
}

func toNumeric(v Value) (Value, error) {
	if v.typ != Float8 && v.typ != Float4 {
		return decimalValue(toDecimal(v)), nil
	}
	d, ok := parseDecimal(strconv.FormatFloat(v.float(), 'g', 15, 64))
	if !ok {
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot convert %s to numeric", appendFloat(nil, v.float(), 64))
	}
	return decimalValue(d), nil
}

func toInteger(v Value, t Type) (Value, error) {
	switch v.typ {
	case Float4, Float8:
		f := math.RoundToEven(v.float())
		if !(f >= -(1<<63) && f < 1<<63) {
			return Null, outOfRange(t)
		}
		return intValue(int64(f), t)
	case Numeric:
		n := toDecimal(v).rescale(0).unscaled
		if !n.IsInt64() {
			return Null, outOfRange(t)
		}
		return intValue(n.Int64(), t)
	}
	return intValue(v.n, t)
}

// matchLike matches s against a LIKE pattern: % any run, _ one character, backslash escapes. It may take as many steps
// as the product of their lengths.
func matchLike(s, pattern string, pace *pacer) (bool, error) {
	// retryS, retryP: where to go on after letting the last % take one more character.
	retryS, retryP := -1, 0
	i, j := 0, 0
	for {
		if j < len(pattern) && pattern[j] == '%' {
			retryS, retryP = i, j+1
			j++
			continue
		}
		n, width, err := matchOne(s[i:], pattern[j:])
		if err == nil {
			err = pace.step(1)
		}
		if err != nil {
			return false, err
		}
		switch {
		case n > 0:
			i, j = i+n, j+width
		case i == len(s) && j == len(pattern):
			return true, nil
		case retryS < 0 || retryS >= len(s):
			return false, nil
		default:
			_, n := utf8.DecodeRuneInString(s[retryS:])
			retryS += n
			i, j = retryS, retryP
		}
	}
}

// matchOne matches one pattern element other than %: the bytes of s and of the pattern it takes,
// n = 0 if it does not match.
func matchOne(s, pattern string) (n, width int, err error) {
	if pattern == "" || s == "" {
		return 0, 0, nil
	}
	c, width := pattern[0], 1
	if c == '\\' {
		if len(pattern) == 1 {
			return 0, 0, pgwire.Errorf(pgwire.CodeInvalidEscapeSequence, "LIKE pattern must not end with escape character")
		}
		c, width = pattern[1], 2
	} else if c == '_' {
		_, n = utf8.DecodeRuneInString(s)
		return n, 1, nil
	}
	if s[0] != c || width == 1 && c == '_' {
		return 0, width, nil
	}
	return 1, width, nil
}
