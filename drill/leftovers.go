package drill

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Leftovers is what would be left behind if the program ended now. All methods may be called at the same time.
type Leftovers struct {
	mu   sync.Mutex
	list []*string
}

// add notes something, until gone is called.
func (l *Leftovers) add(format string, args ...any) (gone func()) {
	what := new(fmt.Sprintf(format, args...))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, what)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.list = slices.DeleteFunc(l.list, func(o *string) bool { return o == what })
	}
}

// List says what is left, and where: each a sentence for people. Processes are not in it: on Linux they end with the
// one that has started them.
func (l *Leftovers) List() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, what := range l.list {
		all = append(all, *what)
	}
	return all
}

// folderPrefix begins the names of the folders in which drills keep their nodes, ownerFile is in each of them, and
// locked by its drill as long as that is under way: it is not there any more in those that are left on purpose.
const (
	folderPrefix = "longship-drill-"
	ownerFile    = "under-way"
)

// makeFolder makes a folder for a drill. Either keep or remove ends its use.
func makeFolder(left *Leftovers) (f *folder, err error) {
	f = &folder{}
	if f.path, err = os.MkdirTemp("", folderPrefix); err != nil {
		return nil, err
	}
	if f.owned, err = vfs.Default.Lock(filepath.Join(f.path, ownerFile)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.path, err), os.RemoveAll(f.path))
	}
	f.gone = left.add("the folder %s, with the data and the logs of the nodes", f.path)
	return f, nil
}

// A folder is where a drill keeps its nodes.
type folder struct {
	path  string
	owned io.Closer // the lock
	gone  func()
}

// keep leaves the folder where it is, for people.
func (f *folder) keep() error {
	f.gone()
	f.owned.Close()
	return os.Remove(filepath.Join(f.path, ownerFile))
}

// remove deletes the folder and all there is in it.
func (f *folder) remove() error {
	defer f.owned.Close() // nobody else takes it for a dead drill's meanwhile
	err := os.RemoveAll(f.path)
	if err == nil {
		f.gone()
	}
	return err
}

// sweep removes the folders of drills that were killed, and says which.
func sweep() (removed []string) {
	owners, _ := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*", ownerFile))
	for _, owner := range owners {
		lock, err := vfs.Default.Lock(owner)
		if err != nil {
			continue // it is under way
		}
		dir := filepath.Dir(owner)
		if os.RemoveAll(dir) == nil {
			removed = append(removed, dir)
		}
		lock.Close()
	}
	return removed
}
