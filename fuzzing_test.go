package longship_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	decoder    = regexp.MustCompile(`(?m)^func (?:\((?:\w+ )?\*?(\w+)(?:\[[^\]]*\])?\) )?((?:[Pp]arse|[Dd]ecode)(?:[A-Z]\w*)?|Unmarshal\w*)[\[(]`)
	inTable    = regexp.MustCompile("`([a-z/]+)\\.(\\w+(?:\\.\\w+)?)`")
)

// docs/testing.md has every fuzz target there is, and every function that decodes something, each of which has
// one or is said to need none.
func TestFuzzing(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		folder := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range fuzzTarget.FindAllStringSubmatch(string(text), -1) {
				there[folder+"."+m[1]] = true
			}
			return err
		}
		for _, m := range decoder.FindAllStringSubmatch(string(text), -1) {
			there[folder+"."+strings.TrimPrefix(m[1]+"."+m[2], ".")] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Fuzzing\n")
	section, _, _ = strings.Cut(section, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(section) {
		names := inTable.FindAllString(line, -1)
		for _, name := range names {
			name = strings.Trim(name, "`")
			if listed[name] = true; !there[name] && !strings.HasSuffix(name, ".json") {
				t.Errorf("docs/testing.md names %s, which is not there", name)
			}
		}
		if strings.HasPrefix(line, "| ") && len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ".Fuzz") }) {
			t.Errorf("docs/testing.md names no target in: %s", line)
		}
	}
	for name := range there {
		if !listed[name] {
			t.Errorf("docs/testing.md does not name %s", name)
		}
	}
}
