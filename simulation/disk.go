package simulation

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// A page is never changed once two files, or a file and its durable state, have it.
type page [pageSize]byte

var zeroes page

// A Disk is the content of a file system, and what of it is durable: of a file what was synced, of a directory
// the names that it had when it was synced. It is copied, not shared: a crash makes the disk that is found
// afterwards, and the one before it stays as it is, for the process that is no more.
type Disk struct {
	mu   sync.Mutex
	root *inode
	full bool // no file may grow
}

// NewDisk makes an empty disk.
func NewDisk() *Disk { return &Disk{root: newFolder()} }

// An inode is a file or a directory. Disk.mu guards it.
type inode struct {
	folder   bool
	children map[string]*inode // of a directory
	durable  map[string]*inode // children as they were synced

	modified   time.Time
	pages      []*page
	size       int64
	synced     []*page // pages as they were synced
	syncedSize int64
	dirty      map[int]bool // pages that differ from synced; true: nobody else has this page, so it may be changed
}

func newFolder() *inode {
	return &inode{folder: true, children: map[string]*inode{}, durable: map[string]*inode{}}
}

func newFile() *inode { return &inode{dirty: map[int]bool{}, modified: time.Now()} }

// A copier makes copies of inodes, one of each, however many names they have.
type copier struct {
	copy func(*inode) *inode
	done map[*inode]*inode
}

func (c *copier) of(n *inode) *inode {
	if n == nil {
		return nil
	}
	if to := c.done[n]; to != nil {
		return to
	}
	to := c.copy(n)
	c.done[n] = to
	if n.folder {
		for name, child := range to.children {
			to.children[name] = c.of(child)
		}
		for name, child := range to.durable {
			to.durable[name] = c.of(child)
		}
	}
	return to
}

// Killed is the disk that the end of a process leaves: with all that it had written, durable or not.
func (d *Disk) Killed() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := copier{done: map[*inode]*inode{}, copy: func(n *inode) *inode {
		to := *n
		to.children, to.durable = maps.Clone(n.children), maps.Clone(n.durable)
		to.pages, to.synced = slices.Clone(n.pages), slices.Clone(n.synced)
		to.dirty = make(map[int]bool, len(n.dirty))
		for i := range n.dirty {
			n.dirty[i], to.dirty[i] = false, false // both have the page now
		}
		return &to
	}}
	return &Disk{root: c.of(d.root)}
}

// PowerCut is the disk that is found after the power has failed: with all that was durable, and so many percent
// of the pages and names that were not, some of them torn.
func (d *Disk) PowerCut(rng *rand.Rand, percent int) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := copier{done: map[*inode]*inode{}, copy: func(n *inode) *inode {
		if n.folder {
			return n.folderAfterCut(rng, percent)
		}
		return n.fileAfterCut(rng, percent)
	}}
	return &Disk{root: c.of(d.root)}
}

func (n *inode) folderAfterCut(rng *rand.Rand, percent int) *inode {
	to := newFolder()
	maps.Copy(to.children, n.durable)
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if rng.IntN(100) < percent {
			to.children[name] = n.children[name]
		}
	}
	to.durable = maps.Clone(to.children)
	return to
}

func (n *inode) fileAfterCut(rng *rand.Rand, percent int) *inode {
	to := newFile()
	to.modified = n.modified
	to.pages, to.size = slices.Clone(n.synced), n.syncedSize
	for _, i := range slices.Sorted(maps.Keys(n.dirty)) {
		if i >= len(n.pages) || rng.IntN(100) >= percent {
			continue
		}
		for len(to.pages) <= i {
			to.pages = append(to.pages, &zeroes)
		}
		written := *n.pages[i]
		if rng.IntN(4) == 0 {
			whole := sectorSize * rng.IntN(pageSize/sectorSize)
			copy(written[whole:], to.pages[i][whole:]) // torn: only the beginning has arrived
		}
		to.pages[i] = &written
		to.size = max(to.size, min(n.size, int64(i+1)*pageSize))
	}
	to.synced, to.syncedSize = slices.Clone(to.pages), to.size
	return to
}

// Flip changes a bit of a file, durably. It reports false if there is no such byte.
func (d *Disk) Flip(path string, at int64, bit int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil || n.folder || at >= n.size {
		return false
	}
	i := int(at / pageSize)
	changed := *n.pages[i]
	changed[at%pageSize] ^= 1 << bit
	n.pages[i] = &changed
	if i < len(n.synced) {
		n.synced[i] = &changed
	}
	return true
}

// SetFull says whether files may grow.
func (d *Disk) SetFull(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// names are the elements of a path.
func names(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// find is the inode with a path. The caller holds mu.
func (d *Disk) find(path string) (*inode, error) {
	n := d.root
	for _, name := range names(path) {
		if !n.folder {
			return nil, syscall.ENOTDIR
		}
		if n = n.children[name]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// place is the directory that has, or is to have, the last name of a path. The caller holds mu.
func (d *Disk) place(path string) (folder *inode, name string, err error) {
	list := names(path)
	if len(list) == 0 {
		return nil, "", fs.ErrInvalid
	}
	last := len(list) - 1
	folder, err = d.find(strings.Join(list[:last], "/"))
	if err == nil && !folder.folder {
		err = syscall.ENOTDIR
	}
	return folder, list[last], err
}

// writeAt writes to a file. The caller holds Disk.mu.
func (n *inode) writeAt(b []byte, at int64) {
	n.modified = time.Now()
	for end := at + int64(len(b)); int64(len(n.pages))*pageSize < end; {
		n.pages = append(n.pages, &zeroes)
		n.dirty[len(n.pages)-1] = false
	}
	n.size = max(n.size, at+int64(len(b)))
	for len(b) > 0 {
		i, from := int(at/pageSize), int(at%pageSize)
		some := min(len(b), pageSize-from)
		if some == pageSize && *(*page)(b[:pageSize]) == zeroes {
			n.pages[i], n.dirty[i] = &zeroes, false
		} else {
			if !n.dirty[i] {
				own := *n.pages[i]
				n.pages[i], n.dirty[i] = &own, true
			}
			copy(n.pages[i][from:], b[:some])
		}
		b, at = b[some:], at+int64(some)
	}
}

// readAt reads from a file. The caller holds Disk.mu.
func (n *inode) readAt(b []byte, at int64) (read int) {
	for len(b) > 0 && at < n.size {
		from := int(at % pageSize)
		some := min(len(b), pageSize-from, int(n.size-at))
		copy(b, n.pages[at/pageSize][from:from+some])
		b, at, read = b[some:], at+int64(some), read+some
	}
	return read
}

// sync makes a file, or the names in a directory, durable. The caller holds Disk.mu.
func (n *inode) sync() {
	if n.folder {
		n.durable = maps.Clone(n.children)
		return
	}
	for len(n.synced) < len(n.pages) {
		n.synced = append(n.synced, &zeroes)
	}
	for i := range n.dirty {
		n.synced[i] = n.pages[i]
	}
	clear(n.dirty)
	n.syncedSize = n.size
}

// forget is a sync of a file that fails, as Linux has it: what was written is still read, and counts as synced, but
// is not on the disk. The caller holds Disk.mu.
func (n *inode) forget() { clear(n.dirty) }
