package drill

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a drill that was killed has left goes with the next one; what was left on purpose stays.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	left := &Leftovers{}
	var made []*folder
	for range 3 {
		f, err := makeFolder(left)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, f)
	}
	kept, removed, killed := made[0], made[1], made[2]
	if got := left.List(); len(got) != 3 || !strings.Contains(got[2], killed.path) {
		t.Errorf("left behind would be %q, want all three folders", got)
	}
	if err := kept.keep(); err != nil {
		t.Error(err)
	}
	if err := removed.remove(); err != nil {
		t.Error(err)
	}
	if got := left.List(); len(got) != 1 || !strings.Contains(got[0], killed.path) {
		t.Errorf("left behind would be %q, want %s alone", got, killed.path)
	}
	killed.owned.Close() // as the end of its process does
	if got := sweep(); len(got) != 1 || got[0] != killed.path {
		t.Errorf("swept %v, want %s", got, killed.path)
	}
	there, _ := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if len(there) != 1 || there[0] != kept.path {
		t.Errorf("left are %v, want %s", there, kept.path)
	}
}

// Nothing is proved by drills that are not run.
func TestAllSkipped(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	none := Drill{Name: "none", Lacks: func() string { return "no luck" }}
	r := Execute(context.Background(), Config{Progress: func(string) {}, Left: &Leftovers{}}, []Drill{none, none})
	if r.OK || !r.Skipped() || !strings.Contains(strings.Join(r.Lines(), "\n"), "NOTHING was checked") {
		t.Errorf("%+v", r)
	}
	if r.Drills = append(r.Drills, &Result{}); r.Skipped() {
		t.Error("a drill that was run counts as skipped")
	}
}
