package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A RegisterInput is an operation on the register of one key. Values are never used twice; "" is no row.
type RegisterInput struct {
	Op       string // read, write, or cas: write New if the value is Old
	Key      string
	Old, New string
}

// A RegisterOutput is what became of it. An operation that is not known may be done at any time, or never.
type RegisterOutput struct {
	Known   bool
	Value   string // read
	Changed bool   // cas: the value was Old
}

// Never is when an operation returns of which nobody knows whether it was done.
const Never = int64(1 << 62)

// registerModel says what a register does; the state is its value.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(RegisterInput), output.(RegisterOutput)
		switch {
		case in.Op == "read":
			return now == out.Value, state
		case in.Op == "write":
			return true, in.New
		case out.Known && out.Changed != (now == in.Old):
			return false, state
		case now == in.Old:
			return true, in.New
		}
		return true, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// A RegisterAnomaly is a key of which no order of the operations, each at one moment between its call and
// its return, explains what was read; or, if Result says so, none was found in the time there was.
type RegisterAnomaly struct {
	Key    string
	Result porcupine.CheckResult
	Around []porcupine.Operation // the operations around which the search got stuck, in the order of calls
}

func (a RegisterAnomaly) String() string {
	var b strings.Builder
	if a.Result == porcupine.Unknown {
		fmt.Fprintf(&b, "%s: no order of the operations was found in the time there was", a.Key)
	} else {
		fmt.Fprintf(&b, "%s: no order of the operations explains them", a.Key)
	}
	for _, o := range a.Around {
		until := "never"
		if o.Return != Never {
			until = time.Duration(o.Return).String()
		}
		fmt.Fprintf(&b, "\n  client %d, %v to %s: %+v -> %+v", o.ClientId, time.Duration(o.Call), until, o.Input, o.Output)
	}
	return b.String()
}

// CheckRegisters looks for an order of all operations, key by key, for so long at most for each. Calls and
// returns are in nanoseconds of one clock. It returns the keys that have none, and how many keys there are.
func CheckRegisters(ops []porcupine.Operation, timeout time.Duration) (found []RegisterAnomaly, keys int) {
	byKey := map[string][]porcupine.Operation{}
	for _, o := range ops {
		key := o.Input.(RegisterInput).Key
		byKey[key] = append(byKey[key], o)
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		result, info := porcupine.CheckOperationsVerbose(registerModel, byKey[key], timeout)
		if result != porcupine.Ok {
			found = append(found, RegisterAnomaly{Key: key, Result: result, Around: around(byKey[key], info)})
		}
	}
	return found, len(byKey)
}

// around is the operations where the longest order that was found ends.
func around(ops []porcupine.Operation, info porcupine.LinearizationInfo) []porcupine.Operation {
	const width = 12
	longest := 0
	for _, partial := range info.PartialLinearizationsOperations() {
		for _, p := range partial {
			longest = max(longest, len(p))
		}
	}
	ordered := slices.SortedFunc(slices.Values(ops), func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return ordered[max(0, longest-width):min(len(ordered), longest+width)]
}
