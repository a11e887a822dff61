package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Codes in the place of the protocol version in the first packet.
const (
	codeCancelRequest = 80877102
	codeSSLRequest    = 80877103
	codeGSSENCRequest = 80877104

	protocol30 = 3 << 16
)

const (
	minStartupPacket = 8     // length word and code
	maxStartupPacket = 10000 // MAX_STARTUP_PACKET_LENGTH
	nameDataLen      = 64    // names are cut to one byte less
)

// errStartupLength closes the connection without a word: what speaks here is not a PostgreSQL client.
var errStartupLength = errors.New("invalid length of startup packet")

// readStartupPacket reads one packet of the start-up phase, int32 length and body, and not a byte
// more. It returns the code that begins the body, and the rest.
func readStartupPacket(r io.Reader) (code uint32, rest []byte, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < minStartupPacket || n > maxStartupPacket {
		return 0, nil, fmt.Errorf("%w: %d", errStartupLength, n)
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, unexpectedEOF(err)
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

// A startup is what a StartupMessage asks for.
type startup struct {
	kind           Kind
	user, database string
	params         map[string]string // settings; those of their own beat those in options
	native         int
	unknown        []string // _pq_. options we do not know, in order
}

// parseStartup reads the parameters of a StartupMessage of protocol 3: key and value strings, and a
// NUL at the end. Its errors are FATAL.
func parseStartup(body []byte) (startup, *Error) {
	s := startup{params: make(map[string]string)}
	var options string
	for {
		key, rest, ok := cutString(body)
		if !ok {
			return s, startupLayout()
		}
		if key == "" {
			if len(rest) != 0 {
				return s, startupLayout()
			}
			break
		}
		value, rest, ok := cutString(rest)
		if !ok {
			return s, startupLayout()
		}
		body = rest
		if key == "options" {
			options = value
		} else if err := s.set(key, value); err != nil {
			return s, err.Fatal()
		}
	}
	if err := s.addOptions(options); err != nil {
		return s, err.Fatal()
	}
	return s, s.complete()
}

func startupLayout() *Error {
	return protocolViolation("invalid startup packet layout: expected terminator as last byte").Fatal()
}

// cutString cuts a NUL-terminated string off b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

func (s *startup) set(key, value string) *Error {
	switch {
	case key == "user":
		s.user = cutName(value)
	case key == "database":
		s.database = cutName(value)
	case key == "replication":
		return s.setReplication(value)
	case key == "_pq_.longship":
		n, err := strconv.ParseUint(value, 10, 15)
		if err != nil {
			return invalidValue(key, value)
		}
		s.native = int(n)
	case strings.HasPrefix(key, "_pq_."):
		s.unknown = append(s.unknown, key)
	default:
		s.params[key] = value
	}
	return nil
}

func cutName(s string) string { return s[:min(len(s), nameDataLen-1)] }

func invalidValue(key, value string) *Error {
	return Errorf(CodeInvalidParameterValue, "invalid value for parameter %q: %q", key, value)
}

func (s *startup) setReplication(value string) *Error {
	if value == "database" {
		s.kind = KindDatabase
		return nil
	}
	on, ok := parseBool(value)
	if !ok {
		return invalidValue("replication", value).WithHint(`Valid values are: "false", 0, "true", 1, "database".`)
	}
	s.kind = KindSQL
	if on {
		s.kind = KindPhysical
	}
	return nil
}

// parseBool reads a boolean as PostgreSQL does: any unambiguous prefix, in any case.
func parseBool(s string) (value, ok bool) {
	s = strings.ToLower(s)
	prefix := func(word string, atLeast int) bool {
		return len(s) >= atLeast && strings.HasPrefix(word, s)
	}
	switch {
	case s == "1", s == "on", prefix("true", 1), prefix("yes", 1):
		return true, true
	case s == "0", prefix("off", 2), prefix("false", 1), prefix("no", 1):
		return false, true
	}
	return false, false
}

// addOptions reads the command line in the "options" parameter: -c name=value, -cname=value and
// --name=value, words separated by white space that a backslash can escape.
func (s *startup) addOptions(options string) *Error {
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		setting, found := strings.CutPrefix(words[i], "-c")
		flag := "-c "
		if !found {
			setting, found = strings.CutPrefix(words[i], "--")
			flag = "--"
		}
		if !found {
			return Errorf(CodeSyntaxError, "invalid command-line argument for server process: %s", words[i]).
				WithHint("Settings are given as -c name=value.")
		}
		if setting == "" && flag == "-c " && i+1 < len(words) {
			i++
			setting = words[i]
		}
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			return Errorf(CodeSyntaxError, "%s%s requires a value", flag, setting)
		}
		name = strings.ReplaceAll(name, "-", "_")
		if _, own := s.params[name]; !own {
			s.params[name] = value
		}
	}
	return nil
}

func splitOptions(options string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(options); i++ {
		switch c := options[i]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			continue
		case c == '\\' && i+1 < len(options):
			i++
		}
		word.WriteByte(options[i])
		inWord = true
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// complete checks what is mandatory and fills in what follows from it.
func (s *startup) complete() *Error {
	if s.user == "" {
		return Errorf(CodeInvalidAuthorization, "no PostgreSQL user name specified in startup packet").Fatal()
	}
	switch {
	case s.kind == KindPhysical:
		s.database = ""
	case s.database == "":
		s.database = s.user
	}
	return nil
}
