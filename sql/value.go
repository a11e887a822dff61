package sql

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// A Value is one value of a row. The zero Value is NULL. Values are immutable.
type Value struct {
	typ    Type  // 0 for NULL
	days   int32 // interval
	months int32 // interval
	// n is a boolean (0, 1), an integer, an oid, an LSN, a float8's bits, a timestamptz in
	// microseconds since 2000-01-01 UTC, a timestamp as if it were one in UTC, a date in days since then, a time in
	// microseconds since midnight, or an interval's microseconds.
	n int64
	// s is a text, a numeric in decimal, an inet in text form, a record in text form, the name that a
	// regclass and its like are shown as, a json or uuid in text form, the bytes of a bytea, or the elements of an
	// array in text form, separated by NULs.
	s string
}

// Null is the NULL of any type.
var Null Value

// postgresEpoch is 2000-01-01 UTC in Unix microseconds, the zero of timestamptz.
const postgresEpoch = 946684800_000_000

func TextValue(s string) Value    { return Value{typ: Text, s: s} }
func NameValue(s string) Value    { return Value{typ: Name, s: s} }
func Int4Value(n int32) Value     { return Value{typ: Int4, n: int64(n)} }
func Int8Value(n int64) Value     { return Value{typ: Int8, n: n} }
func OIDValue(n uint32) Value     { return Value{typ: OID, n: int64(n)} }
func XIDValue(n uint32) Value     { return Value{typ: XID, n: int64(n)} }
func Float8Value(f float64) Value { return Value{typ: Float8, n: int64(math.Float64bits(f))} }

// VoidValue is what a function returns that returns nothing.
func VoidValue() Value { return Value{typ: Void} }

// BoolValue is true or false.
func BoolValue(b bool) Value {
	if b {
		return Value{typ: Bool, n: 1}
	}
	return Value{typ: Bool}
}

// LSNValue is an LSN. Callers whose 0 means "none" pass LSNOrNull.
func LSNValue(l wal.LSN) Value { return Value{typ: PgLSN, n: int64(l)} }

// LSNOrNull is an LSN, or NULL for 0.
func LSNOrNull(l wal.LSN) Value {
	if l == wal.InvalidLSN {
		return Null
	}
	return LSNValue(l)
}

// TimeValue is a timestamptz, NULL for the zero time.
func TimeValue(t time.Time) Value {
	if t.IsZero() {
		return Null
	}
	return Value{typ: Timestamptz, n: t.UnixMicro() - postgresEpoch}
}

// IntervalValue is an interval without days or months.
func IntervalValue(d time.Duration) Value { return Value{typ: Interval, n: d.Microseconds()} }

// NumericValue is a numeric without a fraction.
func NumericValue(n uint64) Value { return decimalValue(decimalFromUint(n)) }

// InetValue is an address without a netmask, NULL for the zero Addr.
func InetValue(a netip.Addr) Value {
	if !a.IsValid() {
		return Null
	}
	return Value{typ: Inet, s: a.Unmap().WithZone("").String()}
}

// TextArrayValue is a text[] of one dimension; elements hold no NUL.
func TextArrayValue(elems []string) Value { return arrayValue(TextArray, elems) }

// IsNull reports whether v is NULL.
func (v Value) IsNull() bool { return v.typ == 0 }

// Type is the value's type, 0 for NULL.
func (v Value) Type() Type { return v.typ }

// Text is the string of a text, name or numeric value.
func (v Value) Text() string { return v.s }

// Int is the number of an integer, oid or xid.
func (v Value) Int() int64 { return v.n }

// Bool is the truth of a boolean; NULL is false.
func (v Value) Bool() bool { return v.typ == Bool && v.n != 0 }

// LSN is the position of a pg_lsn.
func (v Value) LSN() wal.LSN { return wal.LSN(v.n) }

func (v Value) float() float64 { return math.Float64frombits(uint64(v.n)) }

// clone copies what v may share with a row that is about to be reused.
func (v Value) clone() Value {
	v.s = strings.Clone(v.s)
	return v
}
