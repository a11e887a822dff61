package walreceiver

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// FuzzManifest: a manifest whose checksum is right is understood or refused. Its names are only looked up among
// those of the files that came.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{ "PostgreSQL-Backup-Manifest-Version": 1, "Files": [{ "Path": "global/control", "Size": 3, "Last-Modified": "x", "Checksum-Algorithm": "CRC32C", "Checksum": "00" }],` + "\n"))
	f.Add([]byte(`{ "Files": [{ "Encoded-Path": "2e2e2f78" }],` + "\n"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		parseManifest(body)
		sum := sha256.Sum256(body)
		m, err := parseManifest(fmt.Appendf(bytes.Clone(body), "%s%x\"}\n", checksumLine, sum))
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if name, err := file.name(); err == nil && file.EncodedPath != "" && 2*len(name) != len(file.EncodedPath) {
				t.Errorf("file %q is called %q", file.EncodedPath, name)
			}
		}
	})
}

// FuzzUpstream: whatever bytes come from an upstream's port, who asks it who it is ends with an answer that makes
// sense, or an error.
func FuzzUpstream(f *testing.F) {
	encode := func(list ...pgproto3.BackendMessage) (b []byte) {
		for _, m := range list {
			b, _ = m.Encode(b)
		}
		return b
	}
	ready, done := &pgproto3.ReadyForQuery{TxStatus: 'I'}, &pgproto3.CommandComplete{CommandTag: []byte("SHOW")}
	row := func(values ...string) *pgproto3.DataRow {
		r := &pgproto3.DataRow{}
		for _, v := range values {
			r.Values = append(r.Values, []byte(v))
		}
		return r
	}
	f.Add(encode(&pgproto3.AuthenticationOk{}, ready, row("77", "2", "0/3000000", ""), done, ready, row("16MB"), done, ready, row("2"), done, ready,
		row("00000002.history", "1\t0/2000000\tx\n"), done, ready))
	f.Add(encode(ready, row("77", "1", "0/3000000"), ready, row("1GB"), ready, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42704"}, ready))
	f.Add(encode(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03"}))
	f.Add([]byte("D\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cfg := Config{}.withDefaults()
		c := &conn{net: replay{bytes.NewReader(b)}, timeout: cfg.Timeout, stop: func() bool { return true }}
		c.fe = pgproto3.NewFrontend(c.net, c.net)
		c.fe.SetMaxBodyLen(maxMessage)
		if c.start(&cfg) != nil {
			return
		}
		sys, err := c.identify(&cfg)
		if err == nil && (sys.Timeline == 0 || !sys.SegmentSize.Valid() || sys.History.Timeline != sys.Timeline) {
			t.Errorf("identified as %+v", sys)
		}
	})
}

// A replay is a connection on which all that comes is known before.
type replay struct{ io.Reader }

func (replay) Write(b []byte) (int, error)      { return len(b), nil }
func (replay) Close() error                     { return nil }
func (replay) LocalAddr() net.Addr              { return nil }
func (replay) RemoteAddr() net.Addr             { return nil }
func (replay) SetDeadline(time.Time) error      { return nil }
func (replay) SetReadDeadline(time.Time) error  { return nil }
func (replay) SetWriteDeadline(time.Time) error { return nil }
