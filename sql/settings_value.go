package sql

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// memoryUnits are in bytes, timeUnits in microseconds.
var (
	memoryUnits = map[string]float64{"B": 1, "kB": 1 << 10, "8kB": 8 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
	timeUnits   = map[string]float64{"us": 1, "ms": 1e3, "s": 1e6, "min": 60e6, "h": 3600e6, "d": 86400e6}
)

// unitOrder lists units from the largest, the order in which SHOW tries them.
var unitOrder = []string{"TB", "GB", "MB", "kB", "B", "d", "h", "min", "s", "ms", "us"}

// canonical checks a value and returns the form it is kept in.
func (d *Setting) canonical(value string) (string, error) {
	text, err := d.parse(value)
	if err == nil && d.Check != nil {
		text, err = d.Check(text)
	}
	return text, err
}

func (d *Setting) parse(value string) (string, error) {
	switch d.Kind {
	case KindBool:
		b, ok := boolWord(value)
		if !ok {
			return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `parameter "%s" requires a Boolean value`, d.Name)
		}
		return onOff(b), nil
	case KindInt, KindReal:
		return d.parseNumber(value)
	case KindEnum:
		return d.parseEnum(value)
	}
	if err := checkText(value); err != nil {
		return "", err
	}
	return value, nil
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func (d *Setting) invalid(value string) *pgwire.Error {
	return pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid value for parameter "%s": "%s"`, d.Name, value)
}

// parseEnum accepts the listed words in any case; an enum with on and off takes every boolean.
func (d *Setting) parseEnum(value string) (string, error) {
	folded := strings.ToLower(value)
	if slices.Contains(d.Enum, folded) {
		return folded, nil
	}
	if b, ok := boolWord(folded); ok && slices.Contains(d.Enum, onOff(b)) {
		return onOff(b), nil
	}
	return "", d.invalid(value).WithHint("Available values: %s.", strings.Join(d.Enum, ", "))
}

// parseNumber reads a number with an optional unit and converts it to the base unit.
func (d *Setting) parseNumber(value string) (string, error) {
	text := strings.TrimSpace(value)
	i := len(text)
	for i > 0 && (text[i-1] >= 'A' && text[i-1] <= 'Z' || text[i-1] >= 'a' && text[i-1] <= 'z') {
		i--
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(text[:i]), 64)
	if err != nil || math.IsNaN(f) {
		return "", d.invalid(value)
	}
	if unit := text[i:]; unit != "" {
		factor, ok := d.unitFactor(unit)
		if !ok {
			return "", d.wrongUnit(value)
		}
		f *= factor
	}
	if d.Kind == KindInt {
		if f = math.RoundToEven(f); f > math.MaxInt32 || f < math.MinInt32 {
			return "", d.invalid(value).WithHint("Value exceeds integer range.")
		}
	}
	if f < d.Min || f > d.Max {
		unit := ""
		if d.Unit != "" {
			unit = " " + d.Unit
		}
		return "", pgwire.Errorf(pgwire.CodeInvalidParameterValue, `%s%s is outside the valid range for parameter "%s" (%s .. %s)`,
			d.number(f), unit, d.Name, d.number(d.Min), d.number(d.Max))
	}
	return d.number(f), nil
}

// number prints a value of an integer or real setting.
func (d *Setting) number(f float64) string {
	if d.Kind == KindInt {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// unitFactor is how many base units one unit is.
func (d *Setting) unitFactor(unit string) (float64, bool) {
	for _, units := range []map[string]float64{memoryUnits, timeUnits} {
		base, sameKind := units[d.Unit]
		size, known := units[unit]
		if sameKind && known && unit != "8kB" {
			return size / base, true
		}
	}
	return 0, false
}

func (d *Setting) wrongUnit(value string) error {
	err := d.invalid(value)
	if _, ok := memoryUnits[d.Unit]; ok {
		return err.WithHint(`Valid units for this parameter are "B", "kB", "MB", "GB", and "TB".`)
	}
	if _, ok := timeUnits[d.Unit]; ok {
		return err.WithHint(`Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".`)
	}
	return err
}

// display is the value as SHOW prints it: a positive number in the largest unit that divides it.
func (d *Setting) display(value string) string {
	if d.Kind != KindInt || d.Unit == "" {
		return value
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || n <= 0 {
		return value
	}
	for _, unit := range unitOrder {
		if factor, ok := d.unitFactor(unit); ok && factor >= 1 && math.Mod(n, factor) == 0 {
			return fmt.Sprintf("%.0f%s", n/factor, unit)
		}
	}
	return value + d.Unit
}
