package pgwire

import (
	"encoding/binary"
	"io"
)

const (
	headerLen = 5 // type byte, length word

	// smallMessageLen bounds the messages that hold no text of the client's (PostgreSQL's
	// PQ_SMALL_MESSAGE_LIMIT), hugeMessageLen what is read past for the sake of a good error
	// (PQ_LARGE_MESSAGE_LIMIT). Body and length word.
	smallMessageLen = 10000
	hugeMessageLen  = 1<<30 - 1

	inputBuffer     = 8 << 10  // the least; an idle client's connection keeps none
	inputBufferKeep = 64 << 10 // a buffer larger than this is given back after its message
)

// A reader cuts the client's byte stream into messages. Its buffer doubles as bytes arrive, so a
// length word alone reserves nothing; a read that fails half-way, on a deadline, can be repeated.
type reader struct {
	src        io.Reader
	socket     *socketReader // for await; nil if src is no socket
	buf        []byte
	start, end int // unread bytes are buf[start:end]
	skip       int // bytes of a message that was refused still to be thrown away
	share      *share
	held       int // of share: the size of a large buf
}

// next returns the next message; body is valid until the next call. A message longer than maxLen is an ERROR
// 54000 that the conversation survives, and so is one for which there is no memory, 53200: its type is returned
// and its body read past by the following call. What PostgreSQL never sends is a FATAL 08P01. io.EOF stands
// between messages.
func (r *reader) next(maxLen int) (typ byte, body []byte, err error) {
	if err := r.discard(); err != nil {
		return 0, nil, err
	}
	r.shrink()
	if err := r.need(headerLen); err != nil {
		return 0, nil, err
	}
	typ = r.buf[r.start]
	n := int(int32(binary.BigEndian.Uint32(r.buf[r.start+1:])))
	limit := hugeMessageLen
	switch typ {
	case 'B', 'F', 'P', 'Q', 'd':
	case 'C', 'D', 'E', 'H', 'S', 'X', 'c', 'f':
		limit = smallMessageLen
	default:
		return typ, nil, protocolViolation("invalid frontend message type %d", typ).Fatal()
	}
	switch {
	case n < 4 || n > limit:
		return typ, nil, protocolViolation("invalid message length %d", n).Fatal()
	case n > maxLen:
		r.start += headerLen
		r.skip = n - 4
		return typ, nil, Errorf(CodeProgramLimitExceeded, "message of %d bytes exceeds the limit of %d bytes", n, maxLen)
	}
	if err := r.need(1 + n); err != nil {
		if _, ok := survivable(err); ok {
			r.drop(1 + n)
		}
		return typ, nil, err
	}
	body = r.buf[r.start+headerLen : r.start+1+n : r.start+1+n]
	r.start += 1 + n
	return typ, body, nil
}

// await returns when next has something to begin with, or at once if it cannot tell. The connection holds no
// buffers meanwhile.
func (r *reader) await() error {
	if r.socket == nil || r.start < r.end {
		return nil
	}
	r.start, r.end = 0, 0
	return r.socket.read()
}

// drop gives up a message of n bytes that has arrived in part.
func (r *reader) drop(n int) {
	r.skip = n - (r.end - r.start)
	r.start = r.end
	r.shrink()
}

// discard throws away what is left of a message that was refused.
func (r *reader) discard() error {
	for r.skip > 0 {
		if r.start == r.end {
			if err := r.need(1); err != nil {
				return unexpectedEOF(err)
			}
		}
		n := min(r.skip, r.end-r.start)
		r.start += n
		r.skip -= n
	}
	return nil
}

// need reads until n bytes are unread. On an error what has arrived stays.
func (r *reader) need(n int) error {
	for r.end-r.start < n {
		if err := r.makeRoom(n); err != nil {
			return err
		}
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end-r.start < n {
			if r.end > r.start {
				err = unexpectedEOF(err)
			}
			return err
		}
	}
	return nil
}

// makeRoom leaves space behind the unread bytes, in a buffer that grows towards n bytes and never
// past twice what has arrived. An error is a 53200.
func (r *reader) makeRoom(n int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end < len(r.buf) && r.start+n <= len(r.buf) {
		return nil
	}
	unread := r.buf[r.start:r.end]
	if len(unread) < len(r.buf) {
		r.end = copy(r.buf, unread)
		r.start = 0
		return nil
	}
	// Full: only a larger one helps. Both are there until the bytes have been copied.
	size, held := max(inputBuffer, min(2*len(r.buf), n)), 0
	if size > inputBufferKeep {
		if err := r.share.hold(size); err != nil {
			return err
		}
		held = size
	}
	r.buf = make([]byte, size)
	r.end = copy(r.buf, unread)
	r.start = 0
	r.letGo()
	r.held = held
	return nil
}

// letGo gives back what was held for a buffer that is no longer there.
func (r *reader) letGo() {
	if r.held > 0 {
		_ = r.share.hold(-r.held) // less, which cannot fail
		r.held = 0
	}
}

// shrink gives a large buffer back once its message has been dealt with.
func (r *reader) shrink() {
	if unread := r.buf[r.start:r.end]; len(r.buf) > inputBufferKeep && len(unread) < inputBuffer {
		r.buf = make([]byte, inputBuffer)
		r.end = copy(r.buf, unread)
		r.start = 0
		r.letGo()
	}
}

func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
