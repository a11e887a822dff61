package pgwire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// idleBuffers holds the buffers of connections that are not in use, of either direction: thousands of clients
// may be connected that have nothing to say. Those larger than idleBufferKeep are left to the collector.
var idleBuffers = sync.Pool{New: func() any { return new(make([]byte, inputBuffer)) }}

const idleBufferKeep = 64 << 10

// giveBack puts a buffer into the pool. holder is what takeBuffer returned with it, if it is from there.
func giveBack(holder *[]byte, buf []byte) {
	if cap(buf) < inputBuffer || cap(buf) > idleBufferKeep {
		return
	}
	if holder == nil {
		holder = new([]byte)
	}
	*holder = buf[:cap(buf)]
	idleBuffers.Put(holder)
}

// takeBuffer takes a buffer of inputBuffer bytes or more from the pool.
func takeBuffer() (holder *[]byte, buf []byte) {
	holder = idleBuffers.Get().(*[]byte)
	return holder, *holder
}

// A socketReader waits for the next bytes for a reader of which nothing is left to read. While there are none
// the connection holds no buffers. It makes no more system calls than a Read.
type socketReader struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // tryRead; made once

	in  *reader
	out *output // whose buffer goes, too; nil if another goroutine sends

	inHolder, outHolder *[]byte // of their buffers, as the pool gave them
	err                 error   // of tryRead
}

// newSocketReader returns nil for what is no socket.
func newSocketReader(nc net.Conn, in *reader) *socketReader {
	sc, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socketReader{raw: raw, in: in}
	s.try = s.tryRead
	return s
}

// read waits for bytes and reads them into the reader's buffer, which is empty.
func (s *socketReader) read() error {
	s.err = nil
	if err := s.raw.Read(s.try); err != nil {
		return err
	}
	return s.err
}

// tryRead reports false if there is nothing to be read yet: it is called again when there is.
func (s *socketReader) tryRead(fd uintptr) bool {
	if s.in.buf == nil {
		s.inHolder, s.in.buf = takeBuffer()
	}
	n, err := syscall.Read(int(fd), s.in.buf)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), s.in.buf)
	}
	switch {
	case err == syscall.EAGAIN:
		s.rest()
		return false
	case err != nil:
		s.err = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", err)}
	case n == 0:
		s.err = io.EOF
	default:
		s.in.end = n
	}
	s.wake()
	return true
}

// rest gives back what an idle connection does not need.
func (s *socketReader) rest() {
	giveBack(s.inHolder, s.in.buf)
	s.inHolder, s.in.buf = nil, nil
	s.in.letGo()
	if o := s.out; o != nil && len(o.buf) == 0 {
		giveBack(s.outHolder, o.buf)
		s.outHolder, o.buf = nil, nil
	}
}

// wake takes a buffer for the answer, if there is none.
func (s *socketReader) wake() {
	if o := s.out; o != nil && o.buf == nil {
		s.outHolder, o.buf = takeBuffer()
		o.buf = o.buf[:0]
	}
}
