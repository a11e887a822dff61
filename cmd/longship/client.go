package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
)

// clientHelp ends the help of the commands that talk to a node.
const clientHelp = `Any node will do. PGHOST, PGPORT, PGUSER, PGPASSWORD and PGSSLMODE are honoured.`

// clientFlags say which node a command talks to.
func clientFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Usage: "`HOST` of the node, or several with commas: the first that answers", DefaultText: "$PGHOST or " + status.DefaultHost},
		&cli.StringFlag{Name: "port", Usage: "client `PORT` of the node, or of each", DefaultText: fmt.Sprintf("$PGPORT or %d", status.DefaultPort)},
	}
}

func newClient(c *cli.Context) (*status.Client, error) {
	client, err := status.NewClient(status.Conninfo(c.String("host"), c.String("port")))
	if err != nil {
		return nil, &usageError{err}
	}
	return client, nil
}

// queryTimeout bounds the wait for an answer: a node that hangs is news, too. changeTimeout is for
// what changes the cluster, which has deadlines of its own.
const (
	queryTimeout  = 10 * time.Second
	changeTimeout = 2 * time.Minute
)

// query asks the node of a command, over a connection of its own.
func query(c *cli.Context, timeout time.Duration, statements ...string) ([][]status.Row, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	client.Warn = func(text string) { fmt.Fprintln(c.App.ErrWriter, "longship: warning:", text) }
	defer client.Close(context.WithoutCancel(c.Context))
	ctx, cancel := context.WithTimeout(c.Context, timeout)
	defer cancel()
	return client.Query(ctx, statements...)
}

// change calls a function that changes the cluster and returns what it answers.
func change(c *cli.Context, function string, args ...string) (string, error) {
	statement := fmt.Sprintf("SELECT %s(%s) AS result", function, strings.Join(args, ", "))
	rows, err := query(c, changeTimeout, statement)
	if err != nil {
		return "", err
	}
	if len(rows[0]) != 1 {
		return "", fmt.Errorf("%s answered %d rows, want 1", function, len(rows[0]))
	}
	return rows[0][0].Text("result"), nil
}

// group is a command that only has others under it.
func group(command *cli.Command) *cli.Command {
	var names []string
	for _, sub := range command.Subcommands {
		names = append(names, sub.Name)
		sub.OnUsageError = asUsageError
		sub.HideHelpCommand = true
	}
	command.Action = func(c *cli.Context) error {
		if name := c.Args().First(); name != "" {
			return usagef("unknown command %q: longship %s has %s", name, command.Name, strings.Join(names, ", "))
		}
		return usagef("longship %s what? it has %s", command.Name, strings.Join(names, ", "))
	}
	return command
}

// oneArgument is the argument of a command that takes just one.
func oneArgument(c *cli.Context, what string) (string, error) {
	switch arg := c.Args().First(); {
	case arg == "":
		return "", usagef("%s is missing: see %s --help", what, c.Command.HelpName)
	case c.NArg() > 1:
		return "", usagef("unexpected argument %q: see %s --help", c.Args().Get(1), c.Command.HelpName)
	default:
		return arg, nil
	}
}

// printRows prints rows as a table, or as JSON if that was asked for.
func printRows(c *cli.Context, rows []status.Row, table [][]string) error {
	if !c.Bool("json") {
		return printLines(c.App.Writer, status.Columns(table))
	}
	if rows == nil {
		rows = []status.Row{} // [] and not null
	}
	e := json.NewEncoder(c.App.Writer)
	e.SetIndent("", "  ")
	return e.Encode(rows)
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }
