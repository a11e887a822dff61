package sql

import (
	_ "embed" // pg_type.txt
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// pg_type.txt lists the functions that read and write values.
//
//go:embed pg_type.txt
var pgTypeText string

// A typeFunction is one of those: it cannot be called, but drivers look at it to recognise a type.
type typeFunction struct {
	oid  uint32
	name string
}

// typeFunctions are the input, output, receive and send function of each type, by its name in pg_type.
var typeFunctions = sync.OnceValue(func() map[string][4]typeFunction {
	list := map[string][4]typeFunction{}
	for line := range strings.Lines(pgTypeText) {
		if line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		var functions [4]typeFunction
		for i := range functions {
			oid, err := strconv.ParseUint(f[1+2*i], 10, 32)
			if err != nil {
				panic(fmt.Sprintf("sql: pg_type.txt: %s: %v", f[0], err))
			}
			functions[i] = typeFunction{uint32(oid), f[2+2*i]}
		}
		list[f[0]] = functions
	}
	return list
})

// typeFunctionNames are those functions by OID.
var typeFunctionNames = sync.OnceValue(func() map[uint32]string {
	names := map[uint32]string{}
	for _, functions := range typeFunctions() {
		for _, f := range functions {
			if f.oid != 0 {
				names[f.oid] = f.name
			}
		}
	}
	return names
})

func (f typeFunction) value() Value { return Value{typ: Regproc, n: int64(f.oid), s: f.name} }
