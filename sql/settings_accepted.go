package sql

import (
	_ "embed" // pg_settings.txt
	"fmt"
	"math"
	"strconv"
	"strings"
)

// pg_settings.txt lists settings of PostgreSQL that steer what Longship does not have: its planner, its workers, its
// vacuum, its tables. Drivers, pools and dumps set them, and a session may: no answer changes by it. Those that would
// have to change something are not among them.
//
//go:embed pg_settings.txt
var pgSettingsText string

// acceptedSettings are the settings of pg_settings.txt. ALTER SYSTEM refuses them: they are for what a client sends.
func acceptedSettings() []Setting {
	list := make([]Setting, 0, strings.Count(pgSettingsText, "\n"))
	for line := range strings.Lines(pgSettingsText) {
		if line[0] == '#' {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		def := Setting{
			Name: f[0], Kind: Kind(f[1]), Unit: f[2], Boot: f[3], Category: f[7], Short: f[8] + " Accepted, without effect.",
			Context: ContextUser, NotInFile: true,
		}
		if def.Kind == KindInt || def.Kind == KindReal {
			def.Min, def.Max = limit(def.Name, f[4]), limit(def.Name, f[5])
		}
		if f[6] != "" {
			def.Enum = strings.Split(f[6], ",")
		}
		list = append(list, def)
	}
	return list
}

func limit(name, text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) {
		panic(fmt.Sprintf("sql: pg_settings.txt: %s: %q is no limit", name, text))
	}
	return f
}
