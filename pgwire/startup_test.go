package pgwire

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// packet is a start-up packet: length word, code, body.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}

// TestStartupBytes plays the cases of the PostgreSQL 15 manual's "Start-up" and what a PostgreSQL
// server was seen to answer, byte for byte as far as the answer is fixed.
func TestStartupBytes(t *testing.T) {
	const user = "user\x00u\x00"
	fatal := func(fields string) string { return "E…SFATAL\x00VFATAL\x00C" + fields + "\x00\x00" }
	ok := "R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x16application_name\x00\x00S"
	for _, tt := range []struct {
		name string
		send []byte
		want string // …: any length word; a prefix unless it ends the connection
	}{
		{"plain", packet(196608, user+"\x00"), ok},
		{"SSLRequest", slices.Concat(packet(80877103, ""), packet(196608, user+"\x00")), "N" + ok},
		{"GSSENCRequest", slices.Concat(packet(80877104, ""), packet(196608, user+"\x00")), "N" + ok},
		{"SSLRequest, GSSENCRequest", slices.Concat(packet(80877103, ""), packet(80877104, ""), packet(196608, user+"\x00")), "NN" + ok},
		{"SSLRequest twice", slices.Concat(packet(80877103, ""), packet(80877103, "")),
			"N" + fatal("0A000\x00Munsupported frontend protocol 1234.5679: server supports 3.0 to 3.0")},
		{"version 3.2", packet(196610, user+"\x00"), "v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00" + ok},
		{"unknown _pq_ options", packet(196608, user+"_pq_.b\x001\x00_pq_.longship\x002\x00_pq_.a\x00\x00\x00"),
			"v\x00\x00\x00\x1a\x00\x03\x00\x00\x00\x00\x00\x02_pq_.b\x00_pq_.a\x00" + ok},
		{"version 4", packet(4<<16, user+"\x00"), fatal("0A000\x00Munsupported frontend protocol 4.0: server supports 3.0 to 3.0")},
		{"version 2", packet(2<<16, user+"\x00"), "EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.0\n\x00"},
		{"no user", packet(196608, "\x00"), fatal("28000\x00Mno PostgreSQL user name specified in startup packet")},
		{"empty user", packet(196608, "user\x00\x00\x00"), fatal("28000\x00Mno PostgreSQL user name specified in startup packet")},
		{"no terminator", packet(196608, user), fatal("08P01\x00Minvalid startup packet layout: expected terminator as last byte")},
		{"bytes behind the terminator", packet(196608, user+"\x00x\x00"), fatal("08P01\x00Minvalid startup packet layout: expected terminator as last byte")},
		{"value without end", packet(196608, "user\x00u"), fatal("08P01\x00Minvalid startup packet layout: expected terminator as last byte")},
		{"replication=maybe", packet(196608, user+"replication\x00maybe\x00\x00"),
			fatal("22023\x00Minvalid value for parameter \"replication\": \"maybe\"\x00HValid values are: \"false\", 0, \"true\", 1, \"database\".")},
		{"longest packet", packet(196608, user+"application_name\x00"+strings.Repeat("x", 10000-8-len(user)-17-2)+"\x00\x00"), "R"},
		{"too long", []byte{0, 0, 0x27, 0x11}, ""},
		{"too short", []byte{0, 0, 0, 7}, ""},
		{"negative length", []byte{0xff, 0xff, 0xff, 0xff}, ""},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
		{"cancel of nobody", packet(80877102, "\x00\x00\x00\x01\x00\x00\x00\x02"), ""},
		{"cancel request of the wrong length", packet(80877102, "\x00\x00\x00\x01"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, newTestServer(Config{}))
			c.sendBytes(tt.send)
			want := tt.want
			if strings.HasPrefix(strings.TrimLeft(want, "N"), "E") || want == "" {
				got, _ := io.ReadAll(c.nc)
				if e := bytes.IndexByte(got, 'E'); strings.Contains(want, "…") && e >= 0 && len(got) > e+5 {
					got = slices.Concat(got[:e+1], []byte("…"), got[e+5:])
				}
				if string(got) != want {
					t.Errorf("server said %q, want %q", got, want)
				}
				return
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c.nc, got); err != nil || string(got) != want {
				t.Errorf("server said %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestParseStartup(t *testing.T) {
	for _, tt := range []struct {
		body string // | for NUL
		want startup
	}{
		{"user|u||", startup{user: "u", database: "u"}},
		{"user|u|database|d||", startup{user: "u", database: "d"}},
		{"user|u|replication|on|database|d||", startup{kind: KindPhysical, user: "u"}},
		{"user|u|replication|T||", startup{kind: KindPhysical, user: "u"}},
		{"user|u|replication|0||", startup{user: "u", database: "u"}},
		{"user|u|replication|database||", startup{kind: KindDatabase, user: "u", database: "u"}},
		{"user|u|_pq_.longship|3||", startup{user: "u", database: "u", native: 3}},
		{"user|" + strings.Repeat("u", 70) + "|database|d||", startup{user: strings.Repeat("u", 63), database: "d"}},
		{"user|u|options|-c a=1 -cb-c=2  --d=x\\ y\\\\ -c e=||",
			startup{user: "u", database: "u", params: map[string]string{"a": "1", "b_c": "2", "d": "x y\\", "e": ""}}},
		{"user|u|a|own|options|-c a=1||", startup{user: "u", database: "u", params: map[string]string{"a": "own"}}},
	} {
		got, err := parseStartup([]byte(strings.ReplaceAll(tt.body, "|", "\x00")))
		if err != nil {
			t.Errorf("parseStartup(%q) = %v", tt.body, err)
			continue
		}
		if tt.want.params == nil {
			tt.want.params = map[string]string{}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("parseStartup(%q) = %+v, want %+v", tt.body, got, tt.want)
		}
	}
	for body, code := range map[string]string{
		"user|u|options|-x||":        CodeSyntaxError,
		"user|u|options|-c||":        CodeSyntaxError,
		"user|u|options|-c a||":      CodeSyntaxError,
		"user|u|options|--=1||":      CodeSyntaxError,
		"user|u|_pq_.longship|x||":   CodeInvalidParameterValue,
		"user|u|_pq_.longship|-1||":  CodeInvalidParameterValue,
		"user|u|replication|o||":     CodeInvalidParameterValue,
		"user|u|replication|||":      CodeInvalidParameterValue,
		"database|d||":               CodeInvalidAuthorization,
		"user|u|application_name|x|": CodeProtocolViolation,
	} {
		if _, err := parseStartup([]byte(strings.ReplaceAll(body, "|", "\x00"))); err == nil || err.Code != code || err.Severity != SeverityFatal {
			t.Errorf("parseStartup(%q) = %v, want FATAL %s", body, err, code)
		}
	}
}

// What the session knows better goes out in the fixed order, and nothing else does.
func TestParametersFromSession(t *testing.T) {
	h := &fakeHandler{params: map[string]string{"in_hot_standby": "on", "TimeZone": "Europe/Oslo", "work_mem": "4MB"}}
	got := newClient(t, newTestServer(Config{Handler: h})).connect()
	var names []string
	for _, line := range got {
		if name, ok := strings.CutPrefix(line, "S "); ok {
			names = append(names, name[:strings.IndexByte(name, '=')])
		}
	}
	if !slices.Equal(names, reportedAtStart) {
		t.Errorf("reported %q, want %q", names, reportedAtStart)
	}
	if !slices.Contains(got, "S in_hot_standby=on") || !slices.Contains(got, "S TimeZone=Europe/Oslo") {
		t.Errorf("session's values missing in %q", got)
	}
}

func TestRefusals(t *testing.T) {
	starting := Errorf(CodeCannotConnectNow, "the database system is starting up")
	c := newClient(t, newTestServer(Config{Handler: &fakeHandler{refuse: starting}}))
	want := []string{"E FATAL 57P03 the database system is starting up", "EOF"}
	if got := c.connect(); !slices.Equal(got, want) { // not even AuthenticationOk: pg_isready would take it for ready
		t.Errorf("got %q, want %q", got, want)
	}
	if starting.Severity != SeverityError {
		t.Errorf("the handler's error was changed: %v", starting.Severity)
	}

	s := newTestServer(Config{MaxConnections: 1, MaxWALSenders: 1})
	first := newClient(t, s)
	first.connect()
	want = []string{"E FATAL 53300 sorry, too many clients already", "EOF"}
	if got := newClient(t, s).connect(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := newClient(t, s).connect("replication", "true"); got[len(got)-1] != "Z I" {
		t.Errorf("a replication connection counts for itself: got %q", got)
	}
	want = []string{"E FATAL 53300 number of requested standby connections exceeds max_wal_senders (currently 1)", "EOF"}
	if got := newClient(t, s).connect("replication", "true"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := first.query("rows 0"); got[len(got)-1] != "Z I" {
		t.Errorf("the first connection suffered: %q", got)
	}
}

func readsFully(c *client, b []byte) bool {
	_, err := io.ReadFull(c.nc, b)
	return err == nil
}

// authentication_timeout bounds start-up however slowly the bytes come.
func TestAuthenticationTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, newTestServer(Config{AuthenticationTimeout: func() time.Duration { return time.Minute }}))
		start := time.Now()
		var slow sync.WaitGroup
		defer slow.Wait()
		slow.Go(func() {
			for _, b := range packet(196608, "user\x00u\x00\x00") {
				time.Sleep(10 * time.Second)
				if _, err := c.nc.Write([]byte{b}); err != nil {
					return
				}
			}
		})
		if got, _ := io.ReadAll(c.nc); len(got) != 0 || time.Since(start) != time.Minute {
			t.Errorf("server said %q after %v, want nothing after 1m", got, time.Since(start))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, newTestServer(Config{Handler: &fakeHandler{stall: true}, AuthenticationTimeout: func() time.Duration { return 5 * time.Second }}))
		want := []string{"E FATAL 57014 canceling authentication due to timeout", "EOF"}
		if got := c.connect(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	// Once start-up is over its deadline is, too.
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, newTestServer(Config{AuthenticationTimeout: func() time.Duration { return time.Minute }}))
		c.connect()
		time.Sleep(time.Hour)
		if got := c.query("rows 0"); got[len(got)-1] != "Z I" {
			t.Errorf("an hour later: %q", got)
		}
	})
}

func FuzzParseStartup(f *testing.F) {
	for _, seed := range []string{
		"user\x00u\x00\x00", "user\x00u\x00options\x00-c a=b\\ c --d=e\x00\x00", "user\x00u\x00replication\x00database\x00\x00",
		"_pq_.x\x00\x00user\x00u\x00\x00", "\x00", "", "user\x00u\x00", "options\x00\\\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parseStartup(body)
		switch {
		case err != nil && (err.Severity != SeverityFatal || len(err.Code) != 5 || err.Message == ""):
			t.Errorf("parseStartup(%q) = %#v", body, err)
		case err == nil && (s.user == "" || len(s.user) > 63 || len(s.database) > 63):
			t.Errorf("parseStartup(%q) = %+v", body, s)
		}
		for name := range maps.Keys(s.params) {
			if name == "" || strings.ContainsRune(name, 0) {
				t.Errorf("parseStartup(%q) names a setting %q", body, name)
			}
		}
	})
}
