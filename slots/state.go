package slots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/longship-db/longship/wal"
)

// state is what a slot is after a crash.
type state struct {
	restart       wal.LSN // 0 = reserves nothing
	invalidatedAt wal.LSN // restart when the slot was invalidated; 0 = never was
	number        uint64  // of the agreement that made the slot; 0 = it is this node's alone
}

// The file of a slot, little endian:
//
//	| offset | size | field                                   |
//	|      0 |    4 | magic "LSRS"                            |
//	|      4 |    4 | CRC-32C of all that follows             |
//	|      8 |    1 | version, 2                              |
//	|      9 |    1 | length of the name, 1 to 63             |
//	|     10 |    8 | restart LSN, 0 = reserves nothing       |
//	|     18 |    8 | invalidated at, 0 = never               |
//	|     26 |    8 | number of the agreement, 0 = none       |
//	|     34 |      | name, the same as the folder's          |
const (
	stateMagic   = "LSRS"
	stateVersion = 2
	stateFixed   = 34
	maxStateSize = stateFixed + maxNameLen
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendState appends the file of a slot to dst. The name is a legal one.
func appendState(dst []byte, name string, s state) []byte {
	start := len(dst)
	dst = append(dst, stateMagic...)
	dst = append(dst, 0, 0, 0, 0, stateVersion, byte(len(name)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.restart))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.invalidatedAt))
	dst = binary.LittleEndian.AppendUint64(dst, s.number)
	dst = append(dst, name...)
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return dst
}

// decodeState reads what appendState wrote, and nothing else.
func decodeState(b []byte) (name string, s state, err error) {
	switch {
	case len(b) < stateFixed || len(b) > maxStateSize:
		return "", state{}, fmt.Errorf("%d bytes long", len(b))
	case string(b[:4]) != stateMagic:
		return "", state{}, fmt.Errorf("magic %q, want %q", b[:4], stateMagic)
	case binary.LittleEndian.Uint32(b[4:]) != crc32.Checksum(b[8:], castagnoli):
		return "", state{}, errors.New("wrong checksum")
	case b[8] != stateVersion:
		return "", state{}, fmt.Errorf("version %d, want %d", b[8], stateVersion)
	case len(b) != stateFixed+int(b[9]):
		return "", state{}, fmt.Errorf("%d bytes long with a name of %d", len(b), b[9])
	}
	name = string(b[stateFixed:])
	if err := CheckName(name); err != nil {
		return "", state{}, err
	}
	return name, state{
		restart:       wal.LSN(binary.LittleEndian.Uint64(b[10:])),
		invalidatedAt: wal.LSN(binary.LittleEndian.Uint64(b[18:])),
		number:        binary.LittleEndian.Uint64(b[26:]),
	}, nil
}
