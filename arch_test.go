// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package periplus_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/periplus-io/periplus"

// goPackage is the part of `go list -json` that the rules look at.
type goPackage struct {
	ImportPath, Dir, Doc string
	Imports              []string
	GoFiles              []string
	TestGoFiles          []string
	XTestGoFiles         []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles,TestGoFiles,XTestGoFiles", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("got %d packages: the rules would see nothing", len(all))
	}
	return all
}

// room gives the room (or floor, or vocabulary) that a package of internal belongs to, "" for others.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// shared may be imported by every room: the vocabularies and the floor.
var shared = []string{"resource", "wire", "learning", "ops", "durable"}

func TestRoomsDoNotImportRooms(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		for _, imported := range p.Imports {
			if strings.HasPrefix(p.ImportPath, module+"/cmd/") && room(imported) == "learnapi" && imported != module+"/internal/learnapi/client" {
				t.Errorf("%s imports %s: a command asks by HTTP", p.ImportPath, imported)
			}
			to := room(imported)
			switch {
			case to == "" || to == from || slices.Contains(shared, to):
			case from == "app": // the roles join the rooms
			case from == "" && (to == "app" || strings.HasPrefix(p.ImportPath, module+"/test/") || strings.HasPrefix(p.ImportPath, module+"/bench/")):
			case from == "" && slices.Contains(allowedFromCommands, to):
			default:
				t.Errorf("%s imports %s: rooms meet only in internal/app", p.ImportPath, imported)
			}
		}
	}
}

// allowedFromCommands are client-side packages that a command uses without a role.
var allowedFromCommands = []string{"learnapi", "state", "timeline"}

// edge is an import rule: which packages may import what begins with the prefix.
type edge struct {
	prefix string
	by     []string
	reason string
}

func edges() []edge {
	const prom = "github.com/prometheus/prometheus/"
	engine := []string{"app", "config", "discover", "metricdb", "promapi", "receive", "rule", "scrape"}
	return []edge{
		{prom + "tsdb", engine, "the engine's API moves: few places to mend"},
		{prom + "promql", engine, "the engine's API moves: few places to mend"},
		{prom + "storage", engine, "the engine's API moves: few places to mend"},
		{prom + "scrape", engine, "the engine's API moves: few places to mend"},
		{prom + "rules", engine, "the engine's API moves: few places to mend"},
		{prom + "notifier", engine, "the engine's API moves: few places to mend"},
		{prom + "web", engine, "the engine's API moves: few places to mend"},
		{prom + "discovery", engine, "the engine's API moves: few places to mend"},
		{prom + "config", engine, "the engine's API moves: few places to mend"},
		{prom + "discovery/install", nil, "it pulls in every cloud's client"},
		{"k8s.io/client-go", []string{"watch", "manage"}, "only watch and manage talk to the API server"},
		{module + "/internal/testkit", nil, "it is for tests only"},
	}
}

func TestImportsStayWhereTheyBelong(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		if from == "" {
			continue
		}
		for _, imported := range p.Imports {
			for _, e := range edges() {
				if (imported == e.prefix || strings.HasPrefix(imported, strings.TrimSuffix(e.prefix, "/")+"/")) && !slices.Contains(e.by, from) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imported, e.reason)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// The budgets of a file, a function and a package, in lines. Tests get twice as much.
const (
	maxFile    = 600
	maxFunc    = 80
	maxRole    = 200
	maxPackage = 3000
)

func TestBudgets(t *testing.T) {
	for _, p := range packages(t) {
		total := 0
		for _, f := range p.GoFiles {
			total += checkFile(t, filepath.Join(p.Dir, f), 1, funcBudget(p))
		}
		if total > maxPackage {
			t.Errorf("%s has %d lines, budget %d", p.ImportPath, total, maxPackage)
		}
		for _, f := range append(p.TestGoFiles, p.XTestGoFiles...) {
			checkFile(t, filepath.Join(p.Dir, f), 2, 2*maxFunc)
		}
	}
}

func funcBudget(p goPackage) int {
	if room(p.ImportPath) == "app" {
		return maxRole
	}
	return maxFunc
}

// checkFile holds a file to its budgets and gives its number of lines.
func checkFile(t *testing.T, path string, factor, perFunc int) int {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	lines := fset.File(f.Pos()).LineCount()
	if lines > factor*maxFile {
		t.Errorf("%s has %d lines, budget %d", path, lines, factor*maxFile)
	}
	if len(f.Comments) == 0 || !strings.Contains(f.Comments[0].Text(), "SPDX-License-Identifier: Apache-2.0") {
		t.Errorf("%s does not begin with the licence header", path)
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > perFunc {
			t.Errorf("%s: %s has %d lines, budget %d", path, fn.Name.Name, n, perFunc)
		}
	}
	return lines
}

func TestArchitectureNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)`").FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
	}
	dirs, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && !named[d.Name()] {
			t.Errorf("internal/%s is not in ARCHITECTURE.md's table", d.Name())
		}
		delete(named, d.Name())
	}
	for name := range named {
		t.Errorf("ARCHITECTURE.md names %s, which does not exist", name)
	}
}

// TestLinksInDocsLead checks relative links in the project's Markdown files.
func TestLinksInDocsLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "node_modules", "bin", "data", ".run", "testdata"}, d.Name()) {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			seen++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Error("found no link at all")
	}
}

// TestNothingNamesAMachine keeps paths and hosts of a build machine out of what is committed.
func TestNothingNamesAMachine(t *testing.T) {
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := regexp.MustCompile(`/(work|root)/(main|go|shared)\b|\.internal\.[a-z]+\.`)
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		if path == "arch_test.go" || strings.HasSuffix(path, ".sum") {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue // removed in the work tree, not yet in the index
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<24)
		for n := 1; s.Scan(); n++ {
			if m := forbidden.Find(s.Bytes()); m != nil {
				t.Error(fmt.Sprintf("%s:%d", path, n), "names a machine:", string(m))
			}
		}
		_ = f.Close()
	}
}
