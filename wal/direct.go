package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// directBlock is what direct writes are aligned to, in the file and in memory. Hardly any disk has larger blocks.
const directBlock = 4096

// maxDirect is the most that is written past the page cache at once. More is gathered there, from where the kernel
// has many writes to the disk under way at the same time.
const maxDirect = 64 << 10

// A directFile is a segment that is also open for writes past the page cache (O_DIRECT). Each of them is durable
// when it returns: one system call in place of a write and a sync, no page to be found, copied to and written back.
//
// The kernel keeps both ways coherent: a direct write waits for what the page cache has to write at that place, and
// takes from it what has become old. Whoever reads through the page cache meanwhile may see the old bytes behind the
// log's end, or the new; those before it are the same in both.
type directFile struct {
	vfs.File // for large writes, and for what is read
	direct   *os.File

	block []byte // what was written last, from the beginning of its last block on, and room for more; aligned
	end   int64  // offset behind what block holds
}

// openDirect opens the segment at path once more for direct writes. The caller leaves f to it, and a buffer from
// directBuffer for as long as the file is open.
func openDirect(f vfs.File, path string, block []byte) (*directFile, error) {
	direct, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &directFile{File: f, direct: direct, block: block, end: -1}, nil
}

// directBuffer returns room for the largest direct write: the block in which it begins, and zeros up to a page's end
// behind it.
func directBuffer() []byte {
	return aligned(directBlock + maxDirect + PageSize)
}

// aligned returns n zeros in memory that may be written directly.
func aligned(n int) []byte {
	b := make([]byte, n+directBlock)
	skip := -uintptr(unsafe.Pointer(&b[0])) % directBlock
	return b[skip:][:n:n]
}

// writeThrough writes p, at most maxDirect bytes, at offset off, and zeros behind it up to stop, which is on the
// same page as the end of p, and up to the end of a block in any case. It is durable then. What the file holds
// before off has been written, and what went through the page cache is synced.
//
// The first block is written as a whole, with the bytes before off, which may have been acknowledged: they do not
// change. So does the page cache, which writes at least the block of the file system. A loss of power meanwhile
// leaves each sector old or new, and those bytes in any case.
func (f *directFile) writeThrough(p []byte, off, stop int64) error {
	begin := off &^ (directBlock - 1)
	if head := off - begin; head > 0 && f.end != off { // just opened, or written through the page cache
		if _, err := f.ReadAt(f.block[:head], begin); err != nil {
			return fmt.Errorf("read the block that is continued: %w", err)
		}
	}
	end := off + int64(len(p))
	stop = (max(stop, end) + directBlock - 1) &^ (directBlock - 1)
	copy(f.block[off-begin:], p)
	clear(f.block[end-begin : stop-begin])
	if err := writeDirect(f.direct, f.block[:stop-begin], begin); err != nil {
		return err
	}
	last := end &^ (directBlock - 1)
	copy(f.block, f.block[last-begin:end-begin])
	f.end = end
	return nil
}

// writeDirect writes whole blocks at offset off, durably.
func writeDirect(f *os.File, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwritev2(int(f.Fd()), [][]byte{p}, off, unix.RWF_DSYNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return &os.PathError{Op: "pwritev2", Path: f.Name(), Err: err}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writeZerosDirect makes a file of size zeros, durably, past the page cache: as many pages of zeros there would be
// written back all at once, and nobody reads them.
func writeZerosDirect(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	// In one piece, before it is written; where that cannot be asked for, writing does it.
	if err = unix.Fallocate(int(f.Fd()), 0, 0, size); notReserved(err) {
		err = nil
	}
	zeros := aligned(int(min(zerosAtOnce, size)))
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, off)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// zerosAtOnce is how many zeros are written at once: what else is written meanwhile waits for little more than those.
const zerosAtOnce = 256 << 10

// Close closes both.
func (f *directFile) Close() error { return errors.Join(f.direct.Close(), f.File.Close()) }

// UseDirect has small writes of the log, which are synced at once, go past the page cache (debug_io_direct), if they
// can: a file is written to find out, and the error says why not. On other file systems than the operating system's
// they never do. It is called before there is a writer.
func (d *Dir) UseDirect() error {
	if d.FS != vfs.Default {
		return nil
	}
	path := d.tempName()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	err = writeDirect(f, directBuffer()[:directBlock], 0)
	if err = errors.Join(err, f.Close(), os.Remove(path)); err != nil {
		return err
	}
	d.direct = true
	return nil
}
