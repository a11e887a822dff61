package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run() error {
	match := flag.String("run", "", "only mutants whose name, rule or file matches this `regexp`")
	fast := flag.Bool("fast", false, "only those that make test runs")
	find := flag.Bool("find", false, "run all tests of the patched package, and say which notice the mutant")
	by := flag.String("by", "", "let this `package and test` try instead: './election TestCore'")
	table := flag.Bool("table", false, "print the table of "+docs)
	write := flag.Bool("write", false, "with -table: write it there instead")
	verbose := flag.Bool("v", false, "show what the tests print")
	flag.Parse()
	mutants, err := Parse(list)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	switch {
	case *table && *write:
		return writeTable(root, mutants)
	case *table:
		fmt.Print(Table(mutants))
		return nil
	}
	wanted, err := regexp.Compile(*match)
	if err != nil {
		return err
	}
	var chosen []Mutant
	for _, m := range mutants {
		if wanted.MatchString(m.Name+"\n"+m.Rule+"\n"+m.File) && (m.Fast || !*fast) {
			chosen = append(chosen, m)
		}
	}
	for i := range chosen {
		switch m := &chosen[i]; {
		case *find:
			m.Package, m.Test = "./"+filepath.ToSlash(filepath.Dir(m.File)), ""
		case *by != "":
			m.Package, m.Test, _ = strings.Cut(*by, " ")
		}
	}
	return hunt(root, chosen, *verbose)
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
}

// hunt tries the mutants one after the other. The error says that one of them lives.
func hunt(root string, mutants []Mutant, verbose bool) error {
	begin, alive := time.Now(), 0
	for _, m := range mutants {
		r, err := m.Run(root)
		if err != nil {
			return err
		}
		took := r.Took.Round(100 * time.Millisecond)
		switch {
		case r.Killed():
			fmt.Printf("killed    %-40s %6v  by %s\n", m.Name, took, strings.Join(r.Failed, ", "))
		case r.Why != "":
			alive++
			fmt.Printf("NOT TRIED %-40s %6v  %s\n%s", m.Name, took, r.Why, r.Output)
		default:
			alive++
			fmt.Printf("SURVIVED  %-40s %6v  %s of %s passed\n", m.Name, took, cmp.Or(m.Test, "all"), m.Package)
		}
		if verbose {
			fmt.Print(r.Output)
		}
	}
	fmt.Printf("%d mutants, %d killed, in %v\n", len(mutants), len(mutants)-alive, time.Since(begin).Round(time.Second))
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants were not killed", alive, len(mutants))
	}
	return nil
}
