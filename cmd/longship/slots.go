package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/cmd/longship/internal/status"
)

const createSlotHelp = `From now on the cluster keeps the log for whoever uses the slot, pg_receivewal --slot NAME for instance,
until it has received it, or until the slot is dropped: an unused slot fills the disk.
max_slot_wal_keep_size limits that.

` + clientHelp

func slotsCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "slots",
		Usage: "list, create and drop replication slots",
		Subcommands: []*cli.Command{
			{
				Name:        "list",
				Usage:       "list the slots and what they keep",
				Description: clientHelp,
				Flags:       append(clientFlags(), jsonFlag()),
				Action:      listSlots,
			},
			{
				Name:        "create",
				Usage:       "create a physical slot",
				ArgsUsage:   "NAME",
				Description: createSlotHelp,
				Flags: append(clientFlags(), &cli.BoolFlag{
					Name: "reserve-wal", Value: true, Usage: "keep the log from now on, not only from the first use of the slot",
				}),
				Action: createSlot,
			},
			{
				Name:        "drop",
				Usage:       "drop a slot that nobody uses",
				ArgsUsage:   "NAME",
				Description: clientHelp,
				Flags:       clientFlags(),
				Action:      dropSlot,
			},
		},
	})
}

func listSlots(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rows, err := query(c, queryTimeout, "SELECT * FROM longship_slots")
	if err != nil {
		return err
	}
	slots := rows[0]
	if err := printRows(c, slots, status.SlotTable(slots)); err != nil || c.Bool("json") {
		return err
	}
	return printLines(c.App.Writer, status.SlotWarnings(slots))
}

func createSlot(c *cli.Context) error {
	name, err := oneArgument(c, "the slot's name")
	if err != nil {
		return err
	}
	statement := fmt.Sprintf("SELECT slot_name, lsn FROM pg_create_physical_replication_slot(%s, %t)", status.Literal(name), c.Bool("reserve-wal"))
	rows, err := query(c, changeTimeout, statement)
	if err != nil {
		return err
	}
	from := ": the log is kept from its first use on"
	if len(rows[0]) == 1 && rows[0][0].Text("lsn") != "" {
		from = ": the log is kept from " + rows[0][0].Text("lsn") + " on"
	}
	_, err = fmt.Fprintf(c.App.Writer, "slot %s created%s\n", name, from)
	return err
}

func dropSlot(c *cli.Context) error {
	name, err := oneArgument(c, "the slot's name")
	if err != nil {
		return err
	}
	if _, err := change(c, "pg_drop_replication_slot", status.Literal(name)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "slot %s dropped\n", name)
	return err
}
