//go:build !linux

package child

import "syscall"

// Attributes puts a node in a process group of its own, so that Ctrl-C does not reach it.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
