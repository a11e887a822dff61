package sql

import (
	"math"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// Dates, times of day and timestamps without a time zone, which drivers send for their own types. A date is days since
// 2000-01-01 within the years of timestamps, or infinitely early or late; a timestamp is kept as the timestamptz that
// it would be in UTC.

const (
	infiniteDay    = math.MaxInt32
	minusInfDay    = math.MinInt32
	usPerLongDay   = 24 * usPerHour // 24:00:00 is the last time of a day
	minDay, endDay = minTimestamp / usPerDay, endTimestamp / usPerDay
)

// wallClock is what a clock shows at t in its zone, as a timestamp.
func wallClock(t time.Time) int64 {
	return microseconds(time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC))
}

// inZone is the timestamptz at which a clock in loc shows a timestamp.
func inZone(us int64, loc *time.Location) int64 {
	if isInfinite(us) {
		return us
	}
	t := timeOf(us).UTC()
	return microseconds(time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc))
}

// wholeDays is how many days have passed at a timestamp, rounded down.
func wholeDays(us int64) int64 {
	switch us {
	case infinitelyEarly:
		return minusInfDay
	case infinitelyLate:
		return infiniteDay
	}
	days := us / usPerDay
	if us%usPerDay < 0 {
		days--
	}
	return days
}

// castTime converts a date, timestamp or timestamptz to one of the others, or to the time of day.
func castTime(v Value, t Type, loc *time.Location) Value {
	at := v.n // as a timestamp
	switch {
	case v.typ == t:
		return v
	case v.typ == Date && v.n == infiniteDay:
		at = infinitelyLate
	case v.typ == Date && v.n == minusInfDay:
		at = infinitelyEarly
	case v.typ == Date:
		at *= usPerDay
	case v.typ == Timestamptz && !isInfinite(v.n):
		at = wallClock(timeOf(v.n).In(loc))
	}
	switch {
	case t == Date:
		at = wholeDays(at)
	case t == Timestamptz:
		at = inZone(at, loc)
	case t == Time && isInfinite(at):
		return Null
	case t == Time:
		at -= wholeDays(at) * usPerDay
	}
	return Value{typ: t, n: at}
}

// timeArith adds r, an interval or days, to a time, or takes it away, or another time of its type.
func timeArith(l, r Value, sign int, loc *time.Location) (Value, error) {
	switch {
	case l.typ == Date && r.typ == Date:
		if isInfiniteDay(l.n) || isInfiniteDay(r.n) {
			return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "cannot subtract infinite dates")
		}
		return Int4Value(int32(l.n - r.n)), nil
	case r.typ.family() == familyTime:
		return intervalBetween(l.n, r.n)
	case l.typ == Date && r.typ != Interval:
		if isInfiniteDay(l.n) {
			return l, nil
		}
		return checkedDate(l.n + int64(sign)*r.n)
	case l.typ == Timestamptz:
		return addInterval(l.n, r, sign, loc)
	}
	sum, err := addInterval(castTime(l, Timestamp, time.UTC).n, r, sign, time.UTC)
	if err == nil {
		sum.typ = Timestamp
	}
	return sum, err
}

func isInfiniteDay(day int64) bool { return day == infiniteDay || day == minusInfDay }

// checkedDate is a date, or the error if that is none.
func checkedDate(day int64) (Value, error) {
	if !isInfiniteDay(day) && (day < minDay || day >= endDay) {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "date out of range")
	}
	return Value{typ: Date, n: day}, nil
}

// parseDate reads what parseTimestamp reads, and keeps the day.
func parseDate(s string, loc *time.Location) (Value, error) {
	v, err := parseTimestamp(s, Timestamp, loc)
	if e, ok := err.(*pgwire.Error); ok && e.Code == pgwire.CodeInvalidDatetimeFormat {
		return Null, invalidInput(Date, s)
	}
	if err != nil {
		return Null, err
	}
	return castTime(v, Date, loc), nil
}

func appendDate(b []byte, day int64) []byte {
	switch day {
	case infiniteDay:
		return append(b, "infinity"...)
	case minusInfDay:
		return append(b, "-infinity"...)
	}
	t := time.Date(2000, 1, 1+int(day), 0, 0, 0, 0, time.UTC)
	b = appendDay(b, t, "")
	if t.Year() <= 0 {
		b = append(b, " BC"...)
	}
	return b
}

// parseTime reads hh:mm[:ss[.ffffff]].
func parseTime(s string) (Value, error) {
	text := strings.TrimSpace(s)
	us, ok := parseClock(text)
	if !ok || !isDigit(text[0]) {
		return Null, invalidInput(Time, s)
	}
	if us > usPerLongDay {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, `date/time field value out of range: "%s"`, s)
	}
	return Value{typ: Time, n: us}, nil
}

func parseBinaryTime(us int64) (Value, error) {
	if us < 0 || us > usPerLongDay {
		return Null, pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, "time out of range")
	}
	return Value{typ: Time, n: us}, nil
}

func appendTime(b []byte, us int64) []byte {
	seconds := us / usPerSecond
	b = appendPadded(b, int(seconds/3600))
	b = appendPadded(append(b, ':'), int(seconds/60%60))
	b = appendPadded(append(b, ':'), int(seconds%60))
	return appendFraction(b, us%usPerSecond)
}

// atTimeZone is x AT TIME ZONE zone: a timestamptz as a clock there shows it, or when a clock there shows a timestamp.
func atTimeZone(_ *env, args []Value) (Value, error) {
	zone, err := loadZone(args[0].s)
	if err != nil {
		return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, `time zone "%s" not recognized`, args[0].s)
	}
	if args[1].typ == Timestamptz {
		return castTime(args[1], Timestamp, zone), nil
	}
	return castTime(args[1], Timestamptz, zone), nil
}

// intervalZone is the time zone that an interval to the east of Greenwich stands for.
func intervalZone(v Value) (*time.Location, error) {
	for what, n := range map[string]int32{"days": v.days, "months": v.months} {
		if n != 0 {
			return nil, pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "TimeZone": "INTERVAL '%s'"`, textOf(v, nil)).
				WithDetail("Cannot specify %s in time zone interval.", what)
		}
	}
	return hoursEast(float64(v.n) / float64(usPerHour))
}
