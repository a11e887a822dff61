package slots

import (
	"errors"
	"fmt"
)

// What can be wrong with a request. The error is an *Error that says about which slot.
var (
	ErrExists           = errors.New("slot exists already")        // SQLSTATE 42710
	ErrNotFound         = errors.New("slot does not exist")        // 42704
	ErrActive           = errors.New("slot is in use")             // 55006
	ErrNoneFree         = errors.New("all slots are in use")       // 53400
	ErrNameTooShort     = errors.New("slot name is too short")     // 42602
	ErrNameTooLong      = errors.New("slot name is too long")      // 42622
	ErrInvalidCharacter = errors.New("invalid character in name")  // 42602
	ErrUnsynced         = errors.New("directory cannot be synced") // see Slots
)

// An Error is a request about a slot that cannot be granted. Its text is PostgreSQL's message.
type Error struct {
	Err  error // one of the sentinels of this package
	Name string
	PID  int32 // with ErrActive: who uses the slot
}

func (e *Error) Error() string {
	switch e.Err {
	case ErrExists:
		return fmt.Sprintf("replication slot \"%s\" already exists", e.Name)
	case ErrNotFound:
		return fmt.Sprintf("replication slot \"%s\" does not exist", e.Name)
	case ErrActive:
		return fmt.Sprintf("replication slot \"%s\" is active for PID %d", e.Name, e.PID)
	case ErrNameTooShort:
		return fmt.Sprintf("replication slot name \"%s\" is too short", e.Name)
	case ErrNameTooLong:
		return fmt.Sprintf("replication slot name \"%s\" is too long", e.Name)
	case ErrInvalidCharacter:
		return fmt.Sprintf("replication slot name \"%s\" contains invalid character", e.Name)
	default:
		return "all replication slots are in use"
	}
}

func (e *Error) Unwrap() error { return e.Err }

// A CorruptError is a state file that cannot be believed. The slot's WAL may be gone with the next
// checkpoint if the slot is ignored, so the node does not start, as in PostgreSQL.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("replication slot file %s is corrupt: %v", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }
