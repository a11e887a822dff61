package walsender

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// A Session answers the commands of one replication connection, one after the other. It implements
// pgwire.Replication.
type Session struct {
	server *Server
	conn   *pgwire.Conn
	name   string     // application_name
	id     syncrep.ID // of a member; zero for a receiver
	fetch  bool       // a member that wants all that a sealed node holds
	log    *slog.Logger

	progress progress // what the views show

	// Guarded by server.mu.
	cancel    context.CancelCauseFunc // of the running command
	done      chan struct{}           // closed when the running command has ended
	streaming *stream                 // what the running command streams, if it does
}

// Parameters implements pgwire.Reporter: target_session_attrs of a client with several hosts chooses
// among them by what it is told at the start.
func (s *Session) Parameters() map[string]string {
	return map[string]string{standbySetting: s.standby()}
}

// Close ends the session: its temporary slots go with it.
func (s *Session) Close() {
	s.server.remove(s)
	s.releaseSlots()
}

// Command runs one command. After an error the session's temporary slots are gone, as in PostgreSQL.
func (s *Session) Command(ctx context.Context, text string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := s.server.begin(s, cancel); err != nil {
		return err
	}
	defer s.server.end(s)
	defer s.progress.reset()
	s.log.Debug("replication command", "text", text)
	cmd, err := parse(text)
	if errors.Is(err, errNotReplication) {
		err = s.refuseSQL()
	}
	if err == nil {
		err = s.run(ctx, cmd)
	}
	if err != nil {
		s.releaseSlots()
	}
	return err
}

func (s *Session) refuseSQL() error {
	if s.conn.Kind == pgwire.KindDatabase {
		return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot execute SQL commands in WAL sender").
			WithHint("There is no logical replication: stream the log, with pg_receivewal or START_REPLICATION PHYSICAL. For SQL connect without the parameter \"replication\".")
	}
	return pgwire.Errorf(pgwire.CodeFeatureNotSupported, "cannot execute SQL commands in WAL sender for physical replication")
}

func (s *Session) run(ctx context.Context, cmd command) error {
	switch cmd := cmd.(type) {
	case identifySystem:
		return s.identifySystem()
	case showSetting:
		return s.show(cmd)
	case readSlot:
		return s.readSlot(cmd)
	case createSlot:
		return s.createSlot(ctx, cmd)
	case dropSlot:
		return s.dropSlot(ctx, cmd)
	case startReplication:
		return s.startReplication(ctx, cmd)
	case timelineHistory:
		return s.timelineHistory(cmd)
	case baseBackup:
		return s.baseBackup(ctx, cmd)
	}
	return fmt.Errorf("no such command: %T", cmd)
}

// Type OIDs of the columns that replication commands return.
const (
	oidInt8 = 20
	oidInt4 = 23
	oidText = 25
	oidOID  = 26
)

func text(name string) pgwire.Column {
	return pgwire.Column{Name: name, Type: oidText, Size: -1, Mod: -1}
}
func int4(name string) pgwire.Column {
	return pgwire.Column{Name: name, Type: oidInt4, Size: 4, Mod: -1}
}
func int8(name string) pgwire.Column {
	return pgwire.Column{Name: name, Type: oidInt8, Size: 8, Mod: -1}
}

// sendRow sends a result of one row, and its tag.
func (s *Session) sendRow(tag string, columns []pgwire.Column, values ...[]byte) error {
	s.conn.SendRowDescription(columns)
	if err := s.conn.SendTextRow(values...); err != nil {
		return err
	}
	s.conn.SendCommandComplete(tag)
	return nil
}

func (s *Session) identifySystem() error {
	log := s.server.cfg.Log
	var database []byte
	if s.conn.Kind == pgwire.KindDatabase {
		database = []byte(s.conn.Database)
	}
	return s.sendRow("IDENTIFY_SYSTEM",
		[]pgwire.Column{text("systemid"), int4("timeline"), text("xlogpos"), text("dbname")},
		strconv.AppendUint(nil, log.SystemID, 10),
		strconv.AppendUint(nil, uint64(log.Timeline), 10),
		lsnText(min(s.visible().load(), log.Flushed.Load())),
		database)
}

func lsnText(l wal.LSN) []byte { return []byte(l.String()) }

// Where a member asks, before it streams, for the epoch it has to promise, and whether a primary speaks.
// The answers are those of the log that would be streamed, whatever the node knows by now.
const (
	epochSetting   = "longship.epoch"
	standbySetting = "in_hot_standby"
)

// standby is in_hot_standby as the log's server says it.
func (s *Session) standby() string {
	if s.server.cfg.Primary {
		return "off"
	}
	return "on"
}

func (s *Session) show(cmd showSetting) error {
	cfg := &s.server.cfg
	var value string
	ok := true
	switch cmd.name {
	case epochSetting:
		value = strconv.FormatUint(cfg.Log.Epoch, 10)
	case standbySetting:
		value = s.standby()
	default:
		value, ok = cfg.Show(cmd.name)
	}
	if !ok {
		return pgwire.Errorf(pgwire.CodeUndefinedObject, "unrecognized configuration parameter %q", cmd.name)
	}
	return s.sendRow("SHOW", []pgwire.Column{text(cmd.name)}, []byte(value))
}

// maxHistorySize bounds a history file: a line for each of many thousand promotions.
const maxHistorySize = 1 << 20

// timelineHistory sends a history file. As in PostgreSQL the description goes out before the file is
// looked for.
func (s *Session) timelineHistory(cmd timelineHistory) error {
	dir, name := s.server.cfg.Log.Dir, wal.HistoryFileName(cmd.timeline)
	s.conn.SendRowDescription([]pgwire.Column{text("filename"), text("content")})
	content, err := wal.ReadFile(dir.FS, dir.FS.PathJoin(dir.Path, name), maxHistorySize)
	if errors.Is(err, fs.ErrNotExist) {
		return pgwire.Errorf(pgwire.CodeUndefinedFile, "could not open file \"pg_wal/%s\": No such file or directory", name)
	}
	if err != nil {
		return pgwire.Errorf(pgwire.CodeIOError, "could not read file \"pg_wal/%s\": %w", name, err)
	}
	if err := s.conn.SendTextRow([]byte(name), content); err != nil {
		return err
	}
	s.conn.SendCommandComplete("TIMELINE_HISTORY")
	return nil
}
