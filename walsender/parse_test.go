package walsender

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/pgwire"
)

// The script parses each line of its input.
func TestParse(t *testing.T) {
	datadriven.RunTest(t, "testdata/parse", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			cmd, err := parse(strings.TrimSuffix(line, "\n"))
			if err != nil {
				fmt.Fprintln(&out, err)
				continue
			}
			fmt.Fprintf(&out, "%s\n", strings.TrimPrefix(fmt.Sprintf("%T %+v", cmd, cmd), "walsender."))
		}
		return out.String()
	})
}

// Options of BASE_BACKUP: what is understood, or why not.
func TestBackupOptions(t *testing.T) {
	datadriven.RunTest(t, "testdata/backup_options", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			cmd, err := parse("BASE_BACKUP (" + strings.TrimSpace(line) + ")")
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			opt, err := readBackupOptions(cmd.(baseBackup).options)
			if err != nil {
				fmt.Fprintln(&out, err)
				continue
			}
			fmt.Fprintf(&out, "%+v\n", opt)
		}
		return out.String()
	})
}

// What is not a replication command is a syntax error or SQL, and nothing is worse than refused.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", ";", "IDENTIFY_SYSTEM", "SHOW a.b.c;", "SHOW \"A\"", "READ_REPLICATION_SLOT \"s\"\"1\"",
		"CREATE_REPLICATION_SLOT s TEMPORARY PHYSICAL ( RESERVE_WAL)", "DROP_REPLICATION_SLOT s WAIT",
		"START_REPLICATION SLOT \"s\" PHYSICAL FFFFFFFF/1000000 TIMELINE 4294967295", "TIMELINE_HISTORY 2",
		"BASE_BACKUP ( LABEL 'it''s',  PROGRESS,  CHECKPOINT 'fast',  WAIT 0,  MANIFEST 'yes',  TARGET 'client')",
		"BASE_BACKUP (COMPRESSION gzip, COMPRESSION_DETAIL 'level=3', MAX_RATE 99999999999999999999)",
		"START_REPLICATION 123456789/0", "IDENTIFY_SYSTEM 'a", "SHOW \"",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cmd, err := parse(text)
		e, ours := errors.AsType[*pgwire.Error](err)
		switch {
		case err == nil && cmd == nil, err != nil && !ours && err != errNotReplication:
			t.Errorf("parse(%q) = %v, %v", text, cmd, err)
		case ours && e.Code != pgwire.CodeSyntaxError:
			t.Errorf("parse(%q): %v", text, err)
		}
		if backup, ok := cmd.(baseBackup); ok {
			if _, err := readBackupOptions(backup.options); err != nil {
				if _, ours := errors.AsType[*pgwire.Error](err); !ours {
					t.Errorf("options of %q: %v", text, err)
				}
			}
		}
		if create, ok := cmd.(createSlot); ok {
			reserveWAL(create.options)
		}
	})
}
