// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
)

var update = flag.Bool("update", false, "write the golden files")

// TestCorpus runs every file of testdata: spec.yaml and objects.yaml in, want.txt out. The lines
// are compared after sorting. want-errors.txt in place of want.txt is what parsing must say. The
// comment of a file may hold naming=legacy|current. spec.yaml may be left out for "shipped=NAME".
func TestCorpus(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			corpusFile(t, name)
		})
	}
}

func corpusFile(t *testing.T, name string) {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	part := func(name string) []byte {
		for _, f := range a.Files {
			if f.Name == name {
				return f.Data
			}
		}
		return nil
	}
	var specs []*spec.Spec
	comment := string(a.Comment)
	if _, shipped, ok := strings.Cut(comment, "shipped="); ok {
		c := state.Default()
		c.Shipped = []string{strings.Fields(shipped)[0]}
		if specs, err = c.Load(); err != nil {
			t.Fatal(err)
		}
	} else {
		var o spec.Choices
		for _, n := range []spec.Naming{spec.Legacy, spec.Current} {
			if strings.Contains(comment, "naming="+string(n)) {
				o.Naming = n
			}
		}
		s, err := spec.Parse("spec.yaml", part("spec.yaml"), o)
		if want := part("want-errors.txt"); want != nil || err != nil {
			got := ""
			if err != nil {
				got = err.Error() + "\n"
			}
			golden(t, name, a, "want-errors.txt", got)
			return
		}
		specs = []*spec.Spec{s}
	}
	golden(t, name, a, "want.txt", sorted(exposition(t, specs, objects(t, part("objects.yaml")))))
}

// golden compares got with a part of a corpus file, or writes it there.
func golden(t *testing.T, file string, a *txtar.Archive, part, got string) {
	t.Helper()
	for i := range a.Files {
		if a.Files[i].Name != part {
			continue
		}
		if !*update {
			if diff := cmp.Diff(string(a.Files[i].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			return
		}
		a.Files[i].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("no %s in %s; got:\n%s", part, file, got)
}

// exposition gives the text for objects. What was wrong is in it as the product's own counters.
func exposition(t *testing.T, specs []*spec.Spec, objects []resource.Object) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	e := newEngine(t, reg, specs, nil)
	for _, o := range objects {
		e.Handle(t.Context(), applied(o, time.Now()))
	}
	var b bytes.Buffer
	if err := e.Text(&b); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch f.GetName() {
		case "periplus_state_errors_total", "periplus_state_series_lost_total":
			for _, m := range f.GetMetric() {
				line := "! " + strings.TrimPrefix(f.GetName(), "periplus_state_")
				for _, l := range m.GetLabel() {
					line += " " + l.GetValue()
				}
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String()
}

func newEngine(t testing.TB, reg prometheus.Registerer, specs []*spec.Spec, sink state.Sink) *state.Engine {
	t.Helper()
	e, err := state.New(state.Options{
		Log: slog.New(slog.DiscardHandler), Registry: reg, Specs: specs, Sink: sink, Config: state.Default(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func applied(o resource.Object, at time.Time) resource.Event {
	return resource.Event{Type: resource.Applied, Kind: state.KindOf(o), Object: o, Received: at}
}

// objects decodes documents the way a source of events does: integers stay integers.
func objects(t testing.TB, data []byte) []resource.Object {
	t.Helper()
	var out []resource.Object
	for doc := range strings.SplitSeq(string(data), "\n---\n") {
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if o := decodeObject(t, j); len(o) > 0 {
			out = append(out, o)
		}
	}
	return out
}

// sorted sorts the lines of each metric under its head.
func sorted(text string) string {
	lines := strings.SplitAfter(text, "\n")
	start := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "#") || l == "" {
			slices.Sort(lines[start:i])
			start = i + 1
		}
	}
	return strings.Join(lines, "")
}
