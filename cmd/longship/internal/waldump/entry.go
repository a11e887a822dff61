package waldump

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// An Entry is one record as it is printed. Its JSON form is what --json prints, one to a line.
type Entry struct {
	LSN      wal.LSN        `json:"lsn"`
	End      wal.LSN        `json:"end"`
	Prev     wal.LSN        `json:"prev"`
	Timeline wal.TimelineID `json:"timeline"`
	XID      uint32         `json:"xid"`
	Rmgr     string         `json:"rmgr"`
	Type     string         `json:"type"`
	Length   uint32         `json:"length"` // of the record, headers included

	// One of these, or none, by type.
	Commit        *Commit        `json:"commit,omitempty"`
	Checkpoint    *Checkpoint    `json:"checkpoint,omitempty"`
	EndOfRecovery *EndOfRecovery `json:"end_of_recovery,omitempty"`

	Detail string `json:"detail,omitempty"` // of records that have no structure of their own here
	Error  string `json:"error,omitempty"`  // why the payload could not be decoded
}

// A Commit is the payload of a transaction's record.
type Commit struct {
	Time    Time    `json:"time"`
	Horizon wal.LSN `json:"horizon"`
	Flushed wal.LSN `json:"flushed"`
	Ops     []Op    `json:"ops"`
	Others  int     `json:"other_ops,omitempty"` // operations that a filter left out
}

// An Op is one operation of a Commit.
type Op struct {
	Op         string  `json:"op"` // put, put null or delete
	Key        string  `json:"key"`
	KeyBytes   int     `json:"key_bytes"`
	Value      *string `json:"value,omitempty"`     // of a put
	ValueHex   string  `json:"value_hex,omitempty"` // instead, if the value is not UTF-8
	ValueBytes int     `json:"value_bytes"`
}

// A Checkpoint is the payload of a checkpoint record.
type Checkpoint struct {
	Redo         wal.LSN        `json:"redo"`
	Timeline     wal.TimelineID `json:"timeline"`
	PrevTimeline wal.TimelineID `json:"prev_timeline"`
	NextXID      uint64         `json:"next_xid"`
	Time         Time           `json:"time"`
}

// An EndOfRecovery is the payload of the first record of a timeline.
type EndOfRecovery struct {
	Timeline     wal.TimelineID `json:"timeline"`
	PrevTimeline wal.TimelineID `json:"prev_timeline"`
	Time         Time           `json:"time"`
}

// A Time is printed in RFC 3339's form even if its year has more than four digits: there is no telling
// what a damaged record holds.
type Time struct{ time.Time }

// MarshalJSON does not fail, as that of time.Time would.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.Format(time.RFC3339Nano)) }

// builtinRmgrs are PostgreSQL 15's resource managers, by id, as pg_waldump calls them.
var builtinRmgrs = [...]string{
	"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby",
	"Heap2", "Heap", "Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs",
	"ReplicationOrigin", "Generic", "LogicalMessage",
}

func rmgrName(id wal.RmgrID) string {
	switch {
	case id == wal.RmgrLongship:
		return "Longship"
	case int(id) < len(builtinRmgrs):
		return builtinRmgrs[id]
	}
	return fmt.Sprintf("custom%03d", uint8(id))
}

const (
	opcodeMask     = 0xF0
	xactOpcodeMask = 0x70 // the highest bit of RM_XACT says that more follows the time
)

// xlogTypes are the opcodes of PostgreSQL 15's XLOG resource manager.
var xlogTypes = map[uint8]string{
	wal.XLOGCheckpointShutdown:  "CHECKPOINT_SHUTDOWN",
	wal.XLOGCheckpointOnline:    "CHECKPOINT_ONLINE",
	wal.XLOGNoop:                "NOOP",
	0x30:                        "NEXTOID",
	wal.XLOGSwitch:              "SWITCH",
	0x50:                        "BACKUP_END",
	0x60:                        "PARAMETER_CHANGE",
	xlogRestorePoint:            "RESTORE_POINT",
	0x80:                        "FPW_CHANGE",
	wal.XLOGEndOfRecovery:       "END_OF_RECOVERY",
	0xA0:                        "FPI_FOR_HINT",
	0xB0:                        "FPI",
	wal.XLOGOverwriteContrecord: "OVERWRITE_CONTRECORD",
}

const xlogRestorePoint = 0x70

var xactTypes = map[uint8]string{
	xactCommit: "COMMIT", 0x10: "PREPARE", xactAbort: "ABORT", 0x30: "COMMIT_PREPARED",
	0x40: "ABORT_PREPARED", 0x50: "ASSIGNMENT", 0x60: "INVALIDATION",
}

const (
	xactCommit = 0x00
	xactAbort  = 0x20
)

// decode makes an Entry of a record. It copies what it keeps.
func decode(rec *wal.Record, tli wal.TimelineID) Entry {
	e := Entry{
		LSN: rec.LSN, End: rec.End, Prev: rec.Prev, Timeline: tli,
		XID: rec.XID, Rmgr: rmgrName(rec.Rmgr), Length: rec.TotLen,
	}
	var err error
	switch rec.Rmgr {
	case wal.RmgrXLOG:
		e.Type = typeName(xlogTypes, rec.Info&opcodeMask)
		err = e.decodeXLOG(rec)
	case wal.RmgrXact:
		opcode := rec.Info & xactOpcodeMask
		e.Type = typeName(xactTypes, opcode)
		if (opcode == xactCommit || opcode == xactAbort) && len(rec.Data) >= 8 {
			e.Detail = timestamp(littleTime(rec.Data))
		}
	case wal.RmgrLongship:
		err = e.decodeLongship(rec)
	default:
		e.Type = typeName(nil, rec.Info&opcodeMask)
	}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func typeName(names map[uint8]string, opcode uint8) string {
	if name, ok := names[opcode]; ok {
		return name
	}
	return fmt.Sprintf("UNKNOWN (%x)", opcode)
}

func (e *Entry) decodeXLOG(rec *wal.Record) error {
	switch rec.Info & opcodeMask {
	case wal.XLOGCheckpointShutdown, wal.XLOGCheckpointOnline:
		c, err := wal.ParseCheckpoint(rec.Data)
		if err != nil {
			return err
		}
		e.Checkpoint = &Checkpoint{c.Redo, c.Timeline, c.PrevTimeline, c.NextXID, Time{c.Time}}
	case wal.XLOGEndOfRecovery:
		r, err := wal.ParseEndOfRecovery(rec.Data)
		if err != nil {
			return err
		}
		e.EndOfRecovery = &EndOfRecovery{r.Timeline, r.PrevTimeline, Time{r.Time}}
	case wal.XLOGNoop:
		if at, ok := rec.Heartbeat(); ok {
			e.Detail = "heartbeat of " + timestamp(at.Time())
		}
	case xlogRestorePoint: // TimestampTz, char[64]
		if len(rec.Data) < 9 {
			return fmt.Errorf("restore point record: %d bytes, want 72", len(rec.Data))
		}
		name, _, _ := strings.Cut(string(rec.Data[8:]), "\x00")
		e.Detail = fmt.Sprintf("%q at %s", name, timestamp(littleTime(rec.Data)))
	case wal.XLOGOverwriteContrecord: // LSN of the abandoned record, TimestampTz
		if len(rec.Data) < 16 {
			return fmt.Errorf("overwritten contrecord record: %d bytes, want 16", len(rec.Data))
		}
		e.Detail = fmt.Sprintf("lsn %s; time %s", wal.LSN(binary.LittleEndian.Uint64(rec.Data)), timestamp(littleTime(rec.Data[8:])))
	}
	return nil
}

func littleTime(b []byte) time.Time {
	return wal.Timestamp(binary.LittleEndian.Uint64(b)).Time()
}

func (e *Entry) decodeLongship(rec *wal.Record) error {
	if rec.Info&opcodeMask != kv.InfoCommit {
		e.Type = typeName(nil, rec.Info&opcodeMask)
		return nil
	}
	e.Type = "COMMIT"
	c, err := kv.DecodeCommit(rec.Data)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	e.Commit = &Commit{Time: Time{c.Time.Time()}, Horizon: c.Horizon, Flushed: c.Flushed, Ops: make([]Op, 0, len(c.Ops))}
	for _, o := range c.Ops {
		e.Commit.Ops = append(e.Commit.Ops, decodeOp(o))
	}
	return nil
}

func decodeOp(o kv.Op) Op {
	op := Op{Op: o.Kind.String(), Key: strings.Clone(o.Key), KeyBytes: len(o.Key), ValueBytes: len(o.Value)}
	switch {
	case o.Kind != kv.Put:
	case utf8.Valid(o.Value):
		op.Value = new(string(o.Value))
	default:
		op.ValueHex = fmt.Sprintf("%x", o.Value)
	}
	return op
}

// keepKeys leaves only operations on keys with the prefix, and reports whether there is any.
func (e *Entry) keepKeys(prefix string) bool {
	if e.Commit == nil {
		return false
	}
	var kept []Op
	for _, o := range e.Commit.Ops {
		if strings.HasPrefix(o.Key, prefix) {
			kept = append(kept, o)
		}
	}
	e.Commit.Others += len(e.Commit.Ops) - len(kept)
	e.Commit.Ops = kept
	return len(kept) > 0
}
