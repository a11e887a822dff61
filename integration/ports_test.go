package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// ports are handed out from below the range in which the kernel chooses those of clients, in blocks:
// who listens on the first port of one, as long as the process lasts, owns the others. The tests of
// other packages do the same, and so no port is taken while its node is being started again.
var ports struct {
	mu        sync.Mutex
	next, end int
	leases    []net.Listener
}

const (
	firstPort  = 10_000
	portBlocks = 1100
	blockSize  = 20
)

func freePort(t *testing.T) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for range 10_000 {
		if ports.next == ports.end {
			base := firstPort + rand.IntN(portBlocks)*blockSize
			lease, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base))
			if err != nil {
				continue
			}
			ports.leases = append(ports.leases, lease)
			ports.next, ports.end = base+1, base+blockSize
		}
		port := ports.next
		ports.next++
		if isFree(fmt.Sprintf("127.0.0.1:%d", port)) {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// isFree reports whether a node could listen there, on TCP and, for gossip, UDP.
func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	p.Close()
	return true
}
