package slots

import (
	"errors"
	"fmt"
)

// saveDirty writes what is out of date. The caller holds disk, so no slot appears or goes meanwhile
// but temporary ones.
func (s *Slots) saveDirty() error {
	var errs []error
	for _, sl := range s.dirty() {
		if err := s.save(sl); err != nil {
			errs = append(errs, fmt.Errorf("save replication slot %s: %w", sl.name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Slots) dirty() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirty []*slot
	for _, sl := range s.slots {
		if sl.dirty && !sl.temporary {
			dirty = append(dirty, sl)
		}
	}
	return dirty
}

// save writes one slot as it is now. Its consumer may move on meanwhile.
//
// During the write, and after a failed one, the file may hold the old position or the new: floor is
// the lower one, and becomes the new one when it is known to be there.
func (s *Slots) save(sl *slot) error {
	s.mu.Lock()
	st, write := sl.wanted(), s.folder.replace
	if !sl.filed {
		write = s.folder.create
	}
	sl.floor = lower(sl.floor, st.restart)
	sl.dirty = false
	s.mu.Unlock()

	err := write(sl.name, st)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		sl.dirty = true
		return err
	}
	sl.floor, sl.filed = st.restart, true
	return nil
}
