package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tick is the unit of processor time in /proc: USER_HZ is 100.
const tick = 10 * time.Millisecond

// A procStat is what /proc/PID/stat says of a process, see proc(5).
type procStat struct {
	state    string // "Z": it has ended, and nobody has waited for it
	parent   int
	own      time.Duration // utime and stime
	children time.Duration // cutime and cstime: of children that have ended and were waited for
}

// readStat is zero for a process that is gone.
func readStat(pid int) (s procStat) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s
	}
	// The second field, the name, is in parentheses and may contain anything. Behind it comes the third.
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 15 {
		return s
	}
	field := func(i int) int { n, _ := strconv.Atoi(f[i-3]); return n }
	return procStat{
		state:    f[0],
		parent:   field(4),
		own:      time.Duration(field(14)+field(15)) * tick,
		children: time.Duration(field(16)+field(17)) * tick,
	}
}

// runs reports whether a process has not ended.
func runs(pid int) bool {
	state := readStat(pid).state
	return state != "" && state != "Z"
}

// processTree is a process and its children: a PostgreSQL server's processes are children of one.
func processTree(pid int) []int {
	list := []int{pid}
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		if child, err := strconv.Atoi(filepath.Base(name)); err == nil && readStat(child).parent == pid {
			list = append(list, child)
		}
	}
	return list
}

// cpu is the processor time of all of a server's processes, those that have ended included.
func (s server) cpu() time.Duration {
	for {
		before := readStat(s.pid)
		sum := before.children
		for _, pid := range processTree(s.pid) {
			sum += readStat(pid).own
		}
		if readStat(s.pid).children == before.children {
			return sum // nobody has passed from one sum into the other
		}
	}
}

// cpu is that of all servers of the system.
func (s system) cpu() (sum time.Duration) {
	for _, x := range s.servers {
		sum += x.cpu()
	}
	return sum
}

// memory is what a server's processes have in memory, in MB; what several of them share, as PostgreSQL's do
// their buffers, counts once (Pss in /proc/PID/smaps_rollup).
func (s server) memory(t *testing.T) float64 {
	t.Helper()
	kB := 0
	for _, pid := range processTree(s.pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, _ := strconv.Atoi(f[1])
				kB += n
			}
		}
	}
	return float64(kB) / 1024
}
