package syncrep

import "testing"

// FuzzID: what is accepted as a member's identity prints as the same one.
func FuzzID(f *testing.F) {
	for _, text := range []string{"0000000000000001/000000000000000a", "1/2", "/", "ffffffffffffffffff/1", "1/2/3"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var id, again ID
		if id.UnmarshalText(text) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(id.String())); err != nil || again != id {
			t.Errorf("%q is %v, which reads as %v, %v", text, id, again, err)
		}
	})
}

// FuzzParseLevel: what is accepted as synchronous_commit has a name that means the same.
func FuzzParseLevel(f *testing.F) {
	for _, text := range []string{"on", "OFF", "remote_apply", "1", "tru", "local", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		level, err := ParseLevel(text)
		if err != nil {
			return
		}
		if again, err := ParseLevel(level.String()); err != nil || again != level {
			t.Errorf("%q is %v, which reads as %v, %v", text, level, again, err)
		}
	})
}
