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

// timeOf converts microseconds since 2000-01-01 UTC.
func timeOf(us int64) time.Time { return time.UnixMicro(us + postgresEpoch) }

// appendTimestamp prints ISO style: 2026-11-21 04:03:03.123456+00.
func appendTimestamp(b []byte, us int64, loc *time.Location) []byte {
	t := timeOf(us).In(loc)
	b = t.AppendFormat(b, "2006-01-02 15:04:05")
	b = appendFraction(b, int64(t.Nanosecond())/1000)
	_, offset := t.Zone()
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	b = appendPadded(append(b, sign), offset/3600)
	if offset%3600 != 0 {
		b = appendPadded(append(b, ':'), offset/60%60)
	}
	if offset%60 != 0 {
		b = appendPadded(append(b, ':'), offset%60)
	}
	return b
}

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

var (
	dateLayouts = []string{"2006-01-02 15:04:05.999999999", "2006-01-02 15:04", "2006-01-02"}
	zoneLayouts = []string{"Z07:00:00", "Z07:00", "Z07", "Z0700"}
)

// namedTime is what a word stands for when it is now, whose time zone tells when a day begins.
func namedTime(word string, now time.Time) (v Value, ok bool) {
	days := 0
	switch strings.ToLower(word) {
	case "now":
		return TimeValue(now), true
	case "epoch":
		return TimeValue(time.Unix(0, 0)), true
	case "tomorrow":
		days = 1
	case "yesterday":
		days = -1
	case "today":
	default:
		return Null, false
	}
	return TimeValue(time.Date(now.Year(), now.Month(), now.Day()+days, 0, 0, 0, 0, now.Location())), true
}

// parseTimestamp reads ISO 8601 forms with or without a zone, and the words of namedTime. Without a zone the
// session's applies.
func parseTimestamp(s string, loc *time.Location) (Value, error) {
	text := strings.TrimSpace(s)
	if v, ok := namedTime(text, time.Now().In(loc)); ok {
		return v, nil
	}
	if len(text) > 10 && (text[10] == 'T' || text[10] == 't') {
		text = text[:10] + " " + text[11:]
	}
	if upper := strings.ToUpper(text); strings.HasSuffix(upper, " UTC") {
		text = text[:len(text)-4] + "Z"
	}
	if i := strings.LastIndexByte(text, ' '); i > 10 {
		text = text[:i] + text[i+1:] // a blank before the zone
	}
	for _, layout := range dateLayouts {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil {
			return TimeValue(t.Round(time.Microsecond)), nil
		}
		for _, zone := range zoneLayouts {
			if t, err := time.Parse(layout+zone, text); err == nil {
				return TimeValue(t.Round(time.Microsecond)), nil
			}
		}
	}
	if looksLikeDate(text) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, `date/time field value out of range: "%s"`, s)
	}
	return Null, invalidInput(Timestamptz, s)
}

// looksLikeDate reports whether s begins as 2026-13-01 does.
func looksLikeDate(s string) bool {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	_, err := strconv.ParseUint(s[:4]+s[5:7]+s[8:10], 10, 32)
	return err == nil
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
// does; days follow the calendar of loc.
func addInterval(us int64, iv Value, sign int, loc *time.Location) (Value, error) {
	t := timeOf(us).In(loc)
	if iv.months != 0 {
		t = addMonths(t, sign*int(iv.months))
	}
	t = t.AddDate(0, 0, sign*int(iv.days))
	at := t.UnixMicro() - postgresEpoch
	sum := at + int64(sign)*iv.n
	if y := t.Year(); y < -4712 || y > 294276 || (sum > at) != (int64(sign)*iv.n > 0) && iv.n != 0 {
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
func intervalBetween(a, b int64) Value {
	us := a - b
	return Value{typ: Interval, days: int32(us / usPerDay), n: us % usPerDay}
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
