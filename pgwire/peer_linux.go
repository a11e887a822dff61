package pgwire

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

// peerClosed reports whether the other end has closed nc, or its half of it, without reading: poll
// for POLLRDHUP sees the end of the stream even behind bytes that wait to be read, such as the
// Terminate message most clients leave with. PostgreSQL's client_connection_check_interval does the
// same.
func peerClosed(nc net.Conn) (closed bool) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	const pollHup, pollErr, pollRdHup = 0x10, 0x8, 0x2000
	raw.Control(func(fd uintptr) {
		poll := struct { // struct pollfd
			fd      int32
			events  int16
			revents int16
		}{fd: int32(fd), events: pollRdHup}
		var now syscall.Timespec
		n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL,
			uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		closed = n == 1 && poll.revents&(pollHup|pollErr|pollRdHup) != 0
	})
	return closed
}

// setUserTimeout sets TCP_USER_TIMEOUT, which counts while the other end reads nothing, too: its host answers
// probes of the closed window, but that is no progress.
func setUserTimeout(nc net.Conn, d time.Duration) error {
	sc, ok := nc.(*net.TCPConn)
	if !ok || d <= 0 {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	const tcpUserTimeout = 18
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
	if err == nil {
		err = failed
	}
	return err
}
