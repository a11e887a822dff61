package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/longship-db/longship/drill"
)

// parseDrill has the command line of drill run read as drillConfig does, and runs nothing.
func parseDrill(t *testing.T, line string) (cfg drill.Config, names []string, err error) {
	t.Helper()
	app := newApp(io.Discard, io.Discard)
	run := app.Command("drill").Subcommands[1]
	run.Action = func(c *cli.Context) error {
		var drills []drill.Drill
		cfg, drills, err = drillConfig(c)
		for _, d := range drills {
			names = append(names, d.Name)
		}
		return err
	}
	err = app.Run(optionsFirst(app.Commands, strings.Fields("longship drill run "+line)))
	return cfg, names, err
}

func TestDrillConfig(t *testing.T) {
	cfg, names, err := parseDrill(t, "kill-all --network namespaces --nodes 5 --rounds=7 kill-primary --clients 4 --duration 1m --seed 9 --keep")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Program == "" {
		t.Error("there is no program to start nodes with")
	}
	cfg.Program = ""
	want := drill.Config{Nodes: 5, Rounds: 7, Clients: 4, Duration: time.Minute, Seed: 9, Keep: true, Namespaces: true}
	if fmt.Sprint(cfg) != fmt.Sprint(want) || strings.Join(names, " ") != "kill-all kill-primary" {
		t.Errorf("%+v of %v, want %+v", cfg, names, want)
	}

	cfg, names, err = parseDrill(t, "--target a:1,b:2 all --stop-command down --start-command up --yes")
	if err != nil || cfg.Target == nil {
		t.Fatalf("target %v, %v", cfg.Target, err)
	}
	if got := cfg.Target; strings.Join(got.Addresses, " ") != "a:1 b:2" || got.StopCommand != "down" || got.StartCommand != "up" {
		t.Errorf("target %+v", got)
	}
	if strings.Join(names, " ") != "switchover-storm restart-standby" {
		t.Errorf("on a running cluster: %v", names)
	}
}

// What makes no sense is refused, and nothing that was said is ignored.
func TestDrillConfigRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                                      "which drill?",
		"kill-everybody":                        `no drill "kill-everybody"`,
		"kill-all --bogus":                      "not defined: -bogus",
		"kill-all --bogus=3 --rounds 1":         "not defined: -bogus",
		"kill-all --nodes 2":                    "want 3 to 7",
		"kill-all --nodes 8":                    "want 3 to 7",
		"kill-all --nodes three":                "invalid value",
		"kill-all --rounds 0":                   "want one at least",
		"kill-all --clients 2":                  "want 3 to 1000",
		"kill-all --clients 1001":               "want 3 to 1000",
		"kill-all --duration -1s":               "cannot be negative",
		"kill-all --network veth":               "want faults or namespaces",
		"kill-all --network":                    "flag needs an argument: -network",
		"all --target a:1 --network namespaces": "--network is about",
		"kill-all --yes":                        "--target",
		"kill-all --stop-command x":             "--target",
		"kill-all --start-command x":            "--target",
		"all --target a:1 --stop-command x":     "belong together",
		"all --target a:1 --start-command x":    "belong together",
		"all --target a:1 --nodes 5":            "--nodes is about",
		"all --target a:1 --keep":               "--keep is about",
		"kill-all --target a:1":                 "drill kill-all breaks things",
		"switchover-storm kill-all --target=a:": "drill kill-all breaks things",
	} {
		_, _, err := parseDrill(t, line)
		if err == nil || !strings.Contains(err.Error(), want) || report(io.Discard, err) != exitUsage {
			t.Errorf("drill run %s: %v, want a usage error with %q", line, err, want)
		}
	}
}

// The list fits a terminal, and JSON is one object for each drill.
func TestDrillList(t *testing.T) {
	var out strings.Builder
	if code := run([]string{"longship", "drill", "list"}, &out, io.Discard); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(line)); n > 121 {
			t.Errorf("a line of %d: %s", n, line)
		}
	}
	for _, d := range drill.All() {
		if !strings.Contains(out.String(), "\n"+d.Name+"\n    breaks  ") && !strings.HasPrefix(out.String(), d.Name+"\n    breaks  ") {
			t.Errorf("%s is not in the list", d.Name)
		}
	}
}

// Help is help, whatever stands before it.
func TestDrillHelp(t *testing.T) {
	var out strings.Builder
	if code := run([]string{"longship", "drill", "run", "kill-all", "--help"}, &out, io.Discard); code != 0 || !strings.Contains(out.String(), "--rounds") {
		t.Errorf("exit code %d, printed %s", code, &out)
	}
}

func TestAbandoned(t *testing.T) {
	if got := strings.Join(abandoned([]string{"a", "b"}), "|"); !strings.HasSuffix(got, "left behind:|  a|  b") {
		t.Errorf("abandoned() = %s", got)
	}
	if got := abandoned(nil); len(got) != 1 || !strings.Contains(got[0], "nothing is left") {
		t.Errorf("abandoned() of nothing = %s", got)
	}
}
