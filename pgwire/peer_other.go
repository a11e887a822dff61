//go:build !linux

package pgwire

import (
	"net"
	"time"
)

// peerClosed cannot tell here: a vanished client is noticed when it is written to.
func peerClosed(net.Conn) bool { return false }

// setUserTimeout has no effect here.
func setUserTimeout(net.Conn, time.Duration) error { return nil }
