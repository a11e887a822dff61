package sql

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/longship-db/longship/pgwire"
)

// appendBytea prints \x and hexadecimal digits.
func appendBytea(b []byte, s string) []byte {
	return hex.AppendEncode(append(b, `\x`...), bytesOf(s))
}

// parseBytea reads what appendBytea prints, or text in which \\ is a backslash and \ooo a byte.
func parseBytea(s string) (Value, error) {
	if digits, ok := strings.CutPrefix(s, `\x`); ok {
		raw, err := hex.DecodeString(strings.Map(withoutBlanks, digits))
		if err != nil {
			return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "%s", hexProblem(err))
		}
		return Value{typ: Bytea, s: string(raw)}, nil
	}
	raw := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			raw = append(raw, s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			raw = append(raw, '\\')
			i++
		default:
			octal, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 8, 8)
			if i+4 > len(s) || err != nil {
				return Null, pgwire.Errorf(pgwire.CodeInvalidTextRepresentation, "invalid input syntax for type bytea")
			}
			raw = append(raw, byte(octal))
			i += 3
		}
	}
	return Value{typ: Bytea, s: string(raw)}, nil
}

func withoutBlanks(c rune) rune {
	if c == ' ' || c >= '\t' && c <= '\r' {
		return -1
	}
	return c
}

func hexProblem(err error) string {
	if bad, ok := err.(hex.InvalidByteError); ok {
		return "invalid hexadecimal digit: \"" + string(rune(bad)) + "\""
	}
	return "invalid hexadecimal data: odd number of digits"
}

// parseUUID reads 32 hexadecimal digits with a hyphen after any four, in braces or not.
func parseUUID(s string) (Value, error) {
	text := s
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		if text, ok = strings.CutSuffix(inner, "}"); !ok {
			return Null, invalidInput(UUID, s)
		}
	}
	var digits []byte
	for i := range len(text) {
		switch {
		case text[i] != '-':
			digits = append(digits, text[i])
		case len(digits) == 0 || len(digits)%4 != 0 || text[i-1] == '-' || len(digits) == 32:
			return Null, invalidInput(UUID, s)
		}
	}
	var raw [16]byte
	if len(digits) != 2*len(raw) {
		return Null, invalidInput(UUID, s)
	}
	if _, err := hex.Decode(raw[:], digits); err != nil {
		return Null, invalidInput(UUID, s)
	}
	return uuidValue(raw), nil
}

func uuidValue(raw [16]byte) Value {
	h := hex.EncodeToString(raw[:])
	return Value{typ: UUID, s: h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]}
}

func appendUUID(b []byte, s string) []byte {
	b, _ = hex.AppendDecode(b, bytesOf(strings.ReplaceAll(s, "-", "")))
	return b
}

// parseXID8 reads a transaction's full number: 64 bits without sign.
func parseXID8(s string) (Value, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return Null, invalidInput(XID8, s)
	}
	return Value{typ: XID8, n: int64(n)}, nil
}
