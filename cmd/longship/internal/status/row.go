package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/longship-db/longship/wal"
)

// A Row is one row of a view: its columns in order, with values nil, bool, int64, json.Number or
// string.
type Row []Field

// A Field is one column of a row.
type Field struct {
	Name  string
	Value any
}

// MarshalJSON writes the row as an object with its columns in order.
func (r Row) MarshalJSON() ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	b := []byte{'{'}
	for i, f := range r {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Row) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t == nil {
		return err
	} else if t != json.Delim('{') {
		return fmt.Errorf("row: want an object, got %v", t)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return err
		}
		if n, ok := v.(json.Number); ok {
			if i, err := n.Int64(); err == nil {
				v = i
			}
		}
		*r = append(*r, Field{name.(string), v})
	}
	_, err := d.Token()
	return err
}

func (r Row) get(name string) any {
	for _, f := range r {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}

// Text is a column as text, "" if it is NULL or not there.
func (r Row) Text(name string) string {
	switch v := r.get(name).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (r Row) bool(name string) bool {
	b, _ := r.get(name).(bool)
	return b
}

// LSN is a column of type pg_lsn; ok is false if it is NULL or not there.
func (r Row) LSN(name string) (l wal.LSN, ok bool) {
	l, err := wal.ParseLSN(r.Text(name))
	return l, err == nil
}

func (r Row) int(name string) (n int64, ok bool) {
	n, ok = r.get(name).(int64)
	return n, ok
}

// interval is a column of type interval as PostgreSQL prints it: "1 day 02:03:04.5".
func (r Row) interval(name string) (d time.Duration, ok bool) {
	s, ok := r.get(name).(string)
	if !ok {
		return 0, false
	}
	if days, rest, found := strings.Cut(s, " day"); found {
		n, err := strconv.Atoi(days)
		if err != nil {
			return 0, false
		}
		d = time.Duration(n) * 24 * time.Hour
		s = strings.TrimSpace(strings.TrimPrefix(rest, "s"))
		if s == "" {
			return d, true
		}
	}
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	clock, err := time.ParseDuration(parts[0] + "h" + strings.TrimPrefix(parts[1], "-") + "m" + parts[2] + "s")
	return d + clock, err == nil
}

func (r Row) time(name string) (time.Time, bool) {
	t, err := time.Parse("2006-01-02 15:04:05.999999-07", r.Text(name))
	return t, err == nil
}
