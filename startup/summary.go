package startup

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/kv"
	"github.com/longship-db/longship/wal"
)

// An Orphan is a tail that was cut off this node's log: what the log it follows now does not have.
type Orphan struct {
	Name string // of the folder: EPOCH-HIGH-LOW, perhaps with a number behind it
	Path string // of the folder, which waldump reads

	// Summary has only Epoch and Fork, from the name, if Err is not nil: an orphan of an older version
	// has no summary (fs.ErrNotExist), and one may be damaged.
	Summary
	Err error
}

// A Summary says what is in an orphan: the file summary.json.
type Summary struct {
	Epoch        uint64    `json:"epoch"` // of the log when it was cut
	Fork         wal.LSN   `json:"fork"`  // where it was cut
	End          wal.LSN   `json:"end"`   // where it had ended
	Time         time.Time `json:"time"`  // of the cut
	Transactions int       `json:"transactions"`

	// Operations are what the transactions did, in the order of the log. Truncated says that there
	// were more than are listed.
	Operations OrphanOps `json:"operations"`
	Truncated  bool      `json:"truncated"`

	// Unreadable is where the tail could not be decoded any further, 0 if it could: what lies behind, as
	// far as it is there, is in the segments, but neither counted nor listed.
	Unreadable wal.LSN `json:"unreadable"`
}

// An OrphanOp is an operation of which no successor of the log knows. Values are in the segments.
type OrphanOp struct {
	Key  string  `json:"key"`
	Kind string  `json:"kind"` // "put", "put null" or "delete", as kv.Kind prints
	LSN  wal.LSN `json:"lsn"`  // end of the transaction's record: what the column lsn showed
}

// OrphanOps are at most 10,000 operations.
type OrphanOps []OrphanOp

// UnmarshalJSON reads an array, and no more of it than there may be. null is an empty one.
func (ops *OrphanOps) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*ops = OrphanOps{}
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("operations: want an array, not %.20s", b)
	}
	*ops = OrphanOps{}
	for dec.More() {
		if len(*ops) == summaryOps {
			return fmt.Errorf("more than %d operations", summaryOps)
		}
		var o OrphanOp
		if err := dec.Decode(&o); err != nil {
			return err
		}
		*ops = append(*ops, o)
	}
	return nil
}

// Limits of a summary. What is left out is in the segments.
const (
	summaryFile     = "summary.json"
	summaryLimit    = 4 << 20 // bytes of the file
	summaryOps      = 10_000
	summaryOpsLimit = summaryLimit - 4<<10 // bytes of the operations; the other fields need less than the rest
)

// orphanName is the name of the folder for the tail of an epoch's log behind at.
func orphanName(epoch uint64, at wal.LSN) string {
	return fmt.Sprintf("%d-%X-%X", epoch, uint64(at)>>32, uint32(at))
}

var orphanPattern = regexp.MustCompile(`^([0-9]{1,20})-([0-9A-F]{1,8})-([0-9A-F]{1,8})(-[0-9]+)?$`)

// parseOrphanName undoes orphanName.
func parseOrphanName(name string) (epoch uint64, fork wal.LSN, ok bool) {
	m := orphanPattern.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	epoch, errEpoch := strconv.ParseUint(m[1], 10, 64)
	fork, errFork := wal.ParseLSN(m[2] + "/" + m[3])
	return epoch, fork, errEpoch == nil && errFork == nil
}

// Orphans lists the tails that were cut off this node's log, by epoch and position. What an
// interrupted Cut left is not among them.
func (d DataDir) Orphans() ([]Orphan, error) {
	names, err := d.FS.List(d.orphans())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list orphans: %w", err)
	}
	var orphans []Orphan
	for _, name := range names {
		epoch, fork, ok := parseOrphanName(name)
		if !ok {
			continue
		}
		o := Orphan{Name: name, Path: d.FS.PathJoin(d.orphans(), name)}
		if o.Summary, o.Err = readSummary(d, o.Path); o.Err != nil {
			o.Summary = Summary{Epoch: epoch, Fork: fork}
		}
		orphans = append(orphans, o)
	}
	slices.SortStableFunc(orphans, func(a, b Orphan) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Fork, b.Fork), cmp.Compare(a.Name, b.Name))
	})
	return orphans, nil
}

func readSummary(d DataDir, folder string) (Summary, error) {
	b, err := wal.ReadFile(d.FS, d.FS.PathJoin(folder, summaryFile), summaryLimit)
	if err != nil {
		return Summary{}, err
	}
	return parseSummary(b)
}

func parseSummary(b []byte) (Summary, error) {
	var s Summary
	if len(b) > summaryLimit {
		return Summary{}, fmt.Errorf("%s: %d bytes, at most %d are", summaryFile, len(b), summaryLimit)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return Summary{}, fmt.Errorf("%s: %w", summaryFile, err)
	}
	if s.Fork == 0 || s.End <= s.Fork || s.Transactions < 0 {
		return Summary{}, fmt.Errorf("%s: from %s to %s, %d transactions: damaged", summaryFile, s.Fork, s.End, s.Transactions)
	}
	return s, nil
}

func (s Summary) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	return append(b, '\n'), err
}

// summarise reads the log behind at, as far as it can be read.
func (r *Recovered) summarise(at wal.LSN) Summary {
	s := Summary{Epoch: r.Control.Epoch, Fork: at, End: r.End.LSN, Time: time.Now().UTC(), Operations: OrphanOps{}}
	log := wal.NewReader(wal.NewRawReader(r.Dir, r.History, nil), at, 0)
	defer log.Close()
	var c kv.Commit
	size := 0
	for end := at; ; {
		rec, ok, err := log.Next(r.End.LSN)
		mine := false
		if err == nil && ok {
			mine, err = decodeCommit(rec, &c)
		}
		switch {
		case err != nil:
			s.Unreadable = end
			return s
		case !ok:
			return s
		}
		end = rec.End
		if mine {
			s.Transactions++
			size = s.add(&c, end, size)
		}
	}
}

// add lists the operations of a transaction, if there is room: size bytes have been used.
func (s *Summary) add(c *kv.Commit, end wal.LSN, size int) int {
	for _, op := range c.Ops {
		if s.Truncated {
			return size
		}
		o := OrphanOp{Key: strings.Clone(op.Key), Kind: op.Kind.String(), LSN: end}
		b, err := json.Marshal(o)
		size += len(b) + 1 // a comma
		if err != nil || len(s.Operations) == summaryOps || size > summaryOpsLimit {
			s.Truncated = true
			return size
		}
		s.Operations = append(s.Operations, o)
	}
	return size
}
