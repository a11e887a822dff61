package sql

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var errUnknownZone = errors.New("unknown time zone")

// loadZone finds a time zone by its name in any case, by hours to the east of Greenwich, or by a fixed offset as POSIX
// writes it, which counts to the west: Europe/Berlin, 2, -3.5, <+02>-02. Its name is what SHOW prints.
func loadZone(name string) (*time.Location, error) {
	if len(name) > maxZoneName {
		return nil, errUnknownZone
	}
	if hours, err := strconv.ParseFloat(name, 64); err == nil {
		return hoursEast(hours)
	}
	if m := posixZone.FindStringSubmatch(name); m != nil {
		return fixedZone(name, m[1:])
	}
	if name == "" || strings.EqualFold(name, "local") {
		return nil, errUnknownZone
	}
	for _, spelling := range []string{name, strings.ToUpper(name), titleZone(name)} {
		if zone, err := time.LoadLocation(spelling); err == nil {
			return zone, nil
		}
	}
	return nil, errUnknownZone
}

// maxZoneName is how long the name of a time zone may be, in bytes; PostgreSQL's TZ_STRLEN_MAX.
const maxZoneName = 255

// hoursEast is the zone of SET TIME ZONE 2, under the name that PostgreSQL gives it.
func hoursEast(hours float64) (*time.Location, error) {
	if !(math.Abs(hours) <= 167) {
		return nil, errUnknownZone
	}
	seconds := int(hours * 3600)
	return time.FixedZone(fmt.Sprintf("<%s>%s", clockOffset(seconds), clockOffset(-seconds)), seconds), nil
}

// clockOffset prints +02 or -03:30.
func clockOffset(seconds int) string {
	sign := '+'
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	text := fmt.Sprintf("%c%02d", sign, seconds/3600)
	if seconds%3600 != 0 {
		text += fmt.Sprintf(":%02d", seconds/60%60)
	}
	if seconds%60 != 0 {
		text += fmt.Sprintf(":%02d", seconds%60)
	}
	return text
}

// posixZone is a zone without summer time as POSIX has it: a name, which PostgreSQL lets be missing, and hours,
// minutes and seconds to the west.
var posixZone = regexp.MustCompile(`^(?:[A-Za-z]{3,}|<[A-Za-z0-9:+-]+>)?([+-]?)([0-9]{1,3})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?$`)

// fixedZone makes the zone of a sign, hours, minutes and seconds.
func fixedZone(name string, parts []string) (*time.Location, error) {
	seconds := 0
	for i, limit := range []int{167, 59, 59} {
		n, _ := strconv.Atoi(parts[i+1])
		if n > limit {
			return nil, errUnknownZone
		}
		seconds = seconds*60 + n
	}
	if parts[0] != "-" {
		seconds = -seconds
	}
	return time.FixedZone(name, seconds), nil
}

// titleZone spells a name as the database of time zones does: America/New_York, Africa/Dar_es_Salaam.
func titleZone(name string) string {
	small := map[string]bool{"es": true, "of": true, "au": true}
	var b strings.Builder
	for start, i := 0, 0; i <= len(name); i++ {
		if i < len(name) && strings.IndexByte("/_-", name[i]) < 0 {
			continue
		}
		word := strings.ToLower(name[start:i])
		if word != "" && !small[word] {
			word = string(unicode.ToUpper(rune(word[0]))) + word[1:]
		}
		b.WriteString(word)
		if i < len(name) {
			b.WriteByte(name[i])
		}
		start = i + 1
	}
	return b.String()
}
