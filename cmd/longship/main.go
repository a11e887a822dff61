// Command longship runs a node of a replicated log, a whole cluster for a demonstration, and the
// tools to look at both.
//
// Here are only flags, signals and exit codes: 0 for success, 1 for a failure, with one line on
// standard error that says what and what to do, 2 for a command line that makes no sense, and 3 if a
// check that was asked for found something.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/node"
	"github.com/longship-db/longship/pgwire"
)

const (
	exitFailure = 1
	exitUsage   = 2
	exitWarning = 3
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "start" {
		relaxTimers()
	}
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// run is the program, but for the exit.
func run(args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.Run(optionsFirst(app.Commands, args))
	return report(stderr, err)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "longship",
		Usage:     "a replicated write-ahead log and table that speaks PostgreSQL",
		Version:   node.Version,
		Writer:    stdout,
		ErrWriter: stderr,
		Reader:    os.Stdin,
		Commands: []*cli.Command{
			startCommand(), demoCommand(), drillCommand(), statusCommand(), switchoverCommand(), failoverCommand(),
			membersCommand(), slotsCommand(), configCommand(), waldumpCommand(),
		},
		Action:         unknownCommand,
		OnUsageError:   asUsageError,
		ExitErrHandler: func(*cli.Context, error) {}, // run decides
	}
	for _, c := range app.Commands {
		c.OnUsageError = asUsageError
		c.HideHelpCommand = true
	}
	return app
}

// unknownCommand is what the program does when none of its commands is named.
func unknownCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return usagef("unknown command %q: see longship --help", name)
	}
	return cli.ShowAppHelp(c)
}

// A usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func asUsageError(c *cli.Context, err error, isSubcommand bool) error {
	return usagef("%w: see %s --help", err, c.Command.HelpName)
}

// noArguments refuses what follows the flags.
func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("unexpected argument %q: see %s --help", c.Args().First(), c.Command.HelpName)
	}
	return nil
}

// errReported is a failure of which everything has been said, and errWarnings what a check found.
var (
	errReported = errors.New("reported")
	errWarnings = fmt.Errorf("warnings: %w", errReported)
)

// report prints err on one line and returns the exit code that goes with it.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(stderr, "longship: %s\n", oneLine(err))
	}
	if errors.Is(err, errWarnings) {
		return exitWarning
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}

// oneLine is the text of an error, with what PostgreSQL would print on further lines behind it.
func oneLine(err error) string {
	text := err.Error()
	if pgErr, ok := errors.AsType[*pgwire.Error](err); ok {
		text = strings.Replace(text, pgErr.Error(), pgErr.Message, 1)
		for _, more := range []string{pgErr.Detail, pgErr.Hint} {
			if more != "" {
				text += ": " + more
			}
		}
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
