package sql

import (
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

var numberFunctions = []Func{
	{Name: "pg_wal_lsn_diff", Args: []Type{PgLSN, PgLSN}, Result: Numeric, builtin: func(e *env, args []Value) (Value, error) {
		return arith('-', args[0], args[1], Numeric, e.loc())
	}},
	{Name: "abs", Args: []Type{Float8}, Result: Float8, builtin: absolute},
	{Name: "abs", Args: []Type{Int4}, Result: Int4, builtin: absolute},
	{Name: "abs", Args: []Type{Int8}, Result: Int8, builtin: absolute},
	{Name: "abs", Args: []Type{Numeric}, Result: Numeric, builtin: absolute},
	{Name: "sign", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(float64(compareFloats(args[0].float(), 0))), nil
	}},
	{Name: "sign", Args: []Type{Numeric}, Result: Numeric, builtin: func(_ *env, args []Value) (Value, error) {
		return decimalValue(decimalFromInt(int64(toDecimal(args[0]).unscaled.Sign()))), nil
	}},
	{Name: "round", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(math.RoundToEven(args[0].float())), nil
	}},
	{Name: "round", Args: []Type{Numeric, Int4}, Defaults: []Value{Int4Value(0)}, Result: Numeric, builtin: roundNumeric},
	{Name: "floor", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(math.Floor(args[0].float())), nil
	}},
	{Name: "ceil", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(math.Ceil(args[0].float())), nil
	}},
	{Name: "ceiling", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(math.Ceil(args[0].float())), nil
	}},
	{Name: "floor", Args: []Type{Numeric}, Result: Numeric, builtin: wholeNumeric(-1)},
	{Name: "ceil", Args: []Type{Numeric}, Result: Numeric, builtin: wholeNumeric(1)},
	{Name: "ceiling", Args: []Type{Numeric}, Result: Numeric, builtin: wholeNumeric(1)},
	{Name: "trunc", Args: []Type{Numeric}, Result: Numeric, builtin: wholeNumeric(0)},
	{Name: "trunc", Args: []Type{Float8}, Result: Float8, builtin: func(_ *env, args []Value) (Value, error) {
		return Float8Value(math.Trunc(args[0].float())), nil
	}},
	{Name: "mod", Args: []Type{Int4, Int4}, Result: Int4, builtin: modulo},
	{Name: "mod", Args: []Type{Int8, Int8}, Result: Int8, builtin: modulo},
	{Name: "mod", Args: []Type{Numeric, Numeric}, Result: Numeric, builtin: modulo},
	{Name: "random", Result: Float8, builtin: func(*env, []Value) (Value, error) { return Float8Value(rand.Float64()), nil }},
	{Name: "to_timestamp", Args: []Type{Float8}, Result: Timestamptz, builtin: func(_ *env, args []Value) (Value, error) {
		switch f := args[0].float(); {
		case math.IsInf(f, 1):
			return Value{typ: Timestamptz, n: infinitelyLate}, nil
		case math.IsInf(f, -1):
			return Value{typ: Timestamptz, n: infinitelyEarly}, nil
		case math.IsNaN(f):
			return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "timestamp cannot be NaN")
		}
		us := math.Round(args[0].float()*1e6) - postgresEpoch
		if us < minTimestamp || us >= endTimestamp {
			return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "timestamp out of range: \"%s\"", textOf(args[0], time.UTC))
		}
		return Value{typ: Timestamptz, n: int64(us)}, nil
	}},
	{Name: "isfinite", Args: []Type{Timestamptz}, Result: Bool, builtin: isFinite},
	{Name: "isfinite", Args: []Type{Timestamp}, Result: Bool, builtin: isFinite},
	{Name: "timezone", Args: []Type{Text, Timestamptz}, Result: Timestamp, builtin: atTimeZone},
	{Name: "timezone", Args: []Type{Text, Timestamp}, Result: Timestamptz, builtin: atTimeZone},
	{Name: "age", Args: []Type{Timestamptz, Timestamptz}, Result: Interval, builtin: age},
	{Name: "age", Args: []Type{Timestamptz}, Result: Interval, builtin: age},
	{Name: "date_trunc", Args: []Type{Text, Timestamptz}, Result: Timestamptz, builtin: dateTrunc},
	{Name: "date_trunc", Args: []Type{Text, Timestamp}, Result: Timestamp, builtin: dateTrunc},
	{Name: "pg_size_bytes", Args: []Type{Text}, Result: Int8, builtin: sizeBytes},
	{Name: "pg_size_pretty", Args: []Type{Int8}, Result: Text, builtin: sizePretty},
	{Name: "pg_size_pretty", Args: []Type{Numeric}, Result: Text, builtin: sizePretty},
	{Name: "extract", Args: []Type{Text, Timestamptz}, Result: Numeric, builtin: extractField},
	{Name: "extract", Args: []Type{Text, Timestamp}, Result: Numeric, builtin: extractField},
	{Name: "extract", Args: []Type{Text, Date}, Result: Numeric, builtin: extractField},
	{Name: "extract", Args: []Type{Text, Interval}, Result: Numeric, builtin: extractField},
	{Name: "date_part", Args: []Type{Text, Timestamptz}, Result: Float8, builtin: datePart},
	{Name: "date_part", Args: []Type{Text, Timestamp}, Result: Float8, builtin: datePart},
	{Name: "date_part", Args: []Type{Text, Date}, Result: Float8, builtin: datePart},
	{Name: "date_part", Args: []Type{Text, Interval}, Result: Float8, builtin: datePart},
}

// wholeNumeric rounds to a whole number: down, towards zero or up for −1, 0 and 1.
func wholeNumeric(direction int) func(*env, []Value) (Value, error) {
	return func(_ *env, args []Value) (Value, error) {
		d := toDecimal(args[0])
		whole, rest := new(big.Int).QuoRem(d.unscaled, pow10(d.scale), new(big.Int))
		if rest.Sign() == direction {
			whole.Add(whole, big.NewInt(int64(direction)))
		}
		return decimalValue(decimal{unscaled: whole}), nil
	}
}

func modulo(e *env, args []Value) (Value, error) {
	return arith('%', args[0], args[1], args[0].typ, e.loc())
}

func isFinite(_ *env, args []Value) (Value, error) { return BoolValue(!isInfinite(args[0].n)), nil }

// zoneOf is the time zone that fields of a time are in: the session's, or UTC, as which a timestamp is kept.
func zoneOf(v Value, e *env) *time.Location {
	if v.typ == Timestamptz {
		return e.loc()
	}
	return time.UTC
}

// dateTrunc is date_trunc(field, time), of a timestamptz in the session's time zone.
func dateTrunc(e *env, args []Value) (Value, error) {
	if isInfinite(args[1].n) {
		return args[1], nil
	}
	v, err := truncated(args[0].s, args[1], timeOf(args[1].n).In(zoneOf(args[1], e)))
	v.typ = args[1].typ
	return v, err
}

func truncated(field string, v Value, t time.Time) (Value, error) {
	year, month, day := t.Date()
	at := func(year int, month time.Month, day, hour, minute, second int) (Value, error) {
		return timestampOf(time.Date(year, month, day, hour, minute, second, 0, t.Location())), nil
	}
	switch strings.TrimSuffix(strings.ToLower(field), "s") {
	case "year":
		return at(year, 1, 1, 0, 0, 0)
	case "quarter":
		return at(year, (month-1)/3*3+1, 1, 0, 0, 0)
	case "month":
		return at(year, month, 1, 0, 0, 0)
	case "week":
		return at(year, month, day-int(t.Weekday()+6)%7, 0, 0, 0)
	case "day":
		return at(year, month, day, 0, 0, 0)
	case "hour":
		return timestampOf(t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))), nil
	case "minute":
		return timestampOf(t.Truncate(time.Minute)), nil
	case "second":
		return timestampOf(t.Truncate(time.Second)), nil
	}
	return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, `unit "%s" not recognized for type %s`, field, v.typ)
}

func absolute(_ *env, args []Value) (Value, error) {
	switch v := args[0]; {
	case v.typ == Float8:
		return Float8Value(math.Abs(v.float())), nil
	case v.typ == Numeric:
		return Value{typ: Numeric, s: strings.TrimPrefix(v.s, "-")}, nil
	case v.n < 0:
		return intArith('-', 0, v.n, v.typ)
	default:
		return v, nil
	}
}

func roundNumeric(_ *env, args []Value) (Value, error) {
	digits := int(min(max(args[1].n, -maxDecimalDigits), maxDecimalDigits))
	d := toDecimal(args[0]).rescale(digits)
	if digits < 0 {
		d = d.rescale(0)
	}
	return decimalValue(d), nil
}

// sizePretty prints a size in the largest unit that leaves it at 10 or more, as dbsize.c does.
func sizePretty(_ *env, args []Value) (Value, error) {
	n := toDecimal(args[0]).rescale(0).unscaled
	limit := big.NewInt(10 * 1024)
	if n.CmpAbs(limit) < 0 {
		return TextValue(n.String() + " bytes"), nil
	}
	// One bit more than the unit is kept, to round half away from zero at the end.
	size := new(big.Int).Quo(n, big.NewInt(1<<9))
	limit.Sub(limit.Mul(limit, big.NewInt(2)), big.NewInt(1))
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	unit := 0
	for unit < len(units)-1 && size.CmpAbs(limit) >= 0 {
		size.Quo(size, big.NewInt(1<<10))
		unit++
	}
	return TextValue(divRound(size, big.NewInt(2)).String() + " " + units[unit]), nil
}

// extractField is EXTRACT(field FROM x): a numeric, seconds with their microseconds.
func extractField(e *env, args []Value) (Value, error) {
	field := strings.ToLower(args[0].s)
	us, whole, ok := int64(0), int64(0), true
	v := ofDay(args[1])
	if v.typ != Interval && isInfinite(v.n) {
		if _, grows, err := infiniteField(args[0].s, args[1].typ, v.n); err != nil || !grows {
			return Null, err
		}
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "a numeric cannot be infinite here").
			WithHint("Use date_part, which returns a double precision.")
	}
	if v.typ == Interval {
		us, whole, ok = intervalField(field, v)
	} else {
		us, whole, ok = timeField(field, v.n, zoneOf(v, e))
	}
	if !ok {
		return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, `unit "%s" not recognized for type %s`, args[0].s, args[1].typ)
	}
	if args[1].typ == Date && us != 0 {
		return decimalValue(decimalFromInt(us / usPerSecond)), nil
	}
	if us != 0 || field == "epoch" || field == "second" || field == "seconds" {
		return decimalValue(decimal{big.NewInt(us), 6}), nil
	}
	return decimalValue(decimalFromInt(whole)), nil
}

// ofDay is v, or when it begins if it is a date.
func ofDay(v Value) Value {
	if v.typ == Date {
		return castTime(v, Timestamp, time.UTC)
	}
	return v
}

// timeField returns a field as microseconds, for epoch and second, or as a whole number.
func timeField(field string, at int64, loc *time.Location) (us, whole int64, ok bool) {
	t := timeOf(at).In(loc)
	switch strings.TrimSuffix(field, "s") {
	case "epoch":
		return at + postgresEpoch, 0, true
	case "second":
		return int64(t.Second())*usPerSecond + int64(t.Nanosecond())/1000, 0, true
	case "minute":
		return 0, int64(t.Minute()), true
	case "hour":
		return 0, int64(t.Hour()), true
	case "day":
		return 0, int64(t.Day()), true
	case "dow":
		return 0, int64(t.Weekday()), true
	case "month":
		return 0, int64(t.Month()), true
	case "year":
		if t.Year() <= 0 {
			return 0, int64(t.Year() - 1), true // there is no year 0
		}
		return 0, int64(t.Year()), true
	}
	return 0, 0, false
}

func intervalField(field string, v Value) (us, whole int64, ok bool) {
	switch strings.TrimSuffix(field, "s") {
	case "epoch":
		days := float64(v.months/12)*daysPerYear + float64(v.months%12)*30 + float64(v.days)
		return int64(days*float64(usPerDay)) + v.n, 0, true
	case "second":
		return v.n % usPerMinute, 0, true
	case "minute":
		return 0, v.n / usPerMinute % 60, true
	case "hour":
		return 0, v.n / usPerHour, true
	case "day":
		return 0, int64(v.days), true
	case "month":
		return 0, int64(v.months % 12), true
	case "year":
		return 0, int64(v.months / 12), true
	}
	return 0, 0, false
}

// infiniteField is a field of infinity: infinite if it grows with time, else there is none.
func infiniteField(unit string, t Type, us int64) (f float64, grows bool, err error) {
	field := strings.ToLower(unit)
	if _, _, ok := timeField(field, 0, time.UTC); !ok {
		return 0, false, pgwire.Errorf(pgwire.CodeInvalidParameterValue, `unit "%s" not recognized for type %s`, unit, t)
	}
	sign := 1
	if us < 0 {
		sign = -1
	}
	field = strings.TrimSuffix(field, "s")
	return math.Inf(sign), field == "epoch" || field == "year", nil
}

func datePart(e *env, args []Value) (Value, error) {
	if v := ofDay(args[1]); v.typ != Interval && isInfinite(v.n) {
		f, grows, err := infiniteField(args[0].s, args[1].typ, v.n)
		if err != nil || !grows {
			return Null, err
		}
		return Float8Value(f), nil
	}
	v, err := extractField(e, args)
	if err != nil {
		return Null, err
	}
	f, err := strconv.ParseFloat(v.s, 64)
	return Float8Value(f), err
}

// A powerExpr is l ^ r of doubles.
type powerExpr struct{ l, r expr }

func (x *powerExpr) typ() Type { return Float8 }

func (x *powerExpr) eval(e *env) (Value, error) {
	l, r, ok, err := evalPair(e, x.l, x.r)
	if !ok {
		return Null, err
	}
	base, exponent := l.float(), r.float()
	power := math.Pow(base, exponent)
	finite := !math.IsInf(base, 0) && !math.IsInf(exponent, 0)
	switch {
	case base == 0 && exponent < 0:
		return Null, pgwire.Errorf(pgwire.CodeInvalidPower, "zero raised to a negative power is undefined")
	case base < 0 && finite && exponent != math.Trunc(exponent):
		return Null, pgwire.Errorf(pgwire.CodeInvalidPower, "a negative number raised to a non-integer power yields a complex result")
	case finite && math.IsInf(power, 0):
		return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "value out of range: overflow")
	case finite && power == 0 && base != 0:
		return Null, pgwire.Errorf(pgwire.CodeNumericValueOutOfRange, "value out of range: underflow")
	}
	return Float8Value(power), nil
}

// sizeUnits are the units of pg_size_bytes, by how often 1024 they are.
var sizeUnits = []string{"bytes", "kB", "MB", "GB", "TB", "PB"}

// sizeBytes is pg_size_bytes: a number, and perhaps a unit.
func sizeBytes(e *env, args []Value) (Value, error) {
	invalid := func() *pgwire.Error {
		return pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid size: "%s"`, args[0].s)
	}
	if len(args[0].s) > maxScalarLen {
		return Null, invalid()
	}
	match := sizePattern.FindStringSubmatch(args[0].s)
	if match == nil {
		return Null, invalid()
	}
	d, ok := parseDecimal(match[1])
	if !ok {
		return Null, invalid()
	}
	times := 0
	if match[2] != "" {
		times = slices.IndexFunc(sizeUnits, func(unit string) bool { return strings.EqualFold(unit, match[2]) })
	}
	if times < 0 {
		return Null, invalid().WithDetail(`Invalid size unit: "%s".`, match[2]).WithHint(`Valid units are "bytes", "kB", "MB", "GB", "TB", and "PB".`)
	}
	d, err := decimalArith('*', d, decimalFromInt(int64(1)<<(10*times)))
	if err != nil {
		return Null, err
	}
	return castValue(decimalValue(d), Int8, e.loc(), nil)
}

var sizePattern = regexp.MustCompile(`^\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*(.*?)\s*$`)
