package history

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A checker that finds nothing proves nothing: here are histories that cannot have been.
func TestRegisters(t *testing.T) {
	op := func(call, ret int64, in RegisterInput, out RegisterOutput) porcupine.Operation {
		in.Key, out.Known = "k", ret != Never
		return porcupine.Operation{Call: call, Return: ret, Input: in, Output: out}
	}
	write := func(v string) RegisterInput { return RegisterInput{Op: "write", New: v} }
	read, cas := RegisterInput{Op: "read"}, RegisterInput{Op: "cas", Old: "a", New: "b"}
	first := op(0, 1, write("a"), RegisterOutput{})
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want bool
	}{
		"read what was written": {[]porcupine.Operation{first, op(2, 3, read, RegisterOutput{Value: "a"})}, true},
		"lost":                  {[]porcupine.Operation{first, op(2, 3, read, RegisterOutput{})}, false},
		"stale":                 {[]porcupine.Operation{first, op(2, 3, write("b"), RegisterOutput{}), op(4, 5, read, RegisterOutput{Value: "a"})}, false},
		"unknown and there":     {[]porcupine.Operation{first, op(2, Never, write("b"), RegisterOutput{}), op(4, 5, read, RegisterOutput{Value: "b"})}, true},
		"unknown and not there": {[]porcupine.Operation{first, op(2, Never, write("b"), RegisterOutput{}), op(4, 5, read, RegisterOutput{Value: "a"})}, true},
		"seen and gone": {[]porcupine.Operation{first, op(2, Never, write("b"), RegisterOutput{}),
			op(4, 5, read, RegisterOutput{Value: "b"}), op(6, 7, read, RegisterOutput{Value: "a"})}, false},
		"both of two": {[]porcupine.Operation{first, op(2, 3, cas, RegisterOutput{Changed: true}), op(4, 5, cas, RegisterOutput{Changed: true})}, false},
		"neither":     {[]porcupine.Operation{first, op(2, 3, cas, RegisterOutput{})}, false},
	} {
		found, keys := CheckRegisters(c.ops, time.Minute)
		if got := len(found) == 0; got != c.want || keys != 1 {
			t.Errorf("%s: linearizable %v, want %v: %v", name, got, c.want, found)
		}
	}
}
