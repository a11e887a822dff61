package sql

import (
	"context"
	"crypto/md5"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/longship-db/longship/pgwire"
)

// builtins are the functions that need nothing but their arguments and the session. Those that
// know the node's state are registered by package node.
var builtins = slices.Concat(sessionFunctions, transactionFunctions, textFunctions, numberFunctions, arrayFunctions, catalogFunctions)

var sessionFunctions = []Func{
	{Name: "version", Result: Text, builtin: func(e *env, _ []Value) (Value, error) {
		return TextValue("PostgreSQL " + e.session.settings.get("server_version")), nil
	}},
	{Name: "current_user", Result: Name, builtin: currentUser},
	{Name: "session_user", Result: Name, builtin: currentUser},
	{Name: "user", Result: Name, builtin: currentUser},
	{Name: "current_role", Result: Name, builtin: currentUser},
	{Name: "current_database", Result: Name, builtin: currentDatabase},
	{Name: "current_catalog", Result: Name, builtin: currentDatabase},
	{Name: "current_schema", Result: Name, builtin: func(*env, []Value) (Value, error) { return NameValue("public"), nil }},
	{Name: "pg_backend_pid", Result: Int4, builtin: func(e *env, _ []Value) (Value, error) {
		return Int4Value(e.session.id.PID), nil
	}},
	{Name: "inet_server_addr", Result: Inet, builtin: address(func(server, _ netip.AddrPort) Value { return InetValue(server.Addr()) })},
	{Name: "inet_server_port", Result: Int4, builtin: address(func(server, _ netip.AddrPort) Value { return Int4Value(int32(server.Port())) })},
	{Name: "inet_client_addr", Result: Inet, builtin: address(func(_, client netip.AddrPort) Value { return InetValue(client.Addr()) })},
	{Name: "inet_client_port", Result: Int4, builtin: address(func(_, client netip.AddrPort) Value { return Int4Value(int32(client.Port())) })},
	{Name: "now", Result: Timestamptz, builtin: transactionTime},
	{Name: "transaction_timestamp", Result: Timestamptz, builtin: transactionTime},
	{Name: "current_timestamp", Result: Timestamptz, builtin: transactionTime},
	{Name: "localtimestamp", Result: Timestamp, builtin: localTime(Timestamp)},
	{Name: "current_date", Result: Date, builtin: localTime(Date)},
	{Name: "localtime", Result: Time, builtin: localTime(Time)},
	{Name: "statement_timestamp", Result: Timestamptz, builtin: wallTime},
	{Name: "clock_timestamp", Result: Timestamptz, builtin: wallTime},
	{Name: "current_setting", Args: []Type{Text, Bool}, Defaults: []Value{BoolValue(false)}, Result: Text, builtin: currentSetting},
	{Name: "set_config", Args: []Type{Text, Text, Bool}, Result: Text, NullOK: true, builtin: setConfig},
	{Name: "pg_advisory_unlock_all", Result: Void, builtin: unlockAll},
	{Name: "pg_notify", Args: []Type{Text, Text}, Result: Void, NullOK: true, builtin: func(*env, []Value) (Value, error) {
		return Null, pgwire.Errorf(pgwire.CodeFeatureNotSupported, "pg_notify() is not supported").WithHint("%s", noNotifications)
	}},
	{Name: "pg_sleep", Args: []Type{Float8}, Result: Void, builtin: sleep},
}

// An Addressed is a Conn that knows the addresses of its ends; *pgwire.Conn is one.
type Addressed interface {
	Addresses() (server, client net.Addr)
}

// address is something of the addresses of the connection's ends, NULL if they are none of the internet's.
func address(of func(server, client netip.AddrPort) Value) func(*env, []Value) (Value, error) {
	return func(e *env, _ []Value) (Value, error) {
		conn, ok := e.session.conn.(Addressed)
		if !ok {
			return Null, nil
		}
		local, remote := conn.Addresses()
		server, err := netip.ParseAddrPort(local.String())
		client, errClient := netip.ParseAddrPort(remote.String())
		if err != nil || errClient != nil {
			return Null, nil
		}
		return of(server, client), nil
	}
}

// unlockAll has nothing to unlock: connection pools call it before they give a session to the next.
func unlockAll(*env, []Value) (Value, error) { return VoidValue(), nil }

func currentUser(e *env, _ []Value) (Value, error) { return NameValue(e.session.id.User), nil }

func currentDatabase(e *env, _ []Value) (Value, error) { return NameValue(e.session.id.Database), nil }

func transactionTime(e *env, _ []Value) (Value, error) { return TimeValue(e.session.now()), nil }

// localTime is the time of the transaction by the session's clock.
func localTime(t Type) func(*env, []Value) (Value, error) {
	return func(e *env, _ []Value) (Value, error) { return castTime(TimeValue(e.session.now()), t, e.loc()), nil }
}

func wallTime(*env, []Value) (Value, error) { return TimeValue(time.Now()), nil }

func currentSetting(e *env, args []Value) (Value, error) {
	text, err := e.session.show(args[0].s)
	if err != nil && args[1].Bool() {
		return Null, nil
	}
	return TextValue(text), err
}

func setConfig(e *env, args []Value) (Value, error) {
	if args[0].IsNull() {
		return Null, pgwire.Errorf(pgwire.CodeNullValueNotAllowed, "SET requires parameter name")
	}
	def, err := e.session.settings.server.lookup(args[0].s)
	if err != nil {
		return Null, err
	}
	local := args[2].Bool()
	if args[1].IsNull() { // as in RESET
		err = e.session.settings.reset(def.Name, local)
	} else {
		err = e.session.setOne(def, args[1].s, local)
	}
	if err != nil {
		return Null, err
	}
	return TextValue(e.session.displayed(def)), nil
}

var waitSleep = &pgwire.WaitEvent{Type: "Timeout", Name: "PgSleep"}

func sleep(e *env, args []Value) (Value, error) {
	const longest = 1e9 // seconds; time.Duration ends at 9.2e9
	seconds := min(max(args[0].float(), 0), longest)
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	if w, ok := e.session.conn.(Waiter); ok {
		w.Wait(waitSleep)
		defer w.Wait(nil)
	}
	select {
	case <-timer.C:
		return VoidValue(), nil
	case <-e.ctx.Done():
		return Null, context.Cause(e.ctx)
	}
}

// textFunction makes a builtin of one text argument.
func textFunction(name string, result Type, fn func(s string) Value) Func {
	return Func{Name: name, Args: []Type{Text}, Result: result, builtin: func(_ *env, args []Value) (Value, error) {
		return fn(args[0].s), nil
	}}
}

// isEncoding refuses the name of an encoding that is not the one there is.
func isEncoding(name, what string) error {
	if isUTF8(name) {
		return nil
	}
	return pgwire.Errorf(pgwire.CodeInvalidParameterValue, `invalid %s encoding name "%s"`, what, name).WithHint("The only encoding is UTF8.")
}

// convertFrom is the text that bytes are.
func convertFrom(_ *env, args []Value) (Value, error) {
	if err := isEncoding(args[1].s, "source"); err != nil {
		return Null, err
	}
	return TextValue(args[0].s), checkText(args[0].s)
}

var textFunctions = []Func{
	{Name: "convert_from", Args: []Type{Bytea, Name}, Result: Text, builtin: convertFrom},
	{Name: "convert_to", Args: []Type{Text, Name}, Result: Bytea, builtin: func(_ *env, args []Value) (Value, error) {
		return Value{typ: Bytea, s: args[0].s}, isEncoding(args[1].s, "destination")
	}},
	textFunction("length", Int4, characters),
	textFunction("char_length", Int4, characters),
	textFunction("octet_length", Int4, func(s string) Value { return Int4Value(int32(len(s))) }),
	{Name: "lower", Args: []Type{Text}, Result: Text, builtin: inPieces(strings.ToLower)},
	{Name: "upper", Args: []Type{Text}, Result: Text, builtin: inPieces(strings.ToUpper)},
	{Name: "left", Args: []Type{Text, Int4}, Result: Text, builtin: func(_ *env, args []Value) (Value, error) {
		s, n := args[0].s, int(args[1].n)
		if n < 0 {
			n = max(utf8.RuneCountInString(s)+n, 0)
		}
		return TextValue(s[:runeOffset(s, n)]), nil
	}},
	{Name: "right", Args: []Type{Text, Int4}, Result: Text, builtin: func(_ *env, args []Value) (Value, error) {
		s, n := args[0].s, int(args[1].n)
		if n >= 0 {
			n = max(utf8.RuneCountInString(s)-n, 0)
		} else {
			n = -n
		}
		return TextValue(s[runeOffset(s, n):]), nil
	}},
	{Name: "substr", Args: []Type{Text, Int4}, Result: Text, builtin: substring},
	{Name: "substr", Args: []Type{Text, Int4, Int4}, Result: Text, builtin: substring},
	{Name: "substring", Args: []Type{Text, Int4}, Result: Text, builtin: substring},
	{Name: "substring", Args: []Type{Text, Int4, Int4}, Result: Text, builtin: substring},
	{Name: "btrim", Args: []Type{Text, Text}, Defaults: []Value{TextValue(" ")}, Result: Text, builtin: trim(strings.TrimFunc)},
	{Name: "ltrim", Args: []Type{Text, Text}, Defaults: []Value{TextValue(" ")}, Result: Text, builtin: trim(strings.TrimLeftFunc)},
	{Name: "rtrim", Args: []Type{Text, Text}, Defaults: []Value{TextValue(" ")}, Result: Text, builtin: trim(strings.TrimRightFunc)},
	{Name: "reverse", Args: []Type{Text}, Result: Text, builtin: reverse},
	textFunction("md5", Text, func(s string) Value { return TextValue(fmt.Sprintf("%x", md5.Sum([]byte(s)))) }),
	{Name: "lpad", Args: []Type{Text, Int4, Text}, Defaults: []Value{TextValue(" ")}, Result: Text, builtin: pad(true)},
	{Name: "rpad", Args: []Type{Text, Int4, Text}, Defaults: []Value{TextValue(" ")}, Result: Text, builtin: pad(false)},
	{Name: "split_part", Args: []Type{Text, Text, Int4}, Result: Text, builtin: splitPart},
	{Name: "repeat", Args: []Type{Text, Int4}, Result: Text, builtin: repeat},
	{Name: "replace", Args: []Type{Text, Text, Text}, Result: Text, builtin: replace},
	{Name: "strpos", Args: []Type{Text, Text}, Result: Int4, builtin: position},
	{Name: "position", Args: []Type{Text, Text}, Result: Int4, builtin: position},
	{Name: "starts_with", Args: []Type{Text, Text}, Result: Bool, builtin: func(_ *env, args []Value) (Value, error) {
		return BoolValue(strings.HasPrefix(args[0].s, args[1].s)), nil
	}},
}

func characters(s string) Value { return Int4Value(int32(utf8.RuneCountInString(s))) }

// position is the number of the character at which the second text begins in the first, 0 if it does not.
func position(_ *env, args []Value) (Value, error) {
	i := strings.Index(args[0].s, args[1].s)
	if i < 0 {
		return Int4Value(0), nil
	}
	return Int4Value(int32(utf8.RuneCountInString(args[0].s[:i]) + 1)), nil
}

// trim is btrim, ltrim and rtrim: cut takes the characters off of which the set is made.
func trim(cut func(s string, in func(r rune) bool) string) func(*env, []Value) (Value, error) {
	return func(e *env, args []Value) (Value, error) {
		set := args[1].s
		v := TextValue(cut(args[0].s, func(r rune) bool {
			return e.step(1+len(set)/copyPerStep) == nil && strings.ContainsRune(set, r)
		}))
		return v, e.step(0)
	}
}

// runeOffset is the byte offset of character n, the length if there are fewer.
func runeOffset(s string, n int) int {
	for i := range s {
		if n <= 0 {
			return i
		}
		n--
	}
	return len(s)
}

// substring counts characters from 1; a start before the text takes from the count.
func substring(_ *env, args []Value) (Value, error) {
	s, first := args[0].s, args[1].n
	end := int64(len(s)) + 1 // past any character
	if len(args) == 3 {
		if args[2].n < 0 {
			return Null, pgwire.Errorf("22011", "negative substring length not allowed")
		}
		end = min(end, first+args[2].n)
	}
	first = min(max(first, 1), int64(len(s))+1)
	if end <= first {
		return TextValue(""), nil
	}
	return TextValue(s[runeOffset(s, int(first-1)):runeOffset(s, int(end-1))]), nil
}

// pad is lpad and rpad: it cuts the text, too.
func pad(left bool) func(*env, []Value) (Value, error) {
	return func(_ *env, args []Value) (Value, error) {
		s, n, fill := args[0].s, int(max(args[1].n, 0)), args[2].s
		missing := n - utf8.RuneCountInString(s)
		if missing <= 0 {
			return TextValue(s[:runeOffset(s, n)]), nil
		}
		if fill == "" {
			return args[0], nil
		}
		if missing > maxTextLen/utf8.UTFMax {
			return Null, textTooLong()
		}
		padding := strings.Repeat(fill, missing/utf8.RuneCountInString(fill)+1)
		padding = padding[:runeOffset(padding, missing)]
		if left {
			return TextValue(padding + s), nil
		}
		return TextValue(s + padding), nil
	}
}

// splitPart counts fields from 1, and negative ones from the end.
func splitPart(_ *env, args []Value) (Value, error) {
	n := int(args[2].n)
	if n == 0 {
		return Null, pgwire.Errorf(pgwire.CodeInvalidParameterValue, "field position must not be zero")
	}
	rest, separator := args[0].s, args[1].s
	parts := 1
	if separator != "" {
		parts += strings.Count(rest, separator)
	}
	if n < 0 {
		n += parts + 1
	}
	if n < 1 || n > parts {
		return TextValue(""), nil
	}
	for ; n > 1; n-- {
		_, rest, _ = strings.Cut(rest, separator)
	}
	if separator != "" {
		rest, _, _ = strings.Cut(rest, separator)
	}
	return TextValue(rest), nil
}

func repeat(_ *env, args []Value) (Value, error) {
	n := max(args[1].n, 0)
	if len(args[0].s) > 0 && n > maxTextLen/int64(len(args[0].s)) {
		return Null, textTooLong()
	}
	if args[0].s == "" {
		return args[0], nil
	}
	return TextValue(strings.Repeat(args[0].s, int(n))), nil
}

func replace(e *env, args []Value) (Value, error) {
	rest, from, to := args[0].s, args[1].s, args[2].s
	if from == "" {
		return args[0], nil
	}
	var b textBuilder
	for {
		before, after, found := strings.Cut(rest, from)
		err := e.step(len(before) + len(from))
		if err == nil {
			err = b.add(before)
		}
		if err != nil || !found {
			return b.value(), err
		}
		if err := b.add(to); err != nil {
			return Null, err
		}
		rest = after
	}
}

// pieceLen is about how many bytes of a text are converted at once, before anybody could cancel it.
const pieceLen = 1 << 20

// inPieces makes a function of what converts a text character by character.
func inPieces(convert func(s string) string) func(*env, []Value) (Value, error) {
	return func(e *env, args []Value) (Value, error) {
		rest := args[0].s
		if len(rest) <= pieceLen {
			return TextValue(convert(rest)), nil
		}
		var b textBuilder
		for rest != "" {
			n := min(pieceLen, len(rest))
			for n < len(rest) && !utf8.RuneStart(rest[n]) {
				n++
			}
			if err := b.add(convert(rest[:n])); err != nil {
				return Null, err
			}
			if err := e.step(n); err != nil {
				return Null, err
			}
			rest = rest[n:]
		}
		return b.value(), nil
	}
}

func reverse(e *env, args []Value) (Value, error) {
	s := args[0].s
	reversed := make([]byte, 0, len(s))
	for len(s) > 0 {
		_, n := utf8.DecodeLastRuneInString(s)
		reversed = append(reversed, s[len(s)-n:]...)
		s = s[:len(s)-n]
		if err := e.step(1); err != nil {
			return Null, err
		}
	}
	return TextValue(stringOf(reversed)), nil
}
