//go:build !linux

package demo

import "syscall"

// childAttributes puts a node in a process group of its own, so that Ctrl-C does not reach it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
