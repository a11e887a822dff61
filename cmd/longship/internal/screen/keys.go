package screen

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// AwaitKey returns when one of keys is pressed on the terminal f, or ctx ends. Meanwhile nothing that
// is typed is shown; signals come as ever. If f is no terminal it waits for ctx alone.
func AwaitKey(ctx context.Context, f *os.File, keys string) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		<-ctx.Done()
		return
	}
	quiet := *before
	quiet.Lflag &^= unix.ICANON | unix.ECHO
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 0, 1 // a read takes a tenth of a second at most
	if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) != nil {
		<-ctx.Done()
		return
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETS, before)
	var b [1]byte
	for ctx.Err() == nil {
		n, err := unix.Read(fd, b[:])
		if err != nil && err != unix.EINTR && err != unix.EAGAIN {
			<-ctx.Done()
			return
		}
		for _, k := range []byte(keys) {
			if n == 1 && b[0] == k {
				return
			}
		}
	}
}
