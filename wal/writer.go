package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrDiskFull is what Insert returns while there is no room for another segment. Nothing has been
// inserted; reads go on, and so do inserts as soon as a segment can be allocated.
var ErrDiskFull = errors.New("no space left on device for WAL")

// ErrRecordTooLarge is what Insert returns for a record above MaxRecordSize.
var ErrRecordTooLarge = fmt.Errorf("WAL record exceeds %d bytes", MaxRecordSize)

// WriterConfig says how a Writer works. Names, defaults and meaning are PostgreSQL's.
type WriterConfig struct {
	Buffers     int                  // wal_buffers in bytes; default 16 MiB
	SyncMethod  SyncMethod           // wal_sync_method; default fdatasync
	WriterDelay func() time.Duration // wal_writer_delay, which may change; nil: 200 ms

	// CommitDelay is how long the flusher waits for company before a flush, when more than that many
	// siblings, other transactions, are active. They may change. nil: it does not wait.
	CommitDelay func() (delay time.Duration, siblings int)
	Active      func() int // transactions being committed now

	// Waiting is how many commits wait to be acknowledged: those that have joined the next flush, and
	// those of the flushes before. With it the flusher sizes its batches, see Settled. nil: it does not.
	Waiting func() int

	OnFlush   func(LSN)           // called by the flusher after each flush
	OnSync    func(time.Duration) // then: how long the write and the sync took
	OnSegment func(segno uint64)  // called by the flusher when a segment is complete and durable
}

func (c WriterConfig) withDefaults() WriterConfig {
	if c.Buffers == 0 {
		c.Buffers = 16 << 20
	}
	if c.SyncMethod == "" {
		c.SyncMethod = SyncFdatasync
	}
	if c.WriterDelay == nil {
		c.WriterDelay = func() time.Duration { return 200 * time.Millisecond }
	}
	return c
}

// An End is a place at which the log can be continued.
type End struct {
	LSN      LSN // where the next record goes
	Prev     LSN // start of the last record; 0 in an empty log
	Timeline TimelineID
}

// A Writer appends records to one timeline of the log, for as long as this node is its primary.
// Insert puts a record into the buffer under one short lock; the flusher, which is Run, writes and
// syncs everything inserted so far with one call for all who wait.
//
// No byte is inserted that has no zeroed segment file waiting for it: a full disk refuses new
// records and breaks nothing.
type Writer struct {
	dir *Dir
	tli TimelineID
	cfg WriterConfig
	buf *buffer

	inserted  Position // bytes below are in the buffer; a record's end or a page boundary
	flushing  Position // bytes below are durable, or about to be made so; as inserted
	written   Position // bytes below have been handed to the kernel
	flushed   Position // bytes below are durable; a record's end
	requested atomic.Uint64
	joined    atomic.Int64  // requests since the last flush began
	whole     atomic.Uint64 // end of the last whole record; its bytes are in the buffer
	idle      atomic.Bool   // the flusher sleeps without a timer
	gathering atomic.Bool   // the flusher waits for more to join
	wake      chan struct{} // says "look again" to the flusher
	stopped   chan struct{} // closed when Run has ended: nothing will be flushed any more

	stats Stats

	mu    sync.Mutex // held while a record is inserted; taken before allocating
	at    LSN        // where the next record goes
	prev  LSN        // start of the last record
	block *block     // holds at, or the block before it

	allocating sync.Mutex    // held while a segment is allocated
	allocated  atomic.Uint64 // end of the segments that exist; moved under allocating
	retryAt    time.Time     // no allocation is tried before this, after a full disk

	// Owned by Run.
	sink        sink
	synced      LSN // bytes below are durable; not behind flushed
	gatherPause int // flushes that do not gather yet
	yieldPause  int // flushes that do not yield yet
}

// Stats counts what a Writer has done: the columns of pg_stat_wal.
type Stats struct {
	Records     atomic.Int64
	Bytes       atomic.Int64
	BuffersFull atomic.Int64
	Writes      atomic.Int64
	Syncs       atomic.Int64
	WriteTime   atomic.Int64 // nanoseconds
	SyncTime    atomic.Int64 // nanoseconds
}

// NewWriter returns a writer that continues the log at end. The segment that holds end exists, and
// everything below end is durable.
func NewWriter(dir *Dir, end End, cfg WriterConfig) *Writer {
	cfg = cfg.withDefaults()
	w := &Writer{
		dir:     dir,
		tli:     end.Timeline,
		cfg:     cfg,
		buf:     newBuffer(cfg.Buffers, end.LSN),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		at:      end.LSN,
		prev:    end.Prev,
	}
	size := dir.Format.SegmentSize
	w.allocated.Store(uint64(size.Start(size.PrevSegno(end.LSN) + 1)))
	w.sink.dir, w.sink.method = dir, cfg.SyncMethod
	w.sink.timeline = func(uint64) TimelineID { return end.Timeline }
	w.synced = end.LSN
	w.whole.Store(uint64(end.LSN))
	w.inserted.Advance(end.LSN)
	w.flushing.Advance(end.LSN)
	w.written.Advance(end.LSN)
	w.flushed.Advance(end.LSN)
	return w
}

// Timeline is the timeline that the writer appends to.
func (w *Writer) Timeline() TimelineID { return w.tli }

// Inserted is how far the log reaches in memory, Flushing how far it is being made durable, Written how
// far it is in the kernel, Flushed how far on disk. All but Flushed may stand inside a record, on a page
// boundary.
//
// Members are sent the log up to Flushing: they get what the flusher takes, at the time at which it takes
// it, and so they flush in batches of the same size.
func (w *Writer) Inserted() *Position { return &w.inserted }
func (w *Writer) Flushing() *Position { return &w.flushing }
func (w *Writer) Written() *Position  { return &w.written }
func (w *Writer) Flushed() *Position  { return &w.flushed }

// Stats returns the running counters.
func (w *Writer) Stats() *Stats { return &w.stats }

// Prev is the start of the last record inserted.
func (w *Writer) Prev() LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prev
}

// systemReserve is what ordinary records leave free in the last segment, so that a checkpoint, which
// is what makes room again, can be recorded on a full disk.
const systemReserve = 8 * PageSize

// Insert appends a record and returns the position of its first byte and its end. It waits only
// when the buffer is full of what is not written yet. The caller asks for durability with
// RequestFlush and waits on Flushed. p can be inserted once.
func (w *Writer) Insert(p *Prepared, xid uint32) (start, end LSN, err error) {
	return w.insert(p, xid, systemReserve)
}

// InsertSystem is Insert for the records that keep the log itself going: checkpoints and the first
// record of a timeline. They may use the space that Insert leaves. A SWITCH is written by Switch.
func (w *Writer) InsertSystem(p *Prepared) (start, end LSN, err error) {
	return w.insert(p, 0, 0)
}

func (w *Writer) insert(p *Prepared, xid uint32, reserve LSN) (start, end LSN, err error) {
	if p.Size() > MaxRecordSize {
		return 0, 0, ErrRecordTooLarge
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	start, end, err = w.appendRecord(p, xid, reserve)
	if err != nil {
		return 0, 0, err
	}
	w.recordDone()
	return start, end, nil
}

// appendRecord puts a record into the buffer. After an error nothing has been appended, unless the
// writer has stopped.
func (w *Writer) appendRecord(p *Prepared, xid uint32, reserve LSN) (start, end LSN, err error) {
	select {
	case <-w.stopped:
		return 0, 0, ErrWriterStopped
	default:
	}
	start, end = w.place(p.Size())
	if err := w.ensureSegments(end + reserve); err != nil {
		return 0, 0, err
	}
	if err := w.append(p.finish(xid, w.prev)); err != nil {
		return 0, 0, err
	}
	w.prev = start
	w.stats.Records.Add(1)
	w.stats.Bytes.Add(int64(p.Size()))
	return start, end, nil
}

// recordDone publishes a whole record, which ends at w.at. In this order: when inserted has moved,
// whole has too.
func (w *Writer) recordDone() {
	w.whole.Store(uint64(w.at))
	w.publish()
}

// place says where a record of n bytes starts and ends if it is inserted now.
func (w *Writer) place(n int) (start, end LSN) {
	size := w.dir.Format.SegmentSize
	start = w.at
	if start%PageSize == 0 {
		start += LSN(pageHeaderSize(start, size))
	}
	end = start
	for n = align8(n); ; {
		room := int(PageSize - end%PageSize)
		if n <= room {
			return start, end + LSN(n)
		}
		n -= room
		end += LSN(room)
		end += LSN(pageHeaderSize(end, size))
	}
}

// ensureSegments makes sure that segment files exist up to end. After a failure for lack of room it
// does not try again for a second: each try writes a segment's worth of zeros.
func (w *Writer) ensureSegments(end LSN) error {
	if uint64(end) <= w.allocated.Load() {
		return nil
	}
	w.allocating.Lock()
	defer w.allocating.Unlock()
	for uint64(end) > w.allocated.Load() {
		if time.Now().Before(w.retryAt) {
			return ErrDiskFull
		}
		if err := w.allocateNext(); err != nil {
			return err
		}
	}
	return nil
}

// allocateNext allocates one segment more. The caller holds w.allocating.
func (w *Writer) allocateNext() error {
	size := w.dir.Format.SegmentSize
	next := LSN(w.allocated.Load())
	err := w.dir.Allocate(w.tli, size.Segno(next))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		w.retryAt = time.Now().Add(time.Second)
		return ErrDiskFull
	}
	if err != nil {
		return err
	}
	w.allocated.Store(uint64(next) + uint64(size))
	return nil
}

// append copies a finished record to w.at, page headers and padding included, and moves w.at.
func (w *Writer) append(rec []byte) error {
	contrecord := false
	for len(rec) > 0 {
		if w.at%PageSize == 0 {
			if err := w.beginPage(uint32(len(rec)), contrecord); err != nil {
				return err
			}
		}
		bl, err := w.blockAt()
		if err != nil {
			return err
		}
		n := min(len(rec), int(PageSize-w.at%PageSize))
		copy(bl.data[w.at-bl.base:], rec[:n])
		w.at += LSN(n)
		rec, contrecord = rec[n:], true
	}
	return w.pad()
}

// pad fills up to the next possible start of a record with zeros.
func (w *Writer) pad() error {
	end := align8(w.at)
	if end == w.at {
		return nil
	}
	bl, err := w.blockAt()
	if err != nil {
		return err
	}
	clear(bl.data[w.at-bl.base : end-bl.base])
	w.at = end
	return nil
}

func (w *Writer) beginPage(remaining uint32, contrecord bool) error {
	bl, err := w.blockAt()
	if err != nil {
		return err
	}
	format := &w.dir.Format
	h := PageHeader{Timeline: w.tli, Addr: w.at}
	size := pageHeaderSize(w.at, format.SegmentSize)
	if size == longPageHeaderSize {
		h.Info |= pageLongHeader
		h.SystemID, h.SegmentSize = format.SystemID, format.SegmentSize
	}
	if contrecord {
		h.Info |= pageFirstIsContrecord
		h.RemLen = remaining
	}
	h.put(bl.data[w.at-bl.base:], format.Version)
	w.at += LSN(size)
	return nil
}

// blockAt returns the block that holds w.at. When the ring comes round to bytes that are not
// written yet, it waits for the flusher; meanwhile whole pages of the record being inserted may be
// written, which is what lets a record be larger than the buffer.
func (w *Writer) blockAt() (*block, error) {
	if w.block != nil && w.block.base == w.at&^(blockSize-1) {
		return w.block, nil
	}
	base := w.at &^ (blockSize - 1)
	if overwritten := base + blockSize; overwritten > w.buf.size() {
		if need := overwritten - w.buf.size(); w.written.Load() < need {
			w.stats.BuffersFull.Add(1)
			w.publish()
			w.demandFlush(min(need, w.at))
			if err := w.waitWritten(need); err != nil {
				return nil, err
			}
		}
	}
	w.block = w.buf.appendable(w.at)
	return w.block, nil
}

func (w *Writer) waitWritten(need LSN) error {
	for {
		at := w.written.Load()
		if at >= need {
			return nil
		}
		select {
		case <-w.written.Changed(at):
		case <-w.stopped:
			return ErrWriterStopped
		}
	}
}

// ErrWriterStopped is what Insert returns when the flusher has ended.
var ErrWriterStopped = errors.New("the WAL writer has stopped")

// publish lets senders and flusher see everything up to w.at.
func (w *Writer) publish() {
	w.inserted.Advance(w.at)
	if w.idle.Load() {
		w.kick()
	}
}

// Switch ends the current segment early: a SWITCH record, then zeros to the segment's end, page
// headers included. It returns the end of the record, or the current position if the log is at a
// segment's start already.
func (w *Writer) Switch() (LSN, error) {
	p := Prepare(RmgrXLOG, XLOGSwitch)
	w.mu.Lock()
	defer w.mu.Unlock()
	size := w.dir.Format.SegmentSize
	if size.Offset(w.at) == 0 {
		return w.at, nil
	}
	_, end, err := w.appendRecord(p, 0, 0)
	if err != nil {
		return 0, err
	}
	for size.Offset(w.at) != 0 {
		bl, err := w.blockAt()
		if err != nil {
			return 0, err
		}
		clear(bl.data[w.at-bl.base:])
		w.at = bl.base + blockSize
	}
	w.recordDone()
	w.RequestFlush(w.at)
	return end, nil
}

// Preallocate creates the segment after the one being filled, so that inserts do not have to. It is
// called whenever a segment is complete, from a goroutine that nobody waits for. A full disk is not
// an error here.
func (w *Writer) Preallocate() error {
	size := LSN(w.dir.Format.SegmentSize)
	w.allocating.Lock()
	defer w.allocating.Unlock()
	current := w.dir.Format.SegmentSize.SegmentStart(w.inserted.Load())
	if LSN(w.allocated.Load()) >= current+2*size {
		return nil
	}
	if err := w.allocateNext(); err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	return nil
}

// ReadBuffered copies bytes of the log from position at on into p, if they are in the buffer still.
// If not, the next n bytes are in the files. The caller knows that the log reaches at+len(p).
func (w *Writer) ReadBuffered(p []byte, at LSN) (n int, ok bool) { return w.buf.read(p, at) }
