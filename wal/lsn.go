package wal

import (
	"encoding"
	"fmt"
	"strconv"
	"strings"
)

// An LSN (log sequence number) is a byte position in the log. Zero is invalid: segment 0 is never
// written. A reported position is that of the next byte, so "flushed up to L" means every byte
// below L (PostgreSQL 15 manual, "pg_lsn Type").
type LSN uint64

// InvalidLSN is the zero LSN: no position.
const InvalidLSN LSN = 0

var (
	_ encoding.TextMarshaler   = LSN(0)
	_ encoding.TextUnmarshaler = (*LSN)(nil)
)

// ParseLSN reads the form X/X: one to eight hexadecimal digits on each side, nothing else.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || !isHex32(hi) || !isHex32(lo) {
		return 0, fmt.Errorf("invalid LSN %q: want two hexadecimal numbers like 16/B374D848", s)
	}
	h, _ := strconv.ParseUint(hi, 16, 32)
	l, _ := strconv.ParseUint(lo, 16, 32)
	return LSN(h<<32 | l), nil
}

func isHex32(s string) bool {
	if len(s) < 1 || len(s) > 8 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// String prints both halves in upper-case hexadecimal without padding, as PostgreSQL 15 does.
func (l LSN) String() string {
	b, _ := l.AppendText(make([]byte, 0, 17))
	return string(b)
}

// AppendText appends the form that String returns.
func (l LSN) AppendText(b []byte) ([]byte, error) {
	start := len(b)
	b = strconv.AppendUint(b, uint64(l>>32), 16)
	b = append(b, '/')
	b = strconv.AppendUint(b, uint64(uint32(l)), 16)
	for i := start; i < len(b); i++ {
		if b[i] >= 'a' {
			b[i] -= 'a' - 'A'
		}
	}
	return b, nil
}

// MarshalText makes logs and JSON print an LSN as X/X.
func (l LSN) MarshalText() ([]byte, error) { return l.AppendText(nil) }

// UnmarshalText reads what ParseLSN reads.
func (l *LSN) UnmarshalText(b []byte) error {
	v, err := ParseLSN(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}

// A TimelineID numbers a branch of the log. The first timeline is 1.
type TimelineID uint32

// align8 rounds up to the alignment of record starts (MAXALIGN on 64-bit machines).
func align8[T ~uint32 | ~uint64 | ~int](n T) T { return (n + 7) &^ 7 }
