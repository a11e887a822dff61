package sql

import "strings"

// What a session holds is counted before it grows: pgwire.Memory is the account of all sessions together. The rows of
// a statement are given back when it has run, those of a cursor when it is closed, what a transaction has written when
// it ends. So are the large values that an expression has while it computes others, and what it takes to read a jsonb
// or an array. Not counted is what a function or an operator makes of them, a few times maxTextLen at the most.

// A Holder is a Conn that keeps account of memory, as [pgwire.Conn.Hold] does; *pgwire.Conn is one.
type Holder interface {
	Hold(n int) error
}

// anything is the Holder of a Conn that keeps no account.
type anything struct{}

func (anything) Hold(int) error { return nil }

const (
	// rowSize is what a row takes beside its values, in bytes: a slice, and its place in another one.
	rowSize = 64
	// writeSize is what an uncommitted write takes beside its key and value.
	writeSize = 250
	// writeStep is from how many bytes of writes, or of what remembers reads, on they are counted.
	writeStep = 32 << 10
	// largeRow is from how many bytes on a row is counted while it is on its way to the client.
	largeRow = 64 << 10
)

// hold counts n more bytes that the running statement holds, or less if n is negative. The error is a 53200.
func (s *Session) hold(n int) error {
	if err := s.holder.Hold(n); err != nil {
		return err
	}
	s.held += n
	return nil
}

// letGo gives back what the statement has held.
func (s *Session) letGo() {
	if s.held != 0 {
		_ = s.hold(-s.held) // less, which cannot fail
	}
}

// holdWrite counts a write of n bytes, key and value, which the transaction holds until it ends.
func (s *Session) holdWrite(n int) error {
	s.written += n + writeSize
	if s.written-s.writtenHeld < writeStep {
		return nil
	}
	if err := s.holder.Hold(s.written - s.writtenHeld); err != nil {
		return err
	}
	s.writtenHeld = s.written
	return nil
}

// holdReads counts what the transaction remembers by now of what it has read, until it ends.
func (s *Session) holdReads() error {
	grown := s.txn.ReadBytes() - s.readHeld
	if grown < writeStep {
		return nil
	}
	if err := s.holder.Hold(grown); err != nil {
		return err
	}
	s.readHeld += grown
	return nil
}

// letGoReads gives back what holdReads has counted: nothing is remembered any more.
func (s *Session) letGoReads() {
	if s.readHeld > 0 {
		_ = s.holder.Hold(-s.readHeld) // less, which cannot fail
		s.readHeld = 0
	}
}

// letGoWrites gives back what the writes since there were so many bytes of them have held.
func (s *Session) letGoWrites(since int) {
	s.written = since
	if s.writtenHeld > since {
		_ = s.holder.Hold(since - s.writtenHeld)
		s.writtenHeld = since
	}
}

// hold counts n more bytes that the statement, or the cursor whose query it is, holds.
func (e *env) hold(n int) error {
	if c := e.top().cursor; c != nil {
		return c.hold(n)
	}
	return e.session.hold(n)
}

// held is what hold has counted so far.
func (e *env) held() int {
	if c := e.top().cursor; c != nil {
		return c.held
	}
	return e.session.held
}

// top is the env of the outermost query.
func (e *env) top() *env {
	for e.outer != nil {
		e = e.outer
	}
	return e
}

// grown returns b with room for n bytes more. Growth is counted by hold before it happens: the new array whole, while
// both are there, and then without the old one, which grown has made, too.
func grown(b []byte, n int, hold func(n int) error) ([]byte, error) {
	if len(b)+n <= cap(b) {
		return b, nil
	}
	size := max(len(b)+n, cap(b)+cap(b)/2)
	if err := hold(size); err != nil {
		return b, err
	}
	larger := append(make([]byte, 0, size), b...)
	_ = hold(-cap(b)) // less, which cannot fail
	return larger, nil
}

// beside evaluates x while other values are held, which are counted if they are large.
func (e *env) beside(x expr, others ...Value) (Value, error) {
	n := 0
	for _, v := range others {
		n += len(v.s)
	}
	if err := e.step(1 + n/copyPerStep); err != nil {
		return Null, err
	}
	if n < largeRow {
		return x.eval(e)
	}
	if err := e.hold(n); err != nil {
		return Null, err
	}
	v, err := x.eval(e)
	_ = e.hold(-n) // less, which cannot fail
	return v, err
}

// holding counts n bytes while f makes a value.
func holding(hold func(n int) error, n int, f func() (Value, error)) (Value, error) {
	if n < largeRow {
		return f()
	}
	if err := hold(n); err != nil {
		return Null, err
	}
	v, err := f()
	_ = hold(-n) // less, which cannot fail
	return v, err
}

// readingSize is about what reading a value of type t takes beside the value, in bytes.
func readingSize(text string, t Type) int {
	switch {
	case t == JSONB:
		return jsonSize(text)
	case t.elem() != 0:
		return arraySize(int64(strings.Count(text, ",") + strings.Count(text, " ")))
	}
	return 0
}

// largeConstant is from how many bytes on a constant is read when the statement runs, where they are counted.
const largeConstant = 4 << 20

// arraySize is about what so many elements of an array take while they are looked at, in bytes.
func arraySize(elements int64) int {
	return int(min(elements, maxArrayLen)) * 2 * valueSize
}

// argsSize is about what a function takes to look at its arguments, in bytes.
func argsSize(args []Value) (n int) {
	for _, v := range args {
		if v.typ.elem() != 0 {
			n += arraySize(v.n)
		}
	}
	return n
}

// An unfinished row, or list of arguments, counts its large values while others are computed, which may be as large.
// When it is made, who keeps or sends it counts it as a whole.
type unfinished struct {
	e    *env
	held int
}

// value computes the next value of the row.
func (u *unfinished) value(x expr) (Value, error) {
	v, err := x.eval(u.e)
	if err == nil {
		err = u.e.step(1 + len(v.s)/copyPerStep)
	}
	if err == nil {
		err = u.hold(len(v.s))
	}
	return v, err
}

// hold counts n bytes more, if that is much.
func (u *unfinished) hold(n int) error {
	if n < largeRow {
		return nil
	}
	err := u.e.hold(n)
	if err == nil {
		u.held += n
	}
	return err
}

// done gives back what the row has held.
func (u *unfinished) done() {
	if u.held > 0 {
		_ = u.e.hold(-u.held) // less, which cannot fail
	}
}

// valuesSize is about how much memory values take, in bytes.
func valuesSize(values []Value) int {
	n := len(values) * valueSize
	for _, v := range values {
		n += len(v.s)
	}
	return n
}

// valueSize is what a Value takes beside its text, in bytes.
const valueSize = 48
