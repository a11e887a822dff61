package wal

import "context"

// A Reader decodes the log from some position on and follows its live end: what lies beyond a limit
// does not exist for it until the limit moves. It is used by one goroutine.
type Reader struct {
	raw  *RawReader
	dec  *Decoder
	buf  []byte
	held Record // decoded, but its end lies beyond the limit; its LSN is 0 if there is none
}

// readChunk is how much a Reader reads at once.
const readChunk = 256 << 10

// NewReader reads records from start on, which is a record's start or end, or the first byte of a
// page. prev is the start of the record before, or 0 if it is not known.
func NewReader(raw *RawReader, start, prev LSN) *Reader {
	dec := NewDecoder(raw.dir.Format, start, prev)
	dec.Follow(raw.history)
	return &Reader{raw: raw, dec: dec, buf: make([]byte, min(readChunk, raw.dir.Format.SegmentSize))}
}

// Next returns the next record that lies below limit as a whole, which for a SWITCH includes the rest
// of its segment. ok is false if there is none yet. The error is an *InvalidError or comes from the
// RawReader. The record's Data is valid until the next call that returns another.
func (r *Reader) Next(limit LSN) (rec Record, ok bool, err error) {
	if r.held.LSN == 0 {
		if r.held, ok, err = r.decode(limit); !ok || err != nil {
			return Record{}, false, err
		}
	}
	if r.held.End > limit {
		return Record{}, false, nil
	}
	rec, r.held = r.held, Record{}
	return rec, true, nil
}

// decode reads on until a record is complete.
func (r *Reader) decode(limit LSN) (rec Record, ok bool, err error) {
	for {
		rec, ok, err = r.dec.Next()
		if ok || err != nil {
			return rec, ok, err
		}
		at := r.dec.Pos()
		if at >= limit {
			return Record{}, false, nil
		}
		n, err := r.raw.ReadAt(r.buf[:min(LSN(len(r.buf)), limit-at)], at)
		if err != nil {
			return Record{}, false, err
		}
		r.dec.Feed(r.buf[:n])
	}
}

// NextWait is Next, but waits for limit to move when there is no record yet.
func (r *Reader) NextWait(ctx context.Context, limit *Position) (Record, error) {
	for {
		at := limit.Load()
		rec, ok, err := r.Next(at)
		if ok || err != nil {
			return rec, err
		}
		select {
		case <-limit.Changed(at):
		case <-ctx.Done():
			return Record{}, context.Cause(ctx)
		}
	}
}

// Decoder returns the decoder, for where it stands.
func (r *Reader) Decoder() *Decoder { return r.dec }

// Close closes the files it reads from.
func (r *Reader) Close() error { return r.raw.Close() }
