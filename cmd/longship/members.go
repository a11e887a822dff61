package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const removeHelp = `The cluster forgets the node NAME, dead or alive: majorities no longer count it, and a node of that name
joins as a new one. While the rule needs it, or while it is the primary, it stays, and the answer says
so; move the primary first. Stop a node that is alive before or after: removed, it follows nobody.

` + clientHelp

func membersCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "members",
		Usage: "list the nodes of the cluster, or remove one",
		Subcommands: []*cli.Command{
			{
				Name:        "list",
				Usage:       "list the nodes of the cluster",
				Description: clientHelp,
				Flags:       append(clientFlags(), jsonFlag()),
				Action:      listMembers,
			},
			{
				Name:        "remove",
				Usage:       "make the cluster forget a node",
				ArgsUsage:   "NAME",
				Description: removeHelp,
				Flags:       clientFlags(),
				Action:      removeMember,
			},
		},
	})
}

func listMembers(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rows, err := query(c, queryTimeout, "SELECT * FROM longship_members")
	if err != nil {
		return err
	}
	return printRows(c, rows[0], status.MemberTable(rows[0]))
}

func removeMember(c *cli.Context) error {
	name, err := oneArgument(c, "the node's name")
	if err != nil {
		return err
	}
	answer, err := change(c, "longship_remove_member", status.Literal(name))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: %s\n", name, answer)
	return err
}
