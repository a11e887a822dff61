package sql

import (
	"encoding/binary"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// Binary forms are those of PostgreSQL 15's send and receive functions, big endian.

// Address families in the binary form of inet (PGSQL_AF_INET, PGSQL_AF_INET6).
const (
	inetFamily4 = 2
	inetFamily6 = 3
)

const (
	numericPositive = 0x0000
	numericNegative = 0x4000
)

// appendBinary appends the binary form of v, which is not NULL. It may not be whole when the statement is over.
func appendBinary(b []byte, v Value, pace *pacer) []byte {
	switch v.typ {
	case Bool:
		return append(b, byte(v.n))
	case Int2:
		return binary.BigEndian.AppendUint16(b, uint16(v.n))
	case Int4, OID, XID, Date:
		return binary.BigEndian.AppendUint32(b, uint32(v.n))
	case Int8, Float8, PgLSN, Timestamptz, Timestamp, Time, XID8:
		return binary.BigEndian.AppendUint64(b, uint64(v.n))
	case Interval:
		b = binary.BigEndian.AppendUint64(b, uint64(v.n))
		b = binary.BigEndian.AppendUint32(b, uint32(v.days))
		return binary.BigEndian.AppendUint32(b, uint32(v.months))
	case Numeric:
		return appendNumeric(b, v)
	case UUID:
		return appendUUID(b, v.s)
	case JSONB:
		b = append(b, jsonbVersion)
	case Inet:
		return appendInet(b, v)
	case Float4:
		return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(v.float())))
	}
	switch {
	case v.typ.isReg():
		return binary.BigEndian.AppendUint32(b, uint32(v.n))
	case v.typ.elem() != 0:
		return appendBinaryArray(b, v, pace)
	}
	return append(b, v.s...)
}

// appendNumeric appends {int16 groups, int16 weight, int16 sign, int16 scale, groups of four
// digits as int16}. The weight is the power of 10000 of the first group.
func appendNumeric(b []byte, v Value) []byte {
	sign := uint16(numericPositive)
	digits, negative := strings.CutPrefix(v.s, "-")
	if negative {
		sign = numericNegative
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	scale := len(fraction)
	whole = strings.Repeat("0", (4-len(whole)%4)%4) + whole
	fraction += strings.Repeat("0", (4-len(fraction)%4)%4)
	weight := len(whole)/4 - 1
	digits = whole + fraction
	for len(digits) > 0 && digits[:4] == "0000" {
		digits = digits[4:]
		weight--
	}
	for len(digits) > 0 && digits[len(digits)-4:] == "0000" {
		digits = digits[:len(digits)-4]
	}
	if digits == "" {
		weight = 0
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(digits)/4))
	b = binary.BigEndian.AppendUint16(b, uint16(weight))
	b = binary.BigEndian.AppendUint16(b, sign)
	b = binary.BigEndian.AppendUint16(b, uint16(scale))
	for i := 0; i < len(digits); i += 4 {
		group := uint16(digits[i]-'0')*1000 + uint16(digits[i+1]-'0')*100 + uint16(digits[i+2]-'0')*10 + uint16(digits[i+3]-'0')
		b = binary.BigEndian.AppendUint16(b, group)
	}
	return b
}

// appendInet appends {family, bits, is_cidr = 0, length, address}.
func appendInet(b []byte, v Value) []byte {
	prefix, err := netip.ParsePrefix(v.s)
	if err != nil {
		a, _ := netip.ParseAddr(v.s)
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	family := byte(inetFamily4)
	if prefix.Addr().Is6() {
		family = inetFamily6
	}
	raw := prefix.Addr().AsSlice()
	b = append(b, family, byte(prefix.Bits()), 0, byte(len(raw)))
	return append(b, raw...)
}

// parseBinary reads the binary form of a value of type t; b is copied where it is kept.
func parseBinary(b []byte, t Type, pace *pacer) (Value, error) {
	switch t {
	case Text, Varchar, Unknown:
		return parseValue(string(b), Text, time.UTC, pace)
	case Name, Char:
		return parseValue(string(b), t, time.UTC, pace)
	case Numeric:
		return parseBinaryNumeric(b)
	case Bytea:
		return Value{typ: t, s: string(b)}, nil
	case JSON:
		return parseJSON(string(b), t, pace)
	case JSONB:
		if len(b) == 0 || b[0] != jsonbVersion {
			return Null, invalidBinary()
		}
		return parseJSON(string(b[1:]), t, pace)
	case Inet:
		return parseBinaryInet(b)
	}
	if t.elem() != 0 {
		return parseBinaryArray(b, t, pace)
	}
	if len(b) != int(typeInfos[t].size) {
		return Null, invalidBinary()
	}
	switch t {
	case Bool:
		return BoolValue(b[0] != 0), nil
	case Int2:
		return Value{typ: t, n: int64(int16(binary.BigEndian.Uint16(b)))}, nil
	case Int4:
		return Value{typ: t, n: int64(int32(binary.BigEndian.Uint32(b)))}, nil
	case OID, XID:
		return Value{typ: t, n: int64(binary.BigEndian.Uint32(b))}, nil
	case Regtype:
		return regtypeOf(int64(binary.BigEndian.Uint32(b))), nil
	case Float4:
		return Value{typ: t, n: int64(math.Float64bits(float64(math.Float32frombits(binary.BigEndian.Uint32(b)))))}, nil
	case Int8, Float8, PgLSN:
		return Value{typ: t, n: int64(binary.BigEndian.Uint64(b))}, nil
	case Timestamptz, Timestamp:
		return parseBinaryTimestamp(int64(binary.BigEndian.Uint64(b)), t)
	case Date:
		return checkedDate(int64(int32(binary.BigEndian.Uint32(b))))
	case Time:
		return parseBinaryTime(int64(binary.BigEndian.Uint64(b)))
	case UUID:
		return uuidValue([16]byte(b)), nil
	case XID8:
		return Value{typ: t, n: int64(binary.BigEndian.Uint64(b))}, nil
	case Interval:
		return Value{typ: t, n: int64(binary.BigEndian.Uint64(b)),
			days:   int32(binary.BigEndian.Uint32(b[8:])),
			months: int32(binary.BigEndian.Uint32(b[12:]))}, nil
	}
	return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot accept a value of type %s", t)
}

func parseBinaryTimestamp(us int64, t Type) (Value, error) {
	if !isTimestamp(us) && !isInfinite(us) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "timestamp out of range")
	}
	return Value{typ: t, n: us}, nil
}

func invalidBinary() error {
	return pgwire.Errorf(pgwire.CodeInvalidBinaryRepresentation, "incorrect binary data format")
}

func parseBinaryNumeric(b []byte) (Value, error) {
	if len(b) < 8 {
		return Null, invalidBinary()
	}
	groups := int(binary.BigEndian.Uint16(b))
	weight := int(int16(binary.BigEndian.Uint16(b[2:])))
	sign := binary.BigEndian.Uint16(b[4:])
	scale := int(binary.BigEndian.Uint16(b[6:]))
	b = b[8:]
	if len(b) != 2*groups || sign != numericPositive && sign != numericNegative ||
		groups > maxDecimalDigits || weight > maxDecimalDigits/4 || weight < -maxDecimalDigits/4 || scale > maxDecimalDigits {
		return Null, invalidBinary()
	}
	n := new(big.Int)
	base := big.NewInt(10_000)
	for i := range groups {
		group := binary.BigEndian.Uint16(b[2*i:])
		if group >= 10_000 {
			return Null, invalidBinary()
		}
		n.Mul(n, base).Add(n, big.NewInt(int64(group)))
	}
	d := decimal{unscaled: n, scale: 4 * (groups - 1 - weight)}
	if d.scale < 0 {
		d = decimal{unscaled: n.Mul(n, pow10(-d.scale))}
	}
	if sign == numericNegative {
		n.Neg(n)
	}
	if !d.fits() {
		return Null, invalidBinary()
	}
	return decimalValue(d.rescale(scale)), nil
}

func parseBinaryInet(b []byte) (Value, error) {
	if len(b) < 4 || len(b) != 4+int(b[3]) || (b[0] != inetFamily4 || b[3] != 4) && (b[0] != inetFamily6 || b[3] != 16) {
		return Null, invalidBinary()
	}
	a, _ := netip.AddrFromSlice(b[4:])
	prefix := netip.PrefixFrom(a, int(b[1]))
	if !prefix.IsValid() {
		return Null, invalidBinary()
	}
	if prefix.IsSingleIP() {
		return InetValue(a), nil
	}
	return Value{typ: Inet, s: prefix.String()}, nil
}
