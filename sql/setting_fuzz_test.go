package sql

import "testing"

// FuzzSetting: a value that a setting accepts, from a command line, from Raft or from a client, is kept in a form
// that it accepts, too, and that means the same.
func FuzzSetting(f *testing.F) {
	for _, value := range []string{"1", "10MB", "-1", "1.5h", "on", "yes", "ANY 1 (a, \"b\")", "remote_apply", "1e3kB", "0x10", " 7 s ", "9999999999999999999GB", "nan"} {
		f.Add(value)
	}
	defs := NewSettings().All()
	f.Fuzz(func(t *testing.T, value string) {
		for i := range defs {
			kept, err := defs[i].canonical(value)
			if err != nil {
				continue
			}
			if again, err := defs[i].canonical(kept); err != nil || again != kept {
				t.Errorf("%s = %q is kept as %q, which reads as %q, %v", defs[i].Name, value, kept, again, err)
			}
			defs[i].display(kept)
		}
	})
}
