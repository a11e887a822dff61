package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func mutants(t *testing.T) []Mutant {
	t.Helper()
	all, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every patch applies, and the test that kills it exists.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants(t) {
		if _, err := m.Apply(root); err != nil {
			t.Errorf("mutants.txt:%d: %v", m.Line, err)
		}
		for _, name := range strings.Split(m.Test, "|") {
			if name, _, _ = strings.Cut(name, "/"); !defined(t, m.Package, name) {
				t.Errorf("mutants.txt:%d: mutant %s: %s has no %s", m.Line, m.Name, m.Package, name)
			}
		}
	}
}

// defined reports whether a package has a test of that name, or one that begins so if there is no $ at its end.
func defined(t *testing.T, pkg, test string) bool {
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	name, whole := strings.CutSuffix(strings.TrimPrefix(test, "^"), "$")
	head := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name))
	if whole {
		head = regexp.MustCompile(head.String() + `\(`)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if head.Match(b) {
			return true
		}
	}
	return false
}

// The page that says which test kills which mutant says what is so.
func TestTableInDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, docs))
	if err != nil {
		t.Fatal(err)
	}
	_, same, err := splice(page, Table(mutants(t)))
	if err != nil {
		t.Fatal(err)
	}
	if !same {
		t.Errorf("%s does not say what mutants.txt says: go run ./internal/mutants -table -write", docs)
	}
}

// Those that take a second or two are killed, each time; make mutants runs the others.
func TestFastMutantsDie(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles: runs without -short")
	}
	for _, m := range mutants(t) {
		if !m.Fast {
			continue
		}
		r, err := m.Run(root)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Killed() {
			t.Errorf("mutant %s lives: %s\n%s", m.Name, r.Why, r.Output)
		}
		t.Logf("%s: %v, by %v", m.Name, r.Took, r.Failed)
	}
}

func TestParse(t *testing.T) {
	const good = "# words\nmutant a\nrule   I1: r\nfile   a.go\nkilled ./p TestA/b\nfast\n \tx\n-\ty\n+\tz\n \n"
	all, err := Parse(good)
	want := Mutant{Name: "a", Rule: "I1: r", File: "a.go", Package: "./p", Test: "TestA/b", Fast: true, Old: "\tx\n\ty\n\n", New: "\tx\n\tz\n\n", Line: 2}
	if err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("Parse() = %+v, %v, want %+v", all, err, want)
	}
	for _, bad := range []string{
		good + "\n" + good, strings.Replace(good, "rule", "role", 1), strings.Replace(good, "file   a.go\n", "", 1),
		strings.Replace(good, "+\tz", "+\ty", 1),
	} {
		if all, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %+v", bad, all)
		}
	}
}

// A text that is not there any more, or is there twice, is no mutant.
func TestApplyFailsLoudly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("x\ny\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for old, want := range map[string]string{"y\n": "x\nz\nx\n", "x\n": "", "w\n": ""} {
		m := Mutant{Name: "a", File: "a.go", Old: old, New: "z\n"}
		got, err := m.Apply(dir)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("Apply of %q = %q, %v, want %q", old, got, err, want)
		}
	}
}

// Only a test that fails kills: not the compiler, and not a pattern that matches nothing.
func TestJudge(t *testing.T) {
	const run = `{"Action":"run","Test":"TestA"}` + "\n"
	for out, want := range map[string]string{
		run + `{"Action":"fail","Test":"TestA/b"}` + "\n" + `{"Action":"fail"}`: "TestA",
		run + `{"Action":"pass","Test":"TestA"}` + "\n" + `{"Action":"pass"}`:   "",
		`{"Action":"build-fail"}` + "\n" + `{"Action":"fail"}`:                  "it does not compile",
		`{"Action":"pass"}`:       "no test ran",
		run + `{"Action":"fail"}`: "TestA", // the process ended in the middle of it
	} {
		r := judge([]byte(out))
		if got := strings.Join(r.Failed, " ") + r.Why; got != want {
			t.Errorf("judge(%s) = %q, want %q", out, got, want)
		}
	}
}
