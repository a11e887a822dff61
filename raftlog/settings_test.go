package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
)

// A store of a version that knew of no reload has no settings that apply: what is written in it waits
// for the first one.
func TestSettingsOfAnOlderStore(t *testing.T) {
	const old = `{"version":1,"applied":9,"state":{"index":9,"epoch":1,"phase":"steady","settings":{"wal_keep_size":"1GB"}}}`
	m := newMachine(t)
	if err := m.Restore(io.NopCloser(bytes.NewReader([]byte(old)))); err != nil {
		t.Fatal(err)
	}
	m.index = 9
	if s := m.current().State; len(s.Applied) > 0 || s.Generation != 0 || s.Settings["wal_keep_size"] != "1GB" {
		t.Fatalf("settings %v, applied %v, generation %d", s.Settings, s.Applied, s.Generation)
	}
	if err := m.apply(1, &Reload{}); err != nil {
		t.Fatal(err)
	}
	s := m.current().State
	if !maps.Equal(s.Applied, s.Settings) || s.Generation != 1 {
		t.Errorf("after a reload: settings %v, applied %v, generation %d", s.Settings, s.Applied, s.Generation)
	}
	late := newMachine(t)
	late.restore(m.snapshot())
	if late.current().hash() != m.current().hash() {
		t.Errorf("the snapshot has %+v, want %+v", late.current().State, s)
	}
}

// What every state holds is bounded; a value that is there already may always be changed or taken away.
func TestSettingLimits(t *testing.T) {
	m := newMachine(t)
	m.apply(1, initCommand())
	set := func(name, value string) error {
		return m.apply(m.index+1, &SettingSet{Name: name, Value: value})
	}
	tooMuch := func(what string, err error) {
		if _, ok := errors.AsType[*InvalidError](err); !ok {
			t.Errorf("%s: %v, want an InvalidError", what, err)
		}
	}
	tooMuch("name", set(strings.Repeat("n", MaxSettingName+1), ""))
	tooMuch("value", set("n", strings.Repeat("v", MaxSettingValue+1)))
	for i := range MaxSettings {
		if err := set(fmt.Sprintf("s%d", i), "1"); err != nil {
			t.Fatal(err)
		}
	}
	tooMuch("one more", set("more", "1"))
	if err := set("s0", strings.Repeat("v", MaxSettingValue)); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := m.apply(m.index+1, &SettingSet{Name: "s1", Reset: true}); err != nil {
		t.Error(err)
	}
	if err := set(strings.Repeat("n", MaxSettingName), "1"); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
}
