package sql

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
)

// A timestamptz is microseconds since 2000-01-01 UTC, from 4714 BC up to 294277, or infinitely early or late
// (datatype/timestamp.h).
const (
	minTimestamp = -211_813_488_000_000_000
	endTimestamp = 9_223_371_331_200_000_000

	infinitelyEarly = math.MinInt64
	infinitelyLate  = math.MaxInt64
)

func isInfinite(us int64) bool { return us == infinitelyEarly || us == infinitelyLate }

// isTimestamp reports whether us is a time within what PostgreSQL takes for one.
func isTimestamp(us int64) bool { return us >= minTimestamp && us < endTimestamp }

// timeOf converts microseconds since 2000-01-01 UTC, of which there may be more since 1970 than an int64 holds.
func timeOf(us int64) time.Time {
	seconds := us / usPerSecond
	return time.Unix(seconds+postgresEpoch/usPerSecond, (us-seconds*usPerSecond)*1000)
}

// microseconds is the inverse of timeOf.
func microseconds(t time.Time) int64 {
	return (t.Unix()-postgresEpoch/usPerSecond)*usPerSecond + int64(t.Nanosecond())/1000
}

// timestampOf is the value of a time, the zero time too.
func timestampOf(t time.Time) Value { return Value{typ: Timestamptz, n: microseconds(t)} }

// appendTimestamp prints ISO style: 2026-11-21 04:03:03.123456+00, 0044-03-15 12:00:00+00 BC, infinity. Without a time
// zone it prints a timestamp, which has none.
func appendTimestamp(b []byte, us int64, loc *time.Location) []byte {
	switch us {
	case infinitelyEarly:
		return append(b, "-infinity"...)
	case infinitelyLate:
		return append(b, "infinity"...)
	}
	t := timeOf(us).UTC()
	if loc != nil {
		t = t.In(loc)
	}
	b = appendDay(b, t, " 15:04:05")
	b = appendFraction(b, int64(t.Nanosecond())/1000)
	if loc != nil {
		b = appendOffset(b, t)
	}
	if t.Year() <= 0 {
		b = append(b, " BC"...)
	}
	return b
}

// appendDay prints the day of t, and what layout says after it. Before Christ the year stands without its era.
func appendDay(b []byte, t time.Time, layout string) []byte {
	if t.Year() > 0 {
		return t.AppendFormat(b, "2006-01-02"+layout)
	}
	digits := strconv.Itoa(1 - t.Year()) // 1 BC is the year 0
	b = append(append(b, "0000"[min(len(digits), 4):]...), digits...)
	return t.AppendFormat(b, "-01-02"+layout)
}

// appendOffset prints the time zone: +02, -03:30.
func appendOffset(b []byte, t time.Time) []byte {
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
	case "infinity":
		return Value{typ: Timestamptz, n: infinitelyLate}, true
	case "-infinity":
		return Value{typ: Timestamptz, n: infinitelyEarly}, true
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

// parseTimestamp reads ISO 8601 forms with or without a zone, before Christ or not, and the words of namedTime, as a
// timestamptz or a timestamp. Without a zone the session's applies; a timestamp takes no notice of one.
func parseTimestamp(s string, typ Type, loc *time.Location) (Value, error) {
	text := strings.TrimSpace(s)
	if v, ok := namedTime(text, time.Now().In(loc)); ok {
		if typ == Timestamp && !strings.EqualFold(text, "epoch") {
			return castTime(v, typ, loc), nil
		}
		v.typ = typ
		return v, nil
	}
	if typ == Timestamp {
		loc = time.UTC
	}
	outOfRange := func(what string) error {
		return pgwire.Errorf(pgwire.CodeDatetimeFieldOverflow, `%s out of range: "%s"`, what, s)
	}
	text, year, ok := cutYear(text)
	if !ok {
		return Null, invalidInput(typ, s)
	}
	t, ok := parseDateTime(text, year, loc)
	switch {
	case !ok && looksLikeDate(text):
		return Null, outOfRange("date/time field value")
	case !ok:
		return Null, invalidInput(typ, s)
	case year == noYear:
		return Null, outOfRange("date/time field value")
	case t.Year() < -4713 || t.Year() > 294277 || !isTimestamp(microseconds(t)):
		return Null, outOfRange("timestamp")
	}
	if typ == Timestamp {
		return Value{typ: typ, n: wallClock(t)}, nil
	}
	return timestampOf(t), nil
}

// noYear stands for the year 0 of a text: 1 BC comes before 1 AD.
const noYear = math.MinInt

// leapCycle is after how many years the calendar repeats itself.
const leapCycle = 400

// cutYear takes the year, of four digits or more, and the era out of a text: what is left has a year of four
// digits with the same calendar. The year of 1 BC is 0.
func cutYear(s string) (text string, year int, ok bool) {
	beforeChrist := false
	if n := len(s) - 3; n > 0 && (strings.EqualFold(s[n:], " BC") || strings.EqualFold(s[n:], " AD")) {
		beforeChrist = s[n+1]|0x20 == 'b'
		s = strings.TrimRight(s[:n], " ")
	}
	digits, rest, ok := strings.Cut(s, "-")
	if len(digits) < 4 || len(digits) > 6 || !ok {
		return s, 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return s, 0, false
	}
	year = int(n)
	if beforeChrist {
		year = 1 - year
	}
	same := leapCycle + (year%leapCycle+leapCycle)%leapCycle
	if n == 0 {
		year = noYear
	}
	return "0" + strconv.Itoa(same) + "-" + rest, year, true
}

// parseDateTime reads a date and time whose year is one with the calendar of year.
func parseDateTime(text string, year int, loc *time.Location) (t time.Time, ok bool) {
	if len(text) > 10 && (text[10] == 'T' || text[10] == 't') {
		text = text[:10] + " " + text[11:]
	}
	if upper := strings.ToUpper(text); strings.HasSuffix(upper, " UTC") {
		text = text[:len(text)-4] + "Z"
	}
	if i := strings.LastIndexByte(text, ' '); i > 10 {
		text = text[:i] + text[i+1:] // a blank before the zone
	}
	in := func(t time.Time, loc *time.Location) time.Time {
		return time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc).Round(time.Microsecond)
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return in(t, loc), true
		}
		for _, zone := range zoneLayouts {
			if t, err := time.Parse(layout+zone, text); err == nil {
				return in(t, t.Location()), true
			}
		}
	}
	return time.Time{}, false
}

// looksLikeDate reports whether s begins as 2026-13-01 does.
func looksLikeDate(s string) bool {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return false
	}
	_, err := strconv.ParseUint(s[:4]+s[5:7]+s[8:10], 10, 32)
	return err == nil
}
