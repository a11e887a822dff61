package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	fast := slices.DeleteFunc(mutants(t), func(m Mutant) bool { return !m.Fast })
	base, err := NewBaseline(root, fast)
	if err != nil {
		t.Fatal(err)
	}
	for r := range tryAll(root, fast, base, 2) {
		if r.err != nil || !r.Killed() {
			t.Errorf("mutant %s lives: %v %s\n%s", r.Name, r.err, r.Why, r.Output)
		}
		t.Logf("%s: %v, by %v", r.Name, r.Took, r.Failed)
	}
}

func TestParse(t *testing.T) {
	const good = "# words\nmutant a\nrule   I1: r\nfile   a.go\nkilled ./p TestA/b\nfast\nhangs\n \tx\n-\ty\n+\tz\n \n"
	all, err := Parse(good)
	want := Mutant{Name: "a", Rule: "I1: r", File: "a.go", Package: "./p", Test: "TestA/b", Fast: true, Hangs: true, Old: "\tx\n\ty\n\n", New: "\tx\n\tz\n\n", Line: 2}
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

// Only a test that fails kills: not the compiler, not a pattern that matches nothing, not a clock, and not a test that
// fails anyway.
func TestJudge(t *testing.T) {
	const (
		run  = `{"Action":"run","Test":"TestA"}` + "\n"
		fail = `{"Action":"fail","Test":"TestA"}` + "\n"
		end  = `{"Action":"fail"}` + "\n"
		late = `{"Action":"output","Test":"TestA","Output":"panic: test timed out after 2m0s\n"}` + "\n"
	)
	for out, want := range map[string]string{
		run + `{"Action":"fail","Test":"TestA/b"}` + "\n" + end:                 "TestA",
		run + `{"Action":"pass","Test":"TestA"}` + "\n" + `{"Action":"pass"}`:   "",
		run + `{"Action":"skip","Test":"TestA"}` + "\n" + `{"Action":"pass"}`:   "its tests skip themselves",
		run + `{"Action":"pass","Test":"TestA/b"}` + "\n" + `{"Action":"pass"}`: "its tests skip themselves",
		`{"Action":"build-fail"}` + "\n" + end:                                  "it does not compile",
		`{"Action":"pass"}`:                                                     "no test ran",
		run + end:                                                               "TestA", // the process ended in the middle of it
		run + late + fail + end:                                                 `TestA took longer than 2m0s: if that is how it notices, say so with a line "hangs"`,
		run + late + end:                                                        `TestA took longer than 2m0s: if that is how it notices, say so with a line "hangs"`,
		run + fail + late + end:                                                 "TestA",
		run + `{"Action":"output","Output":"signal: killed\n"}` + "\n" + end:    "somebody killed the test",
		`{"Action":"run","Test":"TestB"}` + "\n" + `{"Action":"fail","Test":"TestB"}` + "\n" + end: "without it they do not pass either: TestB",
	} {
		r := judge([]byte(out))
		r.against(Result{Passed: []string{"TestA"}})
		if got := strings.Join(r.Failed, " ") + r.Why; got != want || r.Killed() != (want == "TestA") {
			t.Errorf("judge(%s) = %q, want %q; killed: %v", out, got, want, r.Killed())
		}
	}
}

// A package's tests run once without a mutant, those that are asked for and no others.
func TestPatterns(t *testing.T) {
	got := patterns([]Mutant{
		{Package: "./a", Test: "TestX$"}, {Package: "./b", Test: "TestZ/sub"}, {Package: "./a", Test: "TestY"},
		{Package: "./a", Test: "TestX$"}, {Package: "./c"},
	})
	if want := map[string]string{"./a": "TestX$|TestY", "./b": "TestZ/sub", "./c": ""}; !maps.Equal(got, want) {
		t.Errorf("patterns() = %q, want %q", got, want)
	}
}

// A test that fails anyway, one that hangs and one that skips itself kill nothing, as go test runs them.
func TestRunAgainstBaseline(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles: runs without -short")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module m\n\ngo 1.26\n",
		"a.go":   "package m\n\nfunc f() int {\n\treturn 1\n}\n",
		"a_test.go": "package m\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) {\n\tif f() != 1 {\n\t\tt.Error(f())\n\t}\n}\n\n" +
			"func TestBad(t *testing.T) { t.Error(f()) }\n\nfunc TestSkips(t *testing.T) { t.Skip() }\n\nfunc TestBlind(t *testing.T) { f() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all []Mutant
	for _, test := range []string{"TestGood", "TestBad", "TestSkips", "TestBlind", "TestNone"} {
		all = append(all, Mutant{Name: test, File: "a.go", Package: ".", Test: test, Old: "\treturn 1\n", New: "\treturn 2\n"})
	}
	base, err := NewBaseline(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"TestGood": "", "TestBad": "without it they do not pass either: TestBad", "TestSkips": "its tests skip themselves",
		"TestBlind": "", "TestNone": "no test ran",
	}
	for r := range tryAll(dir, all, base, 2) {
		if r.err != nil || r.Why != want[r.Name] || r.Killed() != (r.Name == "TestGood") {
			t.Errorf("%s: killed %v, %q, %v; want %q", r.Name, r.Killed(), r.Why, r.err, want[r.Name])
		}
	}
}
