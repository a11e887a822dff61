package waldump

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/longship-db/longship/wal"
)

// An endError says where a log stopped making sense, in pg_waldump's words.
type endError struct {
	last   wal.LSN // start of the last record; 0: there was none
	at     wal.LSN // where reading began, if there was none
	reason string
	mild   bool // all that was given has been read
}

func (e *endError) Error() string {
	if e.last == 0 {
		return fmt.Sprintf("could not find a valid record after %s: %s", e.at, e.reason)
	}
	return fmt.Sprintf("error in WAL record at %s: %s", e.last, e.reason)
}

// A chainReader decodes the records of a chain.
type chainReader struct {
	chain chain
	limit wal.LSN // read nothing from here on
	asked bool    // somebody wants to see everything up to limit
	begin wal.LSN
	dec   *wal.Decoder
	buf   []byte

	file  *os.File
	index int // of the segment in file
}

const chunk = 256 << 10

// newChainReader returns a reader that begins at the page that holds from, or earlier.
func newChainReader(c chain, from, to wal.LSN) (*chainReader, error) {
	r := &chainReader{chain: c, limit: c.end(), asked: to != 0, index: -1, buf: make([]byte, chunk)}
	if to != 0 && (to < r.limit || c.whole) {
		r.limit = to
	}
	begin := max(from&^(wal.PageSize-1), c.start())
	if begin >= c.end() {
		return nil, fmt.Errorf("there is no WAL at %s: the segments given hold %s to %s", from, c.start(), c.end())
	}
	ok, err := r.isPage(begin)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	if !ok {
		// Behind a SWITCH the pages have no headers: only who comes from before knows that.
		begin = c.format.SegmentSize.SegmentStart(begin)
	}
	r.begin = begin
	r.dec = wal.NewDecoder(c.format, begin, 0)
	return r, nil
}

// isPage reports whether a page with a valid header begins at l.
func (r *chainReader) isPage(l wal.LSN) (bool, error) {
	d := wal.NewDecoder(r.chain.format, l, 0)
	n, err := r.readAt(r.buf[:wal.PageSize], l)
	if err != nil {
		return false, err
	}
	header := 24
	if r.chain.format.SegmentSize.Offset(l) == 0 {
		header = 40
	}
	d.Feed(r.buf[:min(n, header)]) // what follows is another matter
	_, _, err = d.Next()
	return err == nil, nil
}

// timeline is that of the page on which the last record ended.
func (r *chainReader) timeline() wal.TimelineID { return r.dec.Timeline() }

// next returns the next record. ok is false if everything asked for has been read. Where the log
// ends before that, the error is an *endError.
func (r *chainReader) next() (rec wal.Record, ok bool, err error) {
	for {
		rec, ok, err := r.dec.Next()
		if err != nil {
			return rec, false, r.ended(err.Error())
		}
		if ok {
			return rec, true, nil
		}
		at := r.dec.Pos()
		if at >= r.limit {
			return rec, false, r.atLimit()
		}
		if at >= r.chain.end() {
			return rec, false, r.ended(fmt.Sprintf("segment %s does not exist", r.following()))
		}
		n, err := r.readAt(r.buf[:min(chunk, r.limit-at)], at)
		if err != nil {
			return rec, false, err
		}
		if n == 0 {
			return rec, false, r.ended(fmt.Sprintf("segment %s is cut off at offset %d", r.chain.segments[r.index].name, r.chain.format.SegmentSize.Offset(at)))
		}
		r.dec.Feed(r.buf[:n])
	}
}

// atLimit decides whether what was asked for has been read. Without a bound that is the end of the
// segments given; a record that runs out of them is worth mentioning and no more.
func (r *chainReader) atLimit() error {
	at, partial := r.dec.Partial()
	switch {
	case r.asked && r.limit < r.chain.end(), !r.chain.whole && !partial:
		return nil
	case partial:
		err := r.ended(fmt.Sprintf("the record at %s goes on in segment %s, which is not here", at, r.following()))
		err.mild = !r.chain.whole
		return err
	default:
		return r.ended(fmt.Sprintf("segment %s does not exist", r.following()))
	}
}

// following names the segment that would come after the last one.
func (r *chainReader) following() string {
	last := r.chain.segments[len(r.chain.segments)-1]
	return r.chain.format.SegmentSize.FileName(last.timeline, last.segno+1)
}

func (r *chainReader) ended(reason string) *endError {
	return &endError{last: r.dec.Prev(), at: r.begin, reason: reason}
}

// readAt reads bytes of one segment; none if the file is shorter than it should be.
func (r *chainReader) readAt(p []byte, at wal.LSN) (int, error) {
	size := r.chain.format.SegmentSize
	index := int(size.Segno(at) - r.chain.segments[0].segno)
	if index != r.index {
		if err := r.close(); err != nil {
			return 0, err
		}
		f, err := os.Open(r.chain.segments[index].path)
		if err != nil {
			return 0, err
		}
		r.file, r.index = f, index
	}
	off := size.Offset(at)
	n, err := r.file.ReadAt(p[:min(int64(len(p)), int64(size)-off)], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return n, nil
}

func (r *chainReader) close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file, r.index = nil, -1
	return err
}
