package wal

import (
	"sync"
	"sync/atomic"
)

// blockSize is the unit of the WAL buffer. It divides every segment size.
const blockSize = 256 << 10

// A buffer holds the newest part of the log in memory: what is not written yet, and behind that
// whatever has not been overwritten, for the senders. It is a ring of blocks. Bytes are appended by
// one goroutine at a time and never change until their block is used again; a block that a reader
// has pinned is left to that reader and replaced by a new one.
type buffer struct {
	start  LSN // nothing below is in the buffer: it was on disk before
	mu     sync.Mutex
	blocks []*block // block i of the log stands at i modulo the length
}

type block struct {
	base LSN // position of the first byte; 0: unused
	pins atomic.Int32
	data [blockSize]byte
}

func newBuffer(size int, start LSN) *buffer {
	return &buffer{start: start, blocks: make([]*block, max(2, size/blockSize))}
}

// size is the number of bytes the ring spans.
func (b *buffer) size() LSN { return LSN(len(b.blocks) * blockSize) }

// appendable returns the block that holds position at, made ready for it. Only the appender calls
// it, and only when everything in the block's previous use has been written.
func (b *buffer) appendable(at LSN) *block {
	base := at &^ (blockSize - 1)
	i := int(at / blockSize % LSN(len(b.blocks)))
	b.mu.Lock()
	defer b.mu.Unlock()
	bl := b.blocks[i]
	if bl != nil && bl.base == base {
		return bl
	}
	if bl == nil || bl.pins.Load() > 0 {
		bl = new(block)
		b.blocks[i] = bl
	}
	bl.base = base
	return bl
}

// pin returns the block that holds at, kept from reuse until unpinned, or nil if it is gone.
func (b *buffer) pin(at LSN) *block {
	if at < b.start {
		return nil
	}
	base := at &^ (blockSize - 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	bl := b.blocks[int(at/blockSize%LSN(len(b.blocks)))]
	if bl == nil || bl.base != base {
		return nil
	}
	bl.pins.Add(1)
	return bl
}

// onDisk says up to where the log is in the files, given a position that is not in the buffer: a block
// is used again only when all of it has been written.
func (b *buffer) onDisk(at LSN) LSN {
	if at < b.start {
		return b.start
	}
	return at&^(blockSize-1) + blockSize
}

func (bl *block) unpin() { bl.pins.Add(-1) }

// copyTo copies bytes from position at on into p, as far as they lie in the block. The caller knows
// that they have been appended.
func (bl *block) copyTo(p []byte, at LSN) int {
	return copy(p, bl.data[at-bl.base:])
}

// append copies p, which has been written, to position at. Only the appender calls it.
func (b *buffer) append(p []byte, at LSN) {
	for len(p) > 0 {
		bl := b.appendable(at)
		n := copy(bl.data[at-bl.base:], p)
		p, at = p[n:], at+LSN(n)
	}
}

// read is ReadBuffered.
func (b *buffer) read(p []byte, at LSN) (n int, ok bool) {
	bl := b.pin(at)
	if bl == nil {
		return int(min(LSN(len(p)), b.onDisk(at)-at)), false
	}
	defer bl.unpin()
	return bl.copyTo(p, at), true
}
