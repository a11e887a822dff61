package wallclock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// code takes the place of __vdso_clock_gettime(clock, *timespec): clock is in edi, the address of the seconds in
// rsi. Behind it, aligned, come the two offsets and the index of the one that is used; their distance from the
// instruction that follows is filled in.
var code = []byte{
	0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
	0x0f, 0x05, // syscall
	0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
	0x75, 21, // jne done
	0x0f, 0xb6, 0x0d, 0, 0, 0, 0, // movzx ecx, byte [rip+index]
	0x48, 0x8d, 0x15, 0, 0, 0, 0, // lea rdx, [rip+offsets]
	0x48, 0x8b, 0x0c, 0xca, // mov rcx, [rdx+rcx*8]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3, // done: ret
}

// What is filled in: the end of the instruction is 4 bytes after it.
const (
	indexAt   = 14
	offsetsAt = 21
)

// replacement is the code and the data for a function at an address, and how far behind that the index is.
func replacement(address int64) (b []byte, index int64) {
	b = slices.Clone(code)
	for (address+int64(len(b)))%8 != 0 {
		b = append(b, 0)
	}
	offsets := int64(len(b))
	index = offsets + offsetsSize
	b = append(b, make([]byte, offsetsSize+1)...)
	binary.LittleEndian.PutUint32(b[indexAt:], uint32(index-indexAt-4))
	binary.LittleEndian.PutUint32(b[offsetsAt:], uint32(offsets-offsetsAt-4))
	return b, index
}

func encode(seconds int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(seconds)) }

// start is Start; hold leaves the process stopped before its first instruction.
func start(cmd *exec.Cmd, program string, hold bool) (*Clock, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c, err := takeOver(cmd.Process.Pid, path, hold)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("take over the clock of %s: %w", path, err)
	}
	return c, nil
}

// takeOver follows a traced process until it is to run a program, replaces what that asks for the time, and lets it go.
func takeOver(pid int, program string, hold bool) (*Clock, error) {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WALL, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return nil, err
		case !status.Stopped():
			return nil, errors.New("it has ended before it became that")
		}
		signal := status.StopSignal()
		if signal == syscall.SIGTRAP { // it has called execve
			signal = 0
			if runs(pid, program) {
				break
			}
		}
		if err := syscall.PtraceCont(pid, int(signal)); err != nil {
			return nil, err
		}
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := &Clock{memory: memory}
	if err = c.patch(pid); err == nil {
		err = detach(pid, hold)
	}
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	return c, nil
}

func runs(pid int, program string) bool {
	is, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	want, err := os.Stat(program)
	return err == nil && os.SameFile(is, want)
}

// detach lets a traced process go, or leaves it stopped.
func detach(pid int, hold bool) error {
	var signal syscall.Signal
	if hold {
		signal = syscall.SIGSTOP
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, syscall.PTRACE_DETACH, uintptr(pid), 0, uintptr(signal), 0, 0); errno != 0 {
		return os.NewSyscallError("ptrace", errno)
	}
	return nil
}

// patch replaces the function.
func (c *Clock) patch(pid int) error {
	begin, end, err := vdso(pid)
	if err != nil {
		return err
	}
	image := make([]byte, end-begin)
	if _, err := c.memory.ReadAt(image, begin); err != nil {
		return err
	}
	at, size, err := function(image, "__vdso_clock_gettime")
	if err != nil {
		return err
	}
	b, index := replacement(begin + at)
	if int64(len(b)) > size {
		return fmt.Errorf("the kernel's clock_gettime is only %d bytes long", size)
	}
	c.which = begin + at + index
	_, err = c.memory.WriteAt(b, begin+at)
	return err
}

// vdso is where the kernel has mapped its code into a process.
func vdso(pid int) (begin, end int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for row := range strings.Lines(string(maps)) {
		if strings.HasSuffix(row, " [vdso]\n") {
			if _, err := fmt.Sscanf(row, "%x-%x ", &begin, &end); err != nil || end <= begin || end-begin > maxVDSO {
				return 0, 0, fmt.Errorf("the mapping %q makes no sense", row)
			}
			return begin, end, nil
		}
	}
	return 0, 0, errors.New("the process has no vDSO")
}

// maxVDSO bounds what is read: it is a few pages.
const maxVDSO = 1 << 20

// function is where in a shared object a function is, and how long.
func function(image []byte, name string) (at, size int64, err error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, err
	}
	for _, s := range symbols {
		if s.Name == name && s.Value > 0 && s.Value+s.Size <= uint64(len(image)) {
			return int64(s.Value), int64(s.Size), nil
		}
	}
	return 0, 0, fmt.Errorf("the vDSO has no %s", name)
}

// try starts a process whose clock can be set, sets it, and ends it before its first instruction.
func try() (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	path, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(path)
	c, err := start(cmd, path, true)
	if err != nil {
		return err
	}
	err = c.Set(1)
	cmd.Process.Kill()
	cmd.Wait()
	return errors.Join(err, c.Close())
}
