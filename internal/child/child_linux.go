package child

import "syscall"

// Attributes puts a node in a process group of its own, so that Ctrl-C does not reach it, and
// has the kernel kill it when the thread that started it ends, whatever ends it.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
