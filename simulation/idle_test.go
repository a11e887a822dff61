//go:build simulation

package simulation

import _ "unsafe" // for linkname

// In a bubble of testing/synctest time stands still while a goroutine waits for a mutex: its owner may be outside.
// Here it may be a node that holds a lock during a sync, which takes simulated time. So goroutines that wait for
// mutexes count as idle, too: the runtime has a table of what does.

//go:linkname isIdleInSynctest runtime.isIdleInSynctest
var isIdleInSynctest [64]bool

//go:linkname waitReasonStrings runtime.waitReasonStrings
var waitReasonStrings [64]string

func init() {
	const fewest = 40 // reasons of Go 1.26; those of mutexes are among the first
	found := 0
	for i, reason := range waitReasonStrings[:fewest] {
		switch reason {
		case "sync.Mutex.Lock", "sync.RWMutex.RLock", "sync.RWMutex.Lock":
			isIdleInSynctest[i] = true
			found++
		}
	}
	mutexesAreIdle = found == 3
}
