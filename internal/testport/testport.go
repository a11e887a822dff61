// Package testport hands out ports to the nodes of tests and drills.
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports come from below the range in which the kernel chooses those of clients, in blocks: who listens on
// the first port of one, as long as the process lasts, owns the others. So none is taken by the tests of
// another package while its node is being started again.
const (
	firstPort  = 10_000
	portBlocks = 1100
	blockSize  = 20
	attempts   = 10_000
)

var owned struct {
	mu        sync.Mutex
	next, end int
	leases    []net.Listener
}

// Take returns a port of 127.0.0.1 that nobody else has, free on TCP and, for gossip, on UDP.
func Take() (int, error) {
	owned.mu.Lock()
	defer owned.mu.Unlock()
	for range attempts {
		if owned.next == owned.end {
			base := firstPort + rand.IntN(portBlocks)*blockSize
			lease, err := net.Listen("tcp", address(base))
			if err != nil {
				continue
			}
			owned.leases = append(owned.leases, lease)
			owned.next, owned.end = base+1, base+blockSize
		}
		port := owned.next
		owned.next++
		if isFree(address(port)) {
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

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
