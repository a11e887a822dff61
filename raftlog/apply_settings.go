package raftlog

import "maps"

// Limits of the cluster's settings: every state and every snapshot holds them all.
const (
	MaxSettings     = 1000
	MaxSettingName  = 256     // bytes
	MaxSettingValue = 8 << 10 // bytes
)

func (c *SettingSet) change(s *State) error {
	_, known := s.Settings[c.Name]
	switch {
	case c.Name == "":
		return invalid("setting without a name")
	case c.Reset:
		delete(s.Settings, c.Name)
		return nil
	case len(c.Name) > MaxSettingName:
		return invalid("name of a setting of %d bytes, the limit is %d", len(c.Name), MaxSettingName)
	case len(c.Value) > MaxSettingValue:
		return invalid("value of setting %s of %d bytes, the limit is %d", c.Name, len(c.Value), MaxSettingValue)
	case !known && len(s.Settings) >= MaxSettings:
		return invalid("there are %d settings already, which is the limit: reset one", MaxSettings)
	}
	if s.Settings == nil {
		s.Settings = make(map[string]string)
	}
	s.Settings[c.Name] = c.Value
	return nil
}

func (c *SettingsReset) change(s *State) error {
	s.Settings = nil
	return nil
}

// Two reloads with nothing written in between are one.
func (c *Reload) change(s *State) error {
	if maps.Equal(s.Settings, s.Applied) {
		return nil
	}
	s.Applied = maps.Clone(s.Settings)
	s.Generation++
	return nil
}
