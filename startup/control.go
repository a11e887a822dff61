package startup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/longship-db/longship/wal"
)

// A Control is what must survive a restart whatever the role: the file global/control. It is text, so
// that it can be read without a tool: one JSON object, and a line with the CRC-32C of all before it.
// It is replaced atomically. Fields that this version does not know are an error: it would drop them.
type Control struct {
	PromisedEpoch uint64         `json:"promised_epoch"` // nothing older is followed or acknowledged
	Epoch         uint64         `json:"epoch"`          // of the log's end
	Timeline      wal.TimelineID `json:"timeline"`       // of the log's end

	Checkpoint wal.LSN `json:"checkpoint"`  // start of the last checkpoint record; 0 if there is none
	Redo       wal.LSN `json:"redo"`        // where redo starts: the store holds everything before
	Durable    wal.LSN `json:"durable"`     // the log was flushed at least to here
	ReignStart wal.LSN `json:"reign_start"` // this node wrote the log itself from here on; 0: another did
	Horizon    wal.LSN `json:"horizon"`     // learnt before the last write of this file
	NextXID    uint32  `json:"next_xid"`

	Damage *Damage `json:"damage,omitempty"` // nil: none is known

	Clean bool      `json:"clean"` // the node was shut down; false while it runs
	Time  time.Time `json:"time"`  // of the last write
}

const (
	controlFile  = "control"
	controlLimit = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNoControl says that there is no control file.
var ErrNoControl = errors.New("no control file")

// Encode returns the content of the control file.
func (c *Control) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli)), nil
}

// Write replaces the control file in the folder dir, durably.
func (c *Control) Write(fsys vfs.FS, dir string) error {
	b, err := c.Encode()
	if err != nil {
		return err
	}
	return wal.WriteFileDurably(fsys, dir, controlFile, b)
}

// ReadControl reads the control file in the folder dir.
func ReadControl(fsys vfs.FS, dir string) (Control, error) {
	b, err := wal.ReadFile(fsys, fsys.PathJoin(dir, controlFile), controlLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return Control{}, ErrNoControl
	}
	if err != nil {
		return Control{}, err
	}
	return parseControl(b)
}

func parseControl(b []byte) (Control, error) {
	i := bytes.LastIndex(b, []byte("crc32c "))
	if i < 0 {
		return Control{}, fmt.Errorf("control file: no checksum line")
	}
	if want := fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:i], castagnoli)); want != string(b[i:]) {
		return Control{}, fmt.Errorf("control file: checksum does not match: the file is damaged")
	}
	var c Control
	dec := json.NewDecoder(bytes.NewReader(b[:i]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Control{}, fmt.Errorf("control file: %w: written by another version?", err)
	}
	if c.Redo == 0 || c.Timeline == 0 || c.PromisedEpoch < c.Epoch {
		return Control{}, fmt.Errorf("control file: redo %s, timeline %d, epoch %d, promised epoch %d: written by another version?", c.Redo, c.Timeline, c.Epoch, c.PromisedEpoch)
	}
	return c, nil
}

// controlLocks has a *sync.Mutex for each DataDir, held while its control file is read, changed and
// replaced. A checkpointer and a [Recovered] have copies of what it says; nobody writes a copy back,
// for it may lack a promise that was given meanwhile.
var controlLocks sync.Map

// changeControl changes the control file, durably, and returns what it holds then. If change fails, so
// does changeControl, and the file stays as it is.
func (d DataDir) changeControl(change func(*Control) error) (Control, error) {
	held, _ := controlLocks.LoadOrStore(d, new(sync.Mutex))
	lock := held.(*sync.Mutex)
	lock.Lock()
	defer lock.Unlock()
	c, err := ReadControl(d.FS, d.Global())
	if wal.NoRoom(err) { // it cannot be opened now
		err = &wal.NoRoomError{Err: err}
	}
	if err != nil {
		return c, err
	}
	if err := change(&c); err != nil {
		return c, err
	}
	c.Time = time.Now().UTC()
	return c, c.Write(d.FS, d.Global())
}

// A Damage is what is known to be damaged of a log, and has not been repaired.
type Damage struct {
	Faults []wal.Fault `json:"faults"`
}

// Faults are the places of the log that are known to be damaged.
func (c *Control) Faults() []wal.Fault {
	if c.Damage == nil {
		return nil
	}
	return c.Damage.Faults
}

// noteFault adds a place that has been found to be damaged.
func (c *Control) noteFault(f wal.Fault) {
	if !slices.ContainsFunc(c.Faults(), func(o wal.Fault) bool { return o.From == f.From }) {
		c.setDamage(append(slices.Clone(c.Faults()), f))
	}
}

func (c *Control) setDamage(faults []wal.Fault) {
	c.Damage = nil
	if len(faults) > 0 {
		c.Damage = &Damage{faults}
	}
}

// SetDamage records, durably, which places of the log are known to be damaged. The error is a *wal.NoRoomError if it
// can be tried again; with any other the process must end.
func (d DataDir) SetDamage(faults []wal.Fault) error {
	_, err := d.changeControl(func(c *Control) error { c.setDamage(faults); return nil })
	return err
}

// An EpochError says that an epoch is over for this node: it has promised to follow, acknowledge and
// open nothing before a later one (invariant I3); or that there can be no such epoch.
type EpochError struct{ Epoch, Promised uint64 }

func (e *EpochError) Error() string {
	if e.Epoch > e.Promised {
		return fmt.Sprintf("epoch %d: there is no timeline of that number", e.Epoch)
	}
	return fmt.Sprintf("epoch %d is over: this node has promised to follow nothing before epoch %d", e.Epoch, e.Promised)
}

// Promise raises the promised epoch. What cannot be a timeline is refused: nothing could ever follow it.
func (c *Control) Promise(epoch uint64) error {
	if epoch < c.PromisedEpoch {
		return &EpochError{Epoch: epoch, Promised: c.PromisedEpoch}
	}
	if epoch > math.MaxUint32 {
		return &EpochError{Epoch: epoch, Promised: c.PromisedEpoch}
	}
	c.PromisedEpoch = epoch
	return nil
}

// endAt changes what the control file says of a log that ends at end from now on, and which another
// node continues. What was known of positions behind end was true of another log. Nor do records
// prove any more that this node had flushed the log behind them: it takes some away itself.
func (c *Control) endAt(end wal.LSN) {
	c.Durable = min(c.Durable, end)
	c.Horizon = min(c.Horizon, end)
	c.ReignStart = 0
	c.setDamage(wal.FaultsBefore(c.Faults(), end))
	if c.Checkpoint >= end {
		c.Checkpoint = 0
	}
}
