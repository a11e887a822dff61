package slots

import (
	"fmt"
	"hash/crc32"
)

// maxNameLen is NAMEDATALEN-1.
const maxNameLen = 63

// CheckName returns nil if name can be a slot's: 1 to 63 of a-z, 0-9 and _. The clients' surface cuts
// longer names before they come here, as PostgreSQL does.
func CheckName(name string) error {
	switch {
	case name == "":
		return &Error{Err: ErrNameTooShort, Name: name}
	case len(name) > maxNameLen:
		return &Error{Err: ErrNameTooLong, Name: name}
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return &Error{Err: ErrInvalidCharacter, Name: name}
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
}

// MemberName is the name of the slot of the member called name. It is the same where that is a legal
// slot name; else what is not legal becomes _, and a checksum keeps n-1 apart from n.1 and N_1.
func MemberName(name string) string {
	if CheckName(name) == nil {
		return name
	}
	suffix := fmt.Sprintf("_%08x", crc32.Checksum([]byte(name), castagnoli))
	legal := []byte(name[:min(len(name), maxNameLen-len(suffix))])
	for i, c := range legal {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if !nameByte(c) {
			c = '_'
		}
		legal[i] = c
	}
	return string(legal) + suffix
}
