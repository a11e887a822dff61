package longship_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/longship-db/longship"

// layers are the packages from the bottom up: each may import those before it and no other of ours.
var layers = []string{
	"internal", "wal", "kv", "syncrep", "slots", "pgwire", "sql", "walsender", "walreceiver", "startup",
	"raftlog", "gossip", "election", "node", "simulation", "drill", "cmd", "integration",
}

type goPackage struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-pgo=off", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// layer is the place of a package in layers; ok is false if the package is not ours.
func layer(t *testing.T, path string) (n int, ok bool) {
	t.Helper()
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return 0, false
	}
	top, _, _ := strings.Cut(rest, "/")
	n = slices.Index(layers, top)
	if n < 0 {
		t.Errorf("package %s is in no layer", path)
	}
	return n, true
}

// Imports point one way, tests included.
func TestImportDirection(t *testing.T) {
	for _, p := range listPackages(t) {
		mine, ok := layer(t, p.ImportPath)
		if !ok {
			continue
		}
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			theirs, ok := layer(t, imported)
			sameTop := ok && theirs == mine
			if ok && theirs >= mine && !(sameTop && (imported == p.ImportPath || mine == slices.Index(layers, "cmd"))) {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, imported)
			}
		}
	}
}

// Every package has one package comment.
func TestPackageComments(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		var with []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, name)
			}
		}
		if len(with) != 1 {
			t.Errorf("package %s has %d package comments %v, want 1", p.ImportPath, len(with), with)
		}
	}
}
