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
	"sync"
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
	atOnce := flag.Int("j", 2, "try this many at a time")
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
	return hunt(root, chosen, max(1, *atOnce), *verbose)
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	return filepath.Dir(strings.TrimSpace(string(out))), err
}

// hunt tries the mutants, so many at a time. The error says that one of them lives.
func hunt(root string, mutants []Mutant, atOnce int, verbose bool) error {
	begin := time.Now()
	base, err := NewBaseline(root, mutants)
	if err != nil {
		return err
	}
	fmt.Printf("without a mutant the tests of %d packages ran, in %v\n", len(base), time.Since(begin).Round(time.Second))
	alive := 0
	for r := range tryAll(root, mutants, base, atOnce) {
		if r.err != nil || !r.Killed() {
			alive++
		}
		r.print(verbose)
	}
	fmt.Printf("%d mutants, %d killed, in %v\n", len(mutants), len(mutants)-alive, time.Since(begin).Round(time.Second))
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants were not killed", alive, len(mutants))
	}
	return nil
}

// A trial is what came of a mutant.
type trial struct {
	Mutant
	Result
	err error
}

// tryAll runs the mutants, so many at a time, and hands over what came of each.
func tryAll(root string, mutants []Mutant, base Baseline, atOnce int) <-chan trial {
	next, done := make(chan Mutant), make(chan trial)
	go func() {
		defer close(next)
		for _, m := range mutants {
			next <- m
		}
	}()
	go func() {
		defer close(done)
		var workers sync.WaitGroup
		for range atOnce {
			workers.Go(func() {
				for m := range next {
					r, err := m.Run(root, base)
					done <- trial{m, r, err}
				}
			})
		}
		workers.Wait()
	}()
	return done
}

func (t trial) print(verbose bool) {
	took := t.Took.Round(100 * time.Millisecond)
	switch {
	case t.err != nil:
		fmt.Printf("NOT TRIED %-40s %v\n", t.Name, t.err)
	case t.Killed():
		fmt.Printf("killed    %-40s %6v  by %s\n", t.Name, took, strings.Join(t.Failed, ", "))
	case t.Why != "":
		fmt.Printf("NOT TRIED %-40s %6v  %s\n%s", t.Name, took, t.Why, t.Output)
	default:
		fmt.Printf("SURVIVED  %-40s %6v  %s of %s passed\n", t.Name, took, cmp.Or(t.Test, "all"), t.Package)
	}
	if verbose {
		fmt.Print(t.Output)
	}
}
