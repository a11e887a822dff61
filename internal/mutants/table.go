package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// docs is the page with the table, between these two lines.
const (
	docs       = "docs/testing.md"
	tableBegin = "<!-- mutants: go run ./internal/mutants -table -write -->"
	tableEnd   = "<!-- end of mutants -->"
)

// Table says which test kills which mutant, as Markdown.
func Table(mutants []Mutant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d mutants; those with * are run by `make test`.\n\n", len(mutants))
	b.WriteString("| Mutant | What is taken away | In | Killed by |\n|---|---|---|---|\n")
	for _, m := range mutants {
		star := ""
		if m.Fast {
			star = " *"
		}
		pkg := strings.TrimPrefix(m.Package, "./")
		fmt.Fprintf(&b, "| %s%s | %s | `%s` | %s `%s` |\n", m.Name, star, m.Rule, m.File, pkg, strings.ReplaceAll(m.Test, "|", "\\|"))
	}
	return b.String()
}

// splice returns the page with the table in its place, and whether it was there as it is.
func splice(page []byte, table string) (spliced []byte, same bool, err error) {
	before, rest, ok := bytes.Cut(page, []byte(tableBegin+"\n"))
	_, after, closed := bytes.Cut(rest, []byte(tableEnd))
	if !ok || !closed {
		return nil, false, fmt.Errorf("%s has no lines %q and %q", docs, tableBegin, tableEnd)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(tableBegin + "\n" + table + tableEnd)
	b.Write(after)
	return b.Bytes(), bytes.Equal(b.Bytes(), page), nil
}

// writeTable brings the page up to date.
func writeTable(root string, mutants []Mutant) error {
	path := filepath.Join(root, docs)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	spliced, _, err := splice(page, Table(mutants))
	if err != nil {
		return err
	}
	return os.WriteFile(path, spliced, 0o644)
}
