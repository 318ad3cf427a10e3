// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
)

// TestDocumentedExamplesWork runs the examples of docs/resource-state.md: blocks marked "yaml file"
// or "yaml metric" against the object of the block "yaml object" give what the next text block says.
func TestDocumentedExamplesWork(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../docs/resource-state.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var (
		kind, heading, body string
		object              []resource.Object
		specs               []*spec.Spec
		examples            int
	)
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && kind == "":
			kind, body = strings.TrimSpace(fence)+" ", ""
		case !isFence && kind != "":
			body += line + "\n"
		case !isFence:
			if strings.HasPrefix(line, "#") {
				heading = line
			}
		default:
			switch kind {
			case "yaml object ":
				object = objects(t, []byte(body))
			case "yaml file ":
				specs = parse(t, body, spec.Choices{})
			case "yaml metric ":
				specs = parse(t, wrap(body), spec.Choices{})
			case "text ":
				examples++
				if diff := cmp.Diff(plain(body), plain(exposition(t, specs, object))); diff != "" {
					t.Errorf("%s: -documented +real:\n%s", heading, diff)
				}
			}
			kind = ""
		}
	}
	if examples < 12 {
		t.Errorf("only %d examples found", examples)
	}
}

// wrap makes a file of metrics.
func wrap(metrics string) string {
	return "naming: legacy\nspec:\n  resources:\n    - groupVersionKind: {group: myteam.io, version: v1, kind: Foo}\n" +
		"      metricNamePrefix: foo\n      metrics:\n        " + strings.ReplaceAll(metrics, "\n", "\n        ") + "\n"
}

// plain gives the lines of series, sorted.
func plain(text string) []string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool {
		return l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, "!")
	})
	slices.Sort(lines)
	return lines
}

// TestOwnSeriesAreDocumented compares the registry with the table of the document.
func TestOwnSeriesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/resource-state.md")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	e := newEngine(t, reg, parse(t, wrap(`
- {name: bad, each: {type: Gauge, gauge: {path: [metadata, name]}}}
- {name: twice, each: {type: Gauge, gauge: {path: [status, l]}}}`), spec.Choices{}), nil)
	e.Handle(t.Context(), applied(foo("a", map[string]any{"l": []any{int64(1), int64(1)}}), day))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(doc), "`"+f.GetName()) {
			t.Errorf("%s is not documented", f.GetName())
		}
	}
	if len(families) < 12 {
		t.Errorf("only %d series", len(families))
	}
}
