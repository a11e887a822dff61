package waldump

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/longship-db/longship/wal"
)

// A statsPrinter counts records by type and prints a table at the end, like pg_waldump's
// --stats=record without the columns for page images, which our records do not have.
type statsPrinter struct {
	out      io.Writer
	json     bool
	from, to wal.LSN
	types    map[string]*typeStats
}

type typeStats struct {
	Type  string `json:"type"` // resource manager/type
	Count int64  `json:"count"`
	Bytes int64  `json:"bytes"` // of records, headers included
}

func (p *statsPrinter) print(e *Entry) error {
	if p.from == 0 {
		p.from = e.LSN
	}
	p.to = e.End
	name := e.Rmgr + "/" + e.Type
	t := p.types[name]
	if t == nil {
		t = &typeStats{Type: name}
		p.types[name] = t
	}
	t.Count++
	t.Bytes += int64(e.Length)
	return nil
}

func (p *statsPrinter) finish() error {
	total := typeStats{Type: "Total"}
	list := []*typeStats{}
	for _, name := range slices.Sorted(maps.Keys(p.types)) {
		t := p.types[name]
		list = append(list, t)
		total.Count += t.Count
		total.Bytes += t.Bytes
	}
	if p.json {
		return json.NewEncoder(p.out).Encode(struct {
			From  wal.LSN      `json:"from"`
			To    wal.LSN      `json:"to"`
			Types []*typeStats `json:"types"`
			Count int64        `json:"count"`
			Bytes int64        `json:"bytes"`
		}{p.from, p.to, list, total.Count, total.Bytes})
	}
	if total.Count == 0 {
		return nil
	}
	fmt.Fprintf(p.out, "WAL statistics between %s and %s:\n", p.from, p.to)
	fmt.Fprintf(p.out, "%-32s %12s %8s %16s %8s\n", "Type", "N", "(%)", "Record size", "(%)")
	fmt.Fprintf(p.out, "%-32s %12s %8s %16s %8s\n", "----", "-", "---", "-----------", "---")
	for _, t := range list {
		p.row(t, &total)
	}
	fmt.Fprintf(p.out, "%-32s %12s %8s %16s %8s\n", "", "--------", "", "--------", "")
	p.row(&total, &total)
	return nil
}

func (p *statsPrinter) row(t, total *typeStats) {
	percent := func(n, of int64) string { return fmt.Sprintf("(%6.2f)", 100*float64(n)/float64(of)) }
	fmt.Fprintf(p.out, "%-32s %12d %8s %16d %8s\n", t.Type, t.Count, percent(t.Count, total.Count), t.Bytes, percent(t.Bytes, total.Bytes))
}
