package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/longship-db/longship/startup"
)

// A pidFile is the lock of a data directory: the file longship.pid, locked as long as the process
// lives, with the process id on its first line and the address clients connect to on its second.
type pidFile struct{ file *os.File }

// lockDataDir takes the lock, or says who has it.
func lockDataDir(dir, address string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	path := filepath.Join(dir, startup.PIDFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _, _ := strings.Cut(string(owner), "\n")
			return nil, fmt.Errorf("data directory %s is in use by process %s: stop it first (kill %s), or use another directory", dir, pid, pid)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !sameFile(f, path) {
		// Its owner removed the file between our open and our lock: what we locked has no name.
		f.Close()
		return lockDataDir(dir, address)
	}
	p := &pidFile{file: f}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if _, err := fmt.Fprintf(f, "%d\n%s\n", os.Getpid(), address); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Close removes the file and with it the lock.
func (p *pidFile) Close() error {
	return errors.Join(os.Remove(p.file.Name()), p.file.Close())
}
