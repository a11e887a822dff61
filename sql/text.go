package sql

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/wal"
)

// validText reports whether s may be a text value: UTF-8 without NUL.
func validText(s string) bool {
	return strings.IndexByte(s, 0) < 0 && utf8.ValidString(s)
}

// invalidUTF8 is PostgreSQL's complaint about the first character of b.
func invalidUTF8(b []byte) *pgwire.Error {
	n := 1
	switch {
	case b[0]&0xe0 == 0xc0:
		n = 2
	case b[0]&0xf0 == 0xe0:
		n = 3
	case b[0]&0xf8 == 0xf0:
		n = 4
	}
	var text strings.Builder
	for i, c := range b[:min(n, len(b))] {
		if i > 0 {
			text.WriteByte(' ')
		}
		text.WriteString("0x")
		text.WriteByte(hexDigits[c>>4])
		text.WriteByte(hexDigits[c&15])
	}
	return pgwire.Errorf(pgwire.CodeCharacterNotInRepertoire, `invalid byte sequence for encoding "UTF8": %s`, &text)
}

const hexDigits = "0123456789abcdef"

// stringOf views b as a string and bytesOf views s as bytes, without a copy. Both are for values
// on their way between rows and the client: neither side is ever modified.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func bytesOf(s string) []byte {
	if s == "" {
		return []byte{} // not nil: nil is NULL
	}
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// invalidInput is PostgreSQL's complaint about a text form that is not one of t.
func invalidInput(t Type, s string) error {
	code := pgwire.CodeInvalidTextRepresentation
	if t.family() == familyTime || t == Time || t == Interval {
		code = pgwire.CodeInvalidDatetimeFormat
	}
	name := t.String()
	if t == Time || t == Timestamp {
		name = internalName(t)
	}
	return pgwire.Errorf(code, `invalid input syntax for type %s: "%s"`, name, s)
}

func outOfRange(t Type) error {
	return pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "%s out of range", t)
}

// maxScalarLen is how long the text of a number, a time and the like may be, in bytes, blanks and zeros included: it is
// read at once, and more than once.
const maxScalarLen = 64 << 10

// isScalar reports whether values of type t are small, however they are written.
func (t Type) isScalar() bool {
	switch t {
	case Text, Varchar, Unknown, Name, Char, Bytea, JSON, JSONB:
		return false
	}
	return t.elem() == 0
}

// parseValue reads the text form of a value of type t. loc is the session's time zone.
func parseValue(s string, t Type, loc *time.Location, pace *pacer) (Value, error) {
	if len(s) > maxScalarLen && t.isScalar() {
		return Null, invalidInput(t, s)
	}
	switch t {
	case Text, Varchar, Unknown:
		return Value{typ: Text, s: s}, checkText(s)
	case Name:
		return NameValue(truncateName(s)), checkText(s)
	case Char:
		return charValue(s), checkText(s)
	case Bool:
		return parseBool(s)
	case Int2, Int4, Int8:
		return parseInt(s, t)
	case OID, XID:
		return parseID(s, t)
	case Float4, Float8:
		return parseFloat(s, t)
	case Numeric:
		d, ok := parseDecimal(strings.TrimSpace(s))
		if !ok {
			return Null, invalidInput(t, s)
		}
		return decimalValue(d), nil
	case PgLSN:
		lsn, err := wal.ParseLSN(strings.TrimSpace(s))
		if err != nil {
			return Null, invalidInput(t, s)
		}
		return LSNValue(lsn), nil
	case Inet:
		return parseInet(s)
	case Timestamptz, Timestamp:
		return parseTimestamp(s, t, loc)
	case Date:
		return parseDate(s, loc)
	case Time:
		return parseTime(s)
	case Bytea:
		return parseBytea(s)
	case UUID:
		return parseUUID(s)
	case JSON, JSONB:
		return parseJSON(s, t, pace)
	case XID8:
		return parseXID8(s)
	case Interval:
		return parseInterval(s)
	}
	if t.elem() != 0 {
		return parseArray(s, t, pace)
	}
	return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot accept a value of type %s", t)
}

// parseBool accepts on and off, and every prefix of true, false, yes and no, as PostgreSQL does.
func parseBool(s string) (Value, error) {
	b, ok := boolWord(strings.TrimSpace(s))
	if !ok {
		return Null, invalidInput(Bool, s)
	}
	return BoolValue(b), nil
}

func boolWord(s string) (value, ok bool) {
	if s == "" {
		return false, false
	}
	s = strings.ToLower(s)
	switch {
	case s == "1", s == "on", strings.HasPrefix("true", s), strings.HasPrefix("yes", s):
		return true, true
	case s == "0", s == "of", s == "off", strings.HasPrefix("false", s), strings.HasPrefix("no", s):
		return false, true
	}
	return false, false
}

func intBits(t Type) int {
	switch t {
	case Int2:
		return 16
	case Int4:
		return 32
	}
	return 64
}

func parseInt(s string, t Type) (Value, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, intBits(t))
	if err != nil {
		if isNumError(err, strconv.ErrRange) {
			return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, `value "%s" is out of range for type %s`, s, t)
		}
		return Null, invalidInput(t, s)
	}
	return Value{typ: t, n: n}, nil
}

func isNumError(err error, kind error) bool {
	numErr, ok := err.(*strconv.NumError)
	return ok && numErr.Err == kind
}

// parseID reads an oid or xid: 32 bits without sign, negative numbers wrapping as in PostgreSQL.
func parseID(s string, t Type) (Value, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	switch {
	case err != nil && !isNumError(err, strconv.ErrRange):
		return Null, invalidInput(t, s)
	case err != nil || n > math.MaxUint32 || n < math.MinInt32:
		return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, `value "%s" is out of range for type %s`, s, t)
	}
	return Value{typ: t, n: int64(uint32(n))}, nil
}

func parseFloat(s string, t Type) (Value, error) {
	trimmed := strings.TrimSpace(s)
	f, err := strconv.ParseFloat(trimmed, 8*int(typeInfos[t].size))
	switch {
	case strings.ContainsAny(trimmed, "_xXpP"), err != nil && !isNumError(err, strconv.ErrRange):
		return Null, invalidInput(t, s)
	case err != nil:
		return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, `"%s" is out of range for type %s`, s, t)
	}
	return Value{typ: t, n: int64(math.Float64bits(f))}, nil
}

func parseInet(s string) (Value, error) {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		if prefix.IsSingleIP() {
			return InetValue(prefix.Addr()), nil
		}
		return Value{typ: Inet, s: prefix.String()}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return Null, invalidInput(Inet, s)
	}
	return InetValue(a), nil
}

// appendText appends the text form of v, which is not NULL.
func appendText(b []byte, v Value, loc *time.Location) []byte {
	switch v.typ {
	case Bool:
		if v.n != 0 {
			return append(b, 't')
		}
		return append(b, 'f')
	case Int2, Int4, Int8, OID, XID:
		return strconv.AppendInt(b, v.n, 10)
	case Float8:
		return appendFloat(b, v.float(), 64)
	case Float4:
		return appendFloat(b, v.float(), 32)
	case PgLSN:
		b, _ = v.LSN().AppendText(b)
		return b
	case Timestamptz:
		return appendTimestamp(b, v.n, loc)
	case Timestamp:
		return appendTimestamp(b, v.n, nil)
	case Date:
		return appendDate(b, v.n)
	case Time:
		return appendTime(b, v.n)
	case Bytea:
		return appendBytea(b, v.s)
	case XID8:
		return strconv.AppendUint(b, uint64(v.n), 10)
	case Interval:
		return appendInterval(b, v)
	}
	if v.typ.elem() != 0 {
		return appendArray(b, v)
	}
	return append(b, v.s...)
}

// textOf is the text form of v as a string.
func textOf(v Value, loc *time.Location) string {
	switch v.typ {
	case Text, Name, Varchar, Char, Numeric, Inet, Record, UUID, JSON, JSONB:
		return v.s
	}
	return string(appendText(nil, v, loc))
}

// floatFixed is from where on numbers of so many bits are printed with an exponent.
var floatFixed = map[int]float64{32: 1e6, 64: 1e15}

// charValue is a "char": the first byte of s, nothing if that is no character by itself.
func charValue(s string) Value {
	if s != "" && s[0] < utf8.RuneSelf {
		s = s[:1]
	} else {
		s = ""
	}
	return Value{typ: Char, s: s}
}

// appendFloat prints the shortest text that reads back as f, as float8out and float4out do.
func appendFloat(b []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	if a := math.Abs(f); a == 0 || a >= 1e-4 && a < floatFixed[bits] {
		return strconv.AppendFloat(b, f, 'f', -1, bits)
	}
	return strconv.AppendFloat(b, f, 'e', -1, bits)
}
