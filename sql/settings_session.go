package sql

import (
	"maps"
	"slices"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/syncrep"
)

// A sessionSettings is the settings as one session sees them: server-wide values, under those it
// connected with, under those it has set. What a transaction sets is undone if it fails.
//
// The first of these layers that has a value counts: local, tx, session, startup, server.
type sessionSettings struct {
	server  *Settings
	startup map[string]string  // from the start-up packet: what RESET returns to
	session map[string]string  // SET, committed
	tx      map[string]*string // SET in this transaction; nil: RESET
	local   map[string]string  // SET LOCAL: until the transaction ends
	custom  map[string]bool    // customized options that were set or reset: they stay known, empty if they have no value

	// What ROLLBACK TO undoes, the last change last, once there is a savepoint.
	undo   []settingChange
	undoes bool

	report func(name, value string)
	hold   func(n int) error
	size   int // bytes of values, and how many of them are counted
	held   int

	// What statements look at all the time, worked out when version is no longer the server's.
	version  uint64
	fresh    bool
	zone     *time.Location
	level    SyncLevel
	readOnly bool          // default_transaction_read_only
	standby  bool          // in_hot_standby
	timeout  time.Duration // statement_timeout

	idle, idleInBlock time.Duration // idle_session_timeout, idle_in_transaction_session_timeout

	reportCommit bool // longship.report_commit_lsn
}

// A settingChange is what a transaction had set a setting to before it changed it again.
type settingChange struct {
	folded        string
	tx            *string
	local         string
	inTx, inLocal bool
}

// settingSize is what a value takes beside its text, with what undoes it, in bytes.
const settingSize = 200

func newSessionSettings(server *Settings, report func(name, value string), hold func(n int) error) *sessionSettings {
	return &sessionSettings{
		server: server, report: report, hold: hold, version: server.version.Load(), startup: map[string]string{},
	}
}

// change makes the layers ready for another value of a setting, of so many bytes, which are counted until the
// transaction ends, even if the value does not last so long. It returns what the layers call the setting.
func (s *sessionSettings) change(def *Setting, size int) (folded string, err error) {
	s.size += settingSize + len(def.Name) + size
	if err := s.count(); err != nil {
		s.size = s.held
		return "", err
	}
	folded = s.touch(def)
	s.remember(folded)
	return folded, nil
}

// count counts the values if they have become many.
func (s *sessionSettings) count() error {
	if s.size-s.held < writeStep {
		return nil
	}
	if err := s.hold(s.size - s.held); err != nil {
		return err
	}
	s.held = s.size
	return nil
}

// remember notes what ROLLBACK TO goes back to.
func (s *sessionSettings) remember(folded string) {
	if !s.undoes {
		return
	}
	c := settingChange{folded: folded}
	c.tx, c.inTx = s.tx[folded]
	c.local, c.inLocal = s.local[folded]
	s.undo = append(s.undo, c)
}

// savepoint returns the mark that rollbackTo goes back to.
func (s *sessionSettings) savepoint() (mark int) {
	s.undoes = true
	return len(s.undo)
}

// rollbackTo takes back what was set since.
func (s *sessionSettings) rollbackTo(mark int) {
	for _, c := range slices.Backward(s.undo[mark:]) {
		delete(s.tx, c.folded)
		delete(s.local, c.folded)
		if c.inTx {
			s.tx[c.folded] = c.tx
		}
		if c.inLocal {
			s.local[c.folded] = c.local
		}
		s.notify(c.folded)
	}
	clear(s.undo[mark:])
	s.undo = s.undo[:mark]
}

// settle counts what a transaction that has ended leaves behind.
func (s *sessionSettings) settle() {
	s.size = 0
	for folded, value := range s.session {
		s.size += settingSize + len(folded) + len(value)
	}
	for folded := range s.custom {
		s.size += settingSize + len(folded)
	}
	counted := s.size
	if counted < writeStep {
		counted = 0
	}
	if counted < s.held {
		_ = s.hold(counted - s.held) // less, which cannot fail
		s.held = counted
	}
}

// touch makes the layers that SET writes to, which most sessions never need, and returns what they call the setting.
func (s *sessionSettings) touch(def *Setting) string {
	if s.tx == nil {
		s.session, s.tx, s.local, s.custom = map[string]string{}, map[string]*string{}, map[string]string{}, map[string]bool{}
	}
	folded := foldName(def.Name)
	if def.Category == customized {
		s.custom[folded] = true
	}
	return folded
}

// connect applies a parameter of the start-up packet.
func (s *sessionSettings) connect(name, value string) error {
	def, err := s.changeable(name)
	if err != nil {
		return err
	}
	text, err := def.serverValue(value)
	if err != nil {
		return err
	}
	s.startup[foldName(name)] = text
	s.fresh = false
	return nil
}

// changeable finds a setting that a session may change.
func (s *sessionSettings) changeable(name string) (*Setting, error) {
	def, err := s.server.lookup(name)
	if err != nil {
		return nil, err
	}
	switch def.Context {
	case ContextInternal:
		return nil, pgwire.Errorf(pgwire.CodeCantChangeRuntimeParam, `parameter "%s" cannot be changed`, def.Name)
	case ContextPostmaster:
		return nil, pgwire.Errorf(pgwire.CodeCantChangeRuntimeParam, `parameter "%s" cannot be changed without restarting the server`, def.Name)
	case ContextSighup:
		return nil, pgwire.Errorf(pgwire.CodeCantChangeRuntimeParam, `parameter "%s" cannot be changed now`, def.Name)
	}
	return def, nil
}

// set changes a value for the session, or for the transaction only. It takes effect at once and
// lasts if the transaction commits.
func (s *sessionSettings) set(name, value string, local bool) error {
	def, err := s.changeable(name)
	if err != nil {
		return err
	}
	text, err := def.serverValue(value)
	if err != nil {
		return err
	}
	folded, err := s.change(def, len(text))
	if err != nil {
		return err
	}
	if local {
		s.local[folded] = text
	} else {
		s.tx[folded] = &text
		delete(s.local, folded)
	}
	s.notify(folded)
	return nil
}

// reset returns a value to what the connection began with.
func (s *sessionSettings) reset(name string, local bool) error {
	def, err := s.changeable(name)
	if err != nil {
		return err
	}
	folded, err := s.change(def, 0)
	if err != nil {
		return err
	}
	if local {
		s.local[folded] = s.resetValue(folded)
	} else {
		s.tx[folded] = nil
		delete(s.local, folded)
	}
	s.notify(folded)
	return nil
}

func (s *sessionSettings) resetAll() error {
	changed := map[string]bool{}
	for _, folded := range slices.Concat(slices.Collect(maps.Keys(s.session)), s.touched()) {
		changed[folded] = true
	}
	for folded := range changed {
		if err := s.reset(folded, false); err != nil {
			return err
		}
	}
	return nil
}

// commit and rollback end a transaction.
func (s *sessionSettings) commit() {
	if !s.changed() {
		return
	}
	for folded, value := range s.tx {
		if value == nil {
			delete(s.session, folded)
		} else {
			s.session[folded] = *value
		}
	}
	s.endTransaction()
}

func (s *sessionSettings) rollback() {
	if s.changed() {
		s.endTransaction()
	}
}

// changed reports whether the transaction has to do with settings.
func (s *sessionSettings) changed() bool { return len(s.tx) > 0 || len(s.local) > 0 || s.undoes }

func (s *sessionSettings) endTransaction() {
	touched := s.touched()
	for _, c := range s.undo {
		touched = append(touched, c.folded)
	}
	clear(s.tx)
	clear(s.local)
	s.undo, s.undoes = nil, false
	for _, folded := range touched {
		s.notify(folded)
	}
	s.settle()
}

// touched are the settings that the transaction has changed.
func (s *sessionSettings) touched() []string {
	return slices.AppendSeq(slices.Collect(maps.Keys(s.tx)), maps.Keys(s.local))
}

// notify tells the client a value that it wants to know.
func (s *sessionSettings) notify(folded string) {
	s.fresh = false
	if def, err := s.server.lookup(folded); err == nil && def.Report {
		s.report(def.Name, def.display(s.get(folded)))
	}
}

// get returns a value in canonical form.
func (s *sessionSettings) get(folded string) string {
	value, _ := s.getSource(folded)
	return value
}

func (s *sessionSettings) getSource(folded string) (value, source string) {
	if v, ok := s.local[folded]; ok {
		return v, "session"
	}
	tx, changed := s.tx[folded]
	if changed && tx != nil {
		return *tx, "session"
	}
	if v, ok := s.session[folded]; ok && !changed {
		return v, "session"
	}
	if v, ok := s.startup[folded]; ok {
		return v, "client"
	}
	return s.server.get(folded)
}

func (s *sessionSettings) resetValue(folded string) string {
	if v, ok := s.startup[folded]; ok {
		return v
	}
	return s.server.String(folded)
}

// known reports whether a customized option has a value at all.
func (s *sessionSettings) known(def *Setting) bool {
	folded := foldName(def.Name)
	_, source := s.getSource(folded)
	return def.Category != customized || s.custom[folded] || source != "default"
}

// refresh works out the values that statements look at all the time.
func (s *sessionSettings) refresh() {
	if version := s.server.version.Load(); !s.fresh || version != s.version {
		if version != s.version {
			for _, def := range s.server.reported() {
				s.notify(foldName(def.Name))
			}
		}
		s.fresh, s.version = true, version
		zone, err := loadZone(s.get("timezone"))
		if err != nil {
			zone = time.UTC
		}
		s.zone = zone
		s.level, _ = syncrep.ParseLevel(s.get("synchronous_commit"))
		s.readOnly = s.get("default_transaction_read_only") == "on"
		s.standby = s.get("in_hot_standby") == "on"
		s.timeout = s.milliseconds("statement_timeout")
		s.idle = s.milliseconds("idle_session_timeout")
		s.idleInBlock = s.milliseconds("idle_in_transaction_session_timeout")
		s.reportCommit = s.get(reportCommitLSN) == "on"
	}
}

func (s *sessionSettings) milliseconds(folded string) time.Duration {
	ms, _ := parseInt(s.get(folded), Int8)
	return time.Duration(ms.n) * time.Millisecond
}

func (s *sessionSettings) location() *time.Location { s.refresh(); return s.zone }
func (s *sessionSettings) syncLevel() SyncLevel     { s.refresh(); return s.level }
