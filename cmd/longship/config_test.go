package main

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/longship-db/longship/sql"
)

// The scripts change settings of a cluster of two: the node that answers, and one that does not.
//
//	run   the command line; what it prints, and what the node was asked to do
//	flag  name = value: the node was started with it
func TestConfig(t *testing.T) {
	n := startFakeNode(t)
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", strconv.Itoa(n.port))
	n.catalog.AddView("longship_members", []sql.Column{{Name: "name", Type: sql.Text}, {Name: "address", Type: sql.Text}},
		func(context.Context) ([][]sql.Value, error) {
			return [][]sql.Value{
				{sql.TextValue("n2"), sql.TextValue(fmt.Sprintf("127.0.0.1:%d", n.port))},
				{sql.TextValue("n3"), sql.TextValue("nowhere")},
			}, nil
		})
	datadriven.RunTest(t, "testdata/config", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "flag" {
			if err := n.catalog.Settings.Set(d.CmdArgs[0].Key, d.CmdArgs[0].Vals[0], "command line"); err != nil {
				t.Fatal(err)
			}
			return ""
		}
		return n.runCommand(d.Input)
	})
}
