package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// optionsFirst moves the options of a command line before its other arguments, where urfave/cli wants
// them: people write longship members remove n4 --port 5434. Behind -- nothing is an option,
// nor is what the command does not know behind an argument: config set max_slot_wal_keep_size -1.
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
	ordered := slices.Clone(args[:at])
	var others []string
	for ; at < len(args); at++ {
		arg := args[at]
		if arg == "--" {
			return append(append(ordered, others...), args[at:]...)
		}
		option, takesValue := find(command, arg)
		switch {
		case arg == "-" || !strings.HasPrefix(arg, "-") || !option && len(others) > 0:
			others = append(others, arg)
		default:
			ordered = append(ordered, arg)
			if takesValue && at+1 < len(args) {
				at++
				ordered = append(ordered, args[at])
			}
		}
	}
	return append(ordered, others...)
}

// find reports whether a command has an option, and whether its value is the next argument.
func find(command *cli.Command, arg string) (known, takesValue bool) {
	name, _, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if name == "help" || name == "h" {
		return true, false
	}
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cli.DocGenerationFlag)
			return true, ok && d.TakesValue() && !given
		}
	}
	return false, false
}
