package election

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/longship-db/longship/pgwire"
	"github.com/longship-db/longship/raftlog"
	"github.com/longship-db/longship/syncrep"
	"github.com/longship-db/longship/wal"
)

// MaxText is the most bytes that a command and an answer may have: room for the longest Raft command in
// base64.
const MaxText = 3 << 19

// prefix begins every command.
const prefix = "LONGSHIP_"

// A Verb is what a member asks another one to do. On the wire a command is the text of a Query message
// on a native replication connection,
//
//	LONGSHIP_<VERB> '<json>'
//
// with the quotes in the JSON doubled. The answer is one row with one text column, JSON again. Requests
// and answers may gain fields: a reader skips what it does not know.
type Verb string

// The verbs.
const (
	VerbProbe      Verb = "PROBE"      // how are you
	VerbSeal       Verb = "SEAL"       // promise an epoch
	VerbPropose    Verb = "PROPOSE"    // a command for the Raft leader
	VerbJoin       Verb = "JOIN"       // take me as a member
	VerbHold       Verb = "HOLD"       // stop taking commits, drain to the target
	VerbRelease    Verb = "RELEASE"    // take commits again
	VerbFetch      Verb = "FETCH"      // get the rest of the log from another sealed member
	VerbSwitchover Verb = "SWITCHOVER" // move the primary
	VerbFailover   Verb = "FAILOVER"   // replace the primary
	VerbExplain    Verb = "EXPLAIN"    // who could be promoted, and why not
	VerbRemove     Verb = "REMOVE"     // drop a member
	VerbRead       Verb = "READ"       // bytes of your log, to repair mine
)

func (v Verb) known() bool {
	switch v {
	case VerbProbe, VerbSeal, VerbPropose, VerbJoin, VerbHold, VerbRelease, VerbFetch,
		VerbSwitchover, VerbFailover, VerbExplain, VerbRemove, VerbRead:
		return true
	}
	return false
}

// A Role is what a node is doing, as it says itself.
type Role string

// The roles.
const (
	RolePrimary Role = "primary" // in office
	RoleStandby Role = "standby" // follows, or waits for somebody to follow
	RoleJoining Role = "joining" // has not all there is yet
)

// A ProbeRequest asks a process how it is. It is answered in every role, as soon as the process listens
// and before it has recovered.
type ProbeRequest struct{}

// A Health is how a process is.
type Health struct {
	ID    syncrep.ID `json:"id"`
	Name  string     `json:"name"`
	RunID uint64     `json:"run_id,string"`
	Role  Role       `json:"role"`

	Epoch    uint64 `json:"epoch"`     // of the reign it is part of: its own in office, else the one it follows
	InOffice bool   `json:"in_office"` // it is the primary of Epoch
	Promised uint64 `json:"promised"`  // it acknowledges nothing of an older epoch
	Sealed   uint64 `json:"sealed"`    // the epoch it is sealed for; 0 if it is not

	Position raftlog.Position `json:"position"` // flushed
	Horizon  wal.LSN          `json:"horizon"`
	Damaged  wal.LSN          `json:"damaged,omitzero"` // as in raftlog.Answer
	Lacking  bool             `json:"lacking,omitzero"` // likewise
	Write    wal.LSN          `json:"write,omitzero"`   // how far the log is written; 0: not known
	Replay   wal.LSN          `json:"replay,omitzero"`  // how far it is applied; 0: not known, or it is a witness

	StreamEpoch   uint64        `json:"stream_epoch"`   // of the upstream it streams from; 0 if it does not
	StreamSilence time.Duration `json:"stream_silence"` // since the upstream's last message; negative if it does not stream

	// Of the file system that holds the data directory, in bytes; both 0: not known.
	DiskFree uint64 `json:"disk_free,omitempty"` // what the node may use
	DiskSize uint64 `json:"disk_size,omitempty"`

	// Of a primary in office.
	Fallback  *raftlog.Fallback `json:"fallback,omitempty"`  // nil: commits wait for the rule
	Receivers []string          `json:"receivers,omitempty"` // of those that the rule lists: who counts now
}

// A SealRequest asks a member for its promise to acknowledge nothing of an epoch before Epoch. The
// answer is a raftlog.Answer, given after the promise is durable, the streams are closed and what was
// written is flushed or dropped (invariant I3). A member that promised more before says so in the
// answer; one that is already part of the reign of Epoch, or of a later one, refuses.
type SealRequest struct {
	Epoch uint64 `json:"epoch"`
}

// A ProposeRequest carries a Raft command, as encoded by raftlog, to the leader.
type ProposeRequest struct {
	Command []byte `json:"command"`
}

// A ProposeReply is what became of the command, as raftlog.EncodeError says it: an empty Code means that
// it was applied. [Proposed] makes one, [Client.Forward] reads it.
type ProposeReply struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
}

// A JoinRequest is a process that asks to be the member it describes: a new one, one with a new
// address, or one that replaces a dead member of its name.
type JoinRequest struct {
	Member    raftlog.Member `json:"member"`
	RunID     uint64         `json:"run_id,string"`
	Returning bool           `json:"returning,omitempty"` // it has the cluster's data: it was a member before
	Again     bool           `json:"again,omitempty"`     // it was taken in before, and has no data yet
	Forwarded bool           `json:"forwarded,omitempty"` // by a member: not to be forwarded again
}

// A JoinReply tells a new member where it has arrived.
type JoinReply struct {
	SystemID uint64           `json:"system_identifier,string"`
	Member   raftlog.Member   `json:"member"`  // as recorded
	Members  []raftlog.Member `json:"members"` // all of them
	Primary  string           `json:"primary"` // by name; empty if nobody is in office
}

// A HoldRequest asks the primary of Epoch to take no new commits, and to answer when the member Target
// has flushed all there is. It takes commits again by itself after Limit, should nobody say more.
type HoldRequest struct {
	Epoch  uint64        `json:"epoch"`
	Target syncrep.ID    `json:"target"`
	Limit  time.Duration `json:"limit"`
}

// A HoldReply is the end of the log that the target has.
type HoldReply struct {
	LSN wal.LSN `json:"lsn"`
}

// A ReleaseRequest ends what a HoldRequest began.
type ReleaseRequest struct {
	Epoch uint64 `json:"epoch"`
}

// A ReleaseReply says that commits are taken again, or were all the time.
type ReleaseReply struct{}

// A FetchRequest asks a member that is sealed for Epoch to get its log to Position from another one
// that is, cutting what that one does not have (invariants I5 and I6). The answer is that of a seal,
// with the new position.
type FetchRequest struct {
	Epoch    uint64           `json:"epoch"`
	Source   syncrep.ID       `json:"source"`
	Address  string           `json:"address"` // of Source
	Position raftlog.Position `json:"position"`
}

// A SwitchoverRequest asks for another primary: the member To, or the best one if that is empty.
type SwitchoverRequest struct {
	To        string `json:"to,omitempty"`
	Forwarded bool   `json:"forwarded,omitempty"`
}

// A SwitchoverReply names the primary of the epoch that is steady now.
type SwitchoverReply struct {
	Primary string `json:"primary"`
	Address string `json:"address"`
	Epoch   uint64 `json:"epoch"`
}

// A FailoverRequest asks for a failover of the present primary, healthy or not. With AcceptLoss it is
// done even if acknowledged commits may be lost.
type FailoverRequest struct {
	AcceptLoss bool `json:"accept_loss,omitempty"`
	Forwarded  bool `json:"forwarded,omitempty"`
}

// A FailoverReply names the primary of the epoch that is steady now, and shows what there was to choose
// from.
type FailoverReply struct {
	Primary   string     `json:"primary"`
	Address   string     `json:"address"`
	Epoch     uint64     `json:"epoch"`
	LostBytes uint64     `json:"lost_bytes"` // at most
	Survivors []Survivor `json:"survivors"`
}

// A Survivor is a member as a failover found it.
type Survivor struct {
	Name     string           `json:"name"`
	Answered bool             `json:"answered"`
	Position raftlog.Position `json:"position"`        // if it answered
	Error    string           `json:"error,omitempty"` // if it did not
}

// An ExplainRequest asks what a failover would find now.
type ExplainRequest struct {
	Forwarded bool `json:"forwarded,omitempty"`
}

// A RemoveRequest asks to drop a member.
type RemoveRequest struct {
	Name      string `json:"name"`
	Forwarded bool   `json:"forwarded,omitempty"`
}

// A RemoveReply says whether the member is gone, or goes once no rule lists it.
type RemoveReply struct {
	Gone bool `json:"gone"`
}

// MaxRead is the most bytes of log that an answer carries: they are in base64.
const MaxRead = 1 << 20

// A ReadRequest asks a member for bytes of its log, whatever its role, to repair that of the one who asks: at
// most MaxRead, from Start on, inside one segment. A member whose file of that segment is of another timeline
// has another log there, and refuses.
type ReadRequest struct {
	Timeline wal.TimelineID `json:"timeline"`
	Start    wal.LSN        `json:"start"`
	Length   int            `json:"length"`
}

// A ReadReply has as many of the bytes as are durable there. They are as the disk has them: who asks checks
// them.
type ReadReply struct {
	Data []byte `json:"data"`
}

// SQLSTATE of what a coordinator answers that is none, or no longer. It is ours: no client sees it.
const codeNotLeader = "LS001"

// IsCommand reports whether the text of a query is a member's command, well formed or not.
func IsCommand(text string) bool {
	text = strings.TrimLeft(text, " ")
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}

// Format makes the text of a command.
func Format(v Verb, request any) (string, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", v, err)
	}
	quotes := bytes.Count(body, []byte{'\''})
	if n := len(prefix) + len(v) + len(" ''") + len(body) + quotes; n > MaxText {
		return "", fmt.Errorf("encode %s: %d bytes are more than %d", v, n, MaxText)
	}
	return prefix + string(v) + " '" + strings.ReplaceAll(string(body), "'", "''") + "'", nil
}

// Parse takes the text of a command apart. The body is JSON, as far as the quotes go: it has not been
// decoded. The error is a *pgwire.Error.
func Parse(text string) (v Verb, body []byte, err error) {
	if len(text) > MaxText {
		return "", nil, pgwire.Errorf(pgwire.CodeProgramLimitExceeded, "a member's command of %d bytes is longer than %d", len(text), MaxText)
	}
	if !IsCommand(text) {
		return "", nil, syntaxError("want " + prefix + "<VERB> '<json>'")
	}
	word, rest, _ := strings.Cut(strings.Trim(text, " ")[len(prefix):], " ")
	v = Verb(strings.ToUpper(word))
	if !v.known() {
		return "", nil, syntaxError("unknown verb")
	}
	body, err = unquote(strings.TrimLeft(rest, " "))
	return v, body, err
}

// unquote reads a string constant that is all of s.
func unquote(s string) ([]byte, error) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return nil, syntaxError("want a string constant after the verb")
	}
	s = s[1 : len(s)-1]
	body := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			if i++; i == len(s) || s[i] != '\'' {
				return nil, syntaxError("something follows the string constant")
			}
		}
		body = append(body, s[i])
	}
	return body, nil
}

func syntaxError(detail string) error {
	return pgwire.Errorf(pgwire.CodeSyntaxError, "invalid command of a member").WithDetail("%s", detail)
}

// decode reads a request. The error is a *pgwire.Error.
func decode(v Verb, body []byte, request any) error {
	if err := json.Unmarshal(body, request); err != nil {
		return pgwire.Errorf(pgwire.CodeProtocolViolation, "invalid request %s%s: %w", prefix, v, err)
	}
	return nil
}

// Proposed is the reply that says what became of a command.
func Proposed(err error) ProposeReply {
	code, text := raftlog.EncodeError(err)
	return ProposeReply{Code: code, Text: text}
}

// notLeader is what a node answers to what only the Raft leader does.
func notLeader() error {
	return &pgwire.Error{Code: codeNotLeader, Message: "this node is not the Raft leader", Hint: "Ask again: there will be one soon.", Err: raftlog.ErrNotLeader}
}
