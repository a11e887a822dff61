package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// optionsFirst moves the options of a command line before its other arguments, where urfave/cli wants
// them: people write longship members remove n4 --port 5434. Behind -- nothing is an option, nor is, behind an
// argument, what begins with one dash and is none of the command's: config set max_slot_wal_keep_size -1. Who asks
// for help gets that of the command, whatever else is there, and who forgets the value of the last option hears that.
func optionsFirst(commands []*cli.Command, args []string) []string {
	at := min(1, len(args))
	var command *cli.Command
	for at < len(args) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[at]) })
		if i < 0 {
			break
		}
		command, commands = commands[i], commands[i].Subcommands
		at++
	}
	if command == nil {
		return args
	}
	path := at // the program and its command
	ordered := slices.Clone(args[:path])
	var others []string
	for ; at < len(args); at++ {
		arg := args[at]
		if arg == "--" {
			return append(append(ordered, others...), args[at:]...)
		}
		if isHelp(arg) {
			return append(args[:path:path], arg)
		}
		option, takesValue := find(command, arg)
		option = option || strings.HasPrefix(arg, "--")
		switch {
		case arg == "-" || !strings.HasPrefix(arg, "-") || !option && len(others) > 0:
			others = append(others, arg)
		default:
			ordered = append(ordered, arg)
			if takesValue && at+1 == len(args) {
				return ordered // which must not take one of the others for its value
			}
			if takesValue {
				at++
				ordered = append(ordered, args[at])
			}
		}
	}
	return append(ordered, others...)
}

func isHelp(arg string) bool { return slices.Contains([]string{"--help", "-help", "-h"}, arg) }

// find reports whether a command has an option, and whether its value is the next argument.
func find(command *cli.Command, arg string) (known, takesValue bool) {
	name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cli.DocGenerationFlag)
			return true, ok && d.TakesValue() && !given
		}
	}
	return false, false
}
