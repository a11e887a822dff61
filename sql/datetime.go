package sql

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

const (
	usPerSecond = int64(1_000_000)
	usPerMinute = 60 * usPerSecond
	usPerHour   = 60 * usPerMinute
	usPerDay    = 24 * usPerHour
	daysPerYear = 365.25
)

// appendFraction prints microseconds below a second, without trailing zeros.
func appendFraction(b []byte, us int64) []byte {
	if us == 0 {
		return b
	}
	digits := strconv.AppendInt(nil, usPerSecond+us, 10)
	digits[0] = '.'
	for digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return append(b, digits...)
}

func appendPadded(b []byte, n int) []byte {
	if n < 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// scaleInterval is an interval times or divided by f. What is left of months becomes days of 30 to the month,
// and of days, hours, as interval_mul has it.
func scaleInterval(op byte, v Value, f float64) (Value, error) {
	if op == '/' {
		if f == 0 {
			return Null, divisionByZero()
		}
		f = 1 / f
	}
	months, restMonths := math.Modf(float64(v.months) * f)
	days, restDays := math.Modf(float64(v.days)*f + restMonths*30)
	us := math.Round(float64(v.n)*f + restDays*float64(usPerDay))
	if math.Abs(months) > math.MaxInt32 || math.Abs(days) > math.MaxInt32 || math.Abs(us) >= math.MaxInt64 || math.IsNaN(f) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "interval out of range")
	}
	return Value{typ: Interval, months: int32(months), days: int32(days), n: int64(us)}, nil
}

// appendInterval prints PostgreSQL's own style: 1 year 2 mons 3 days 04:05:06.789.
func appendInterval(b []byte, v Value) []byte {
	start := len(b)
	unit := func(n int64, name string) {
		if n == 0 {
			return
		}
		if len(b) > start {
			b = append(b, ' ')
		}
		b = append(strconv.AppendInt(b, n, 10), ' ')
		b = append(b, name...)
		if n != 1 {
			b = append(b, 's')
		}
	}
	unit(int64(v.months/12), "year")
	unit(int64(v.months%12), "mon")
	unit(int64(v.days), "day")
	if v.n == 0 && len(b) > start {
		return b
	}
	if len(b) > start {
		b = append(b, ' ')
	}
	us := uint64(v.n)
	if v.n < 0 {
		b = append(b, '-')
		us = -us
	} else if v.days < 0 || v.months < 0 {
		b = append(b, '+')
	}
	seconds := us / uint64(usPerSecond)
	b = appendPadded(b, int(seconds/3600))
	b = appendPadded(append(b, ':'), int(seconds/60%60))
	b = appendPadded(append(b, ':'), int(seconds%60))
	return appendFraction(b, int64(us%uint64(usPerSecond)))
}

// intervalUnits give each unit in months, days or microseconds.
var intervalUnits = map[string]Value{
	"us": {n: 1}, "usec": {n: 1}, "microsecond": {n: 1},
	"ms": {n: 1000}, "msec": {n: 1000}, "millisecond": {n: 1000},
	"s": {n: usPerSecond}, "sec": {n: usPerSecond}, "second": {n: usPerSecond},
	"m": {n: usPerMinute}, "min": {n: usPerMinute}, "minute": {n: usPerMinute},
	"h": {n: usPerHour}, "hr": {n: usPerHour}, "hour": {n: usPerHour},
	"d": {days: 1}, "day": {days: 1}, "w": {days: 7}, "week": {days: 7},
	"mon": {months: 1}, "month": {months: 1}, "y": {months: 12}, "year": {months: 12},
}

// parseInterval reads quantities with units and an optional hh:mm[:ss[.ffffff]], such as
// "1 day 02:00:00" or "1.5 hours ago". A bare number counts seconds.
func parseInterval(s string) (Value, error) {
	fields := strings.Fields(strings.ToLower(s))
	ago := len(fields) > 1 && fields[len(fields)-1] == "ago"
	if ago {
		fields = fields[:len(fields)-1]
	}
	if len(fields) == 0 {
		return Null, invalidInput(Interval, s)
	}
	var sum Value
	for len(fields) > 0 {
		used, ok := addIntervalField(&sum, fields)
		if !ok {
			return Null, invalidInput(Interval, s)
		}
		fields = fields[used:]
	}
	if ago {
		sum.n, sum.days, sum.months = -sum.n, -sum.days, -sum.months
	}
	sum.typ = Interval
	return sum, nil
}

// addIntervalField adds the quantity that fields begins with and says how many fields it took.
func addIntervalField(sum *Value, fields []string) (used int, ok bool) {
	if strings.Contains(fields[0], ":") {
		us, ok := parseClock(fields[0])
		sum.n += us
		return 1, ok
	}
	number, unit := splitQuantity(fields[0])
	used = 1
	if unit == "" {
		unit = "s"
		if len(fields) > 1 && !isDigit(fields[1][0]) {
			unit, used = fields[1], 2
		}
	}
	factor, ok := intervalUnits[unit]
	if !ok {
		factor, ok = intervalUnits[strings.TrimSuffix(unit, "s")]
	}
	q, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || math.Abs(q) > 1e9 {
		return 0, false
	}
	months := q * float64(factor.months)
	days := q*float64(factor.days) + (months-math.Trunc(months))*30
	us := q*float64(factor.n) + (days-math.Trunc(days))*float64(usPerDay)
	if math.Abs(months) > math.MaxInt32 || math.Abs(days) > math.MaxInt32 || math.Abs(us) > math.MaxInt64/8 {
		return 0, false
	}
	sum.months += int32(months)
	sum.days += int32(days)
	sum.n += int64(math.Round(us))
	return used, true
}

// splitQuantity splits 10min into 10 and min.
func splitQuantity(s string) (number, unit string) {
	i := 0
	for i < len(s) && (isDigit(s[i]) || strings.IndexByte("+-.", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}

// parseClock reads [-]hh:mm[:ss[.ffffff]] as microseconds.
func parseClock(s string) (int64, bool) {
	rest, negative := strings.CutPrefix(s, "-")
	parts := strings.Split(strings.TrimPrefix(rest, "+"), ":")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, false
	}
	hours, err1 := strconv.ParseUint(parts[0], 10, 24)
	minutes, err2 := strconv.ParseUint(parts[1], 10, 8)
	seconds, err3 := 0.0, error(nil)
	if len(parts) == 3 {
		seconds, err3 = strconv.ParseFloat(parts[2], 64)
	}
	if err1 != nil || err2 != nil || err3 != nil || minutes > 59 || !(seconds >= 0 && seconds < 61) {
		return 0, false
	}
	us := int64(hours)*usPerHour + int64(minutes)*usPerMinute + int64(math.Round(seconds*float64(usPerSecond)))
	if negative {
		us = -us
	}
	return us, true
}

// addInterval adds months, days and time to a timestamp, in that order, as timestamptz_pl_interval
// does; days follow the calendar of loc. Infinity stays what it is.
func addInterval(us int64, iv Value, sign int, loc *time.Location) (Value, error) {
	if isInfinite(us) {
		return Value{typ: Timestamptz, n: us}, nil
	}
	t := timeOf(us).In(loc)
	if iv.months != 0 {
		t = addMonths(t, sign*int(iv.months))
	}
	t = t.AddDate(0, 0, sign*int(iv.days))
	at := microseconds(t)
	sum := at + int64(sign)*iv.n
	if y := t.Year(); y < -4713 || y > 294277 || (sum > at) != (int64(sign)*iv.n > 0) && iv.n != 0 || !isTimestamp(sum) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "timestamp out of range")
	}
	return Value{typ: Timestamptz, n: sum}, nil
}

// addMonths keeps the day of the month if the month has it, else takes its last day.
func addMonths(t time.Time, months int) time.Time {
	first := time.Date(t.Year(), t.Month(), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location()).AddDate(0, months, 0)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// intervalBetween is a − b in days and time, as timestamptz_mi gives it.
func intervalBetween(a, b int64) (Value, error) {
	if isInfinite(a) || isInfinite(b) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "cannot subtract infinite timestamps")
	}
	us := a - b
	return Value{typ: Interval, days: int32(us / usPerDay), n: us % usPerDay}, nil
}

// intervalOrder is the length intervals compare by: a month counts 30 days.
func intervalOrder(v Value) (days, us int64) {
	days = int64(v.months)*30 + int64(v.days) + v.n/usPerDay
	us = v.n % usPerDay
	if us < 0 {
		days, us = days-1, us+usPerDay
	}
	return days, us
}

// age is age(later, earlier) or age(earlier), which is up to midnight: years, months, days and time as the calendar
// counts them.
func age(e *env, args []Value) (Value, error) {
	later, earlier := args[0], args[0]
	if len(args) == 2 {
		earlier = args[1]
	} else {
		later = castTime(castTime(TimeValue(e.session.now()), Date, e.loc()), Timestamptz, e.loc())
	}
	if isInfinite(later.n) || isInfinite(earlier.n) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "timestamp out of range")
	}
	return calendarAge(timeOf(later.n).In(e.loc()), timeOf(earlier.n).In(e.loc())), nil
}

// calendarAge is a − b as timestamp_age counts: what is borrowed from a month is the days of the earlier one.
func calendarAge(a, b time.Time) Value {
	sign := int64(1)
	if a.Before(b) {
		a, b, sign = b, a, -1
	}
	months := (a.Year()-b.Year())*12 + int(a.Month()) - int(b.Month())
	days := a.Day() - b.Day()
	clock := func(t time.Time) int64 {
		return int64(t.Hour())*usPerHour + int64(t.Minute())*usPerMinute + int64(t.Second())*usPerSecond + int64(t.Nanosecond())/1000
	}
	us := clock(a) - clock(b)
	if us < 0 {
		us, days = us+usPerDay, days-1
	}
	if days < 0 {
		days += time.Date(b.Year(), b.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		months--
	}
	return Value{typ: Interval, months: int32(sign) * int32(months), days: int32(sign) * int32(days), n: sign * us}
}
