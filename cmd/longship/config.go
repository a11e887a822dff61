package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const configHelp = `Settings of the cluster hold for all nodes, but for those that a node was started with on its command line
or in its environment. They are what ALTER SYSTEM and pg_reload_conf() change.

` + clientHelp

func configCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "config",
		Usage: "show and change the settings of the cluster",
		Subcommands: []*cli.Command{
			{
				Name:        "show",
				Usage:       "list the settings of a node, or show one",
				ArgsUsage:   "[NAME]",
				Description: "The node's own settings, as it goes by them.\n\n" + configHelp,
				Flags:       append(clientFlags(), jsonFlag(), &cli.BoolFlag{Name: "changed", Usage: "only those that differ from the default, or wait for a restart"}),
				Action:      showConfig,
			},
			{
				Name:        "set",
				Usage:       "give a setting a value in the whole cluster, at once",
				ArgsUsage:   "NAME VALUE",
				Description: "VALUE may have a unit, 64MB or 30s.\n\n" + configHelp,
				Flags:       clientFlags(),
				Action:      setConfig,
			},
			{
				Name:        "reset",
				Usage:       "take the cluster's value of a setting away, at once",
				ArgsUsage:   "NAME",
				Description: configHelp,
				Flags:       clientFlags(),
				Action:      resetConfig,
			},
		},
	})
}

const settingsQuery = "SELECT name, setting, unit, source, boot_val, pending_restart, context FROM pg_settings"

func showConfig(c *cli.Context) error {
	name := c.Args().First()
	if name != "" {
		if _, err := oneArgument(c, "the setting's name"); err != nil {
			return err
		}
	}
	rows, err := query(c, queryTimeout, settingsQuery)
	if err != nil {
		return err
	}
	shown := slices.DeleteFunc(rows[0], func(r status.Row) bool {
		return name != "" && !strings.EqualFold(r.Text("name"), name) || c.Bool("changed") && !changed(r)
	})
	if name != "" && len(shown) == 0 && !c.Bool("changed") {
		return fmt.Errorf("there is no setting %q: see longship config show", name)
	}
	table := [][]string{{"name", "value", "unit", "source", "pending restart"}}
	for _, r := range shown {
		table = append(table, []string{r.Text("name"), settingText(r), r.Text("unit"), r.Text("source"), yes(r)})
	}
	return printRows(c, shown, table)
}

// changed reports whether somebody has changed a setting: what the node finds out by itself, and what the
// asking session brings along, are none of it.
func changed(r status.Row) bool {
	source := r.Text("source")
	told := source == "command line" || source == "configuration file"
	return r.Text("pending_restart") == "true" || told && r.Text("setting") != r.Text("boot_val")
}

func yes(r status.Row) string {
	if r.Text("pending_restart") == "true" {
		return "yes"
	}
	return "no"
}

// settingText is a value that can be seen.
func settingText(r status.Row) string {
	if text := r.Text("setting"); text != "" {
		return text
	}
	return "''"
}

func setConfig(c *cli.Context) error {
	name, value := c.Args().First(), c.Args().Get(1)
	switch {
	case c.NArg() < 2:
		return usagef("want NAME and VALUE: see %s --help", c.Command.HelpName)
	case c.NArg() > 2:
		return usagef("unexpected argument %q: put a VALUE with spaces in quotes", c.Args().Get(2))
	}
	return alterSystem(c, name, fmt.Sprintf("SET %s = %s", settingName(name), status.Literal(value)))
}

func resetConfig(c *cli.Context) error {
	name, err := oneArgument(c, "the setting's name")
	if err != nil {
		return err
	}
	return alterSystem(c, name, "RESET "+settingName(name))
}

// settingName quotes a name, part by part: a setting may be called like a word of the language.
func settingName(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

// alterSystem changes a setting, reloads, and prints what the nodes go by.
func alterSystem(c *cli.Context, name, change string) error {
	if _, err := query(c, changeTimeout, "ALTER SYSTEM "+change); err != nil {
		return err
	}
	if _, err := query(c, changeTimeout, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("the change is written, but not reloaded: run it again, or SELECT pg_reload_conf(): %w", err)
	}
	rows, err := query(c, queryTimeout, "SELECT name, address FROM longship_members ORDER BY name", settingsQuery)
	if err != nil {
		return err
	}
	members := rows[0]
	want, _ := settingIn(rows[1], name)
	nodes := make([]status.Row, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { nodes[i] = awaitSetting(c.Context, m.Text("address"), name, want) })
	}
	wg.Wait()
	return printNodes(c, name, members, nodes)
}

func settingIn(rows []status.Row, name string) (status.Row, bool) {
	i := slices.IndexFunc(rows, func(r status.Row) bool { return strings.EqualFold(r.Text("name"), name) })
	if i < 0 {
		return nil, false
	}
	return rows[i], true
}

// applyPatience is how long a node may take to go by what the one that was asked goes by.
const applyPatience = 2 * time.Second

// awaitSetting asks a node for a setting, until it is as wanted or it is clear that it will not be. It is
// nil if the node does not answer.
func awaitSetting(ctx context.Context, address, name string, want status.Row) (found status.Row) {
	ctx, cancel := context.WithTimeout(ctx, applyPatience)
	defer cancel()
	client, err := status.NewClientAt(address)
	if err != nil {
		return nil
	}
	defer client.Close(context.WithoutCancel(ctx))
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		rows, err := client.Query(ctx, settingsQuery)
		if err != nil {
			return found
		}
		found, _ = settingIn(rows[0], name)
		own := found.Text("source") == "command line" || want.Text("source") == "command line"
		if own || yes(found) == "yes" || found.Text("setting") == want.Text("setting") {
			return found
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return found
		}
	}
}

// printNodes prints what each node goes by.
func printNodes(c *cli.Context, name string, members, nodes []status.Row) error {
	table := [][]string{{"node", "value", "unit", "source", "pending restart"}}
	for i, r := range nodes {
		line := []string{members[i].Text("name"), "-", "", "does not answer", "-"}
		if r != nil {
			line = []string{members[i].Text("name"), settingText(r), r.Text("unit"), r.Text("source"), yes(r)}
		}
		table = append(table, line)
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s is changed. What the nodes go by:\n", name); err != nil {
		return err
	}
	if err := printLines(c.App.Writer, status.Columns(table)); err != nil {
		return err
	}
	for i, r := range nodes {
		if r.Text("source") != "command line" {
			continue
		}
		_, err := fmt.Fprintf(c.App.Writer, "%s was started with --%s or its variable, which comes first until it is started without.\n",
			members[i].Text("name"), flagName(r.Text("name")))
		if err != nil {
			return err
		}
	}
	return nil
}
