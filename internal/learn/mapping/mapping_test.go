// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package mapping_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/resource"
)

func TestPaths(t *testing.T) {
	root := map[string]any{
		"a": map[string]any{"b": []any{
			map[string]any{"name": "x", "v": int64(1)}, map[string]any{"name": "y", "v": "2.5"}, map[string]any{"name": "y", "v": true},
		}},
		"dotted.key/x": map[string]any{"z": "deep"},
	}
	for path, want := range map[string]string{
		"a.b[0].v": "1", "a.b[-1].v": "true", "a.b[name=y].v": "2.5", "a.b[*].name": "x", `["dotted.key/x"].z`: "deep",
		"a.b[9].v": "", "a.b[name=z].v": "", "a.c.d": "", "a.b.c": "", "a": "",
	} {
		p, err := mapping.ParsePath(path)
		if err != nil {
			t.Error(err)
		}
		if got := p.Text(root); got != want {
			t.Errorf("%s gives %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{"a..b", "a.", ".a", "a[", "a[]", "a[x]", `a["x]`} {
		if _, err := mapping.ParsePath(path); err == nil {
			t.Errorf("%s is no path", path)
		}
	}
}

func TestFaultsNameTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"kind: K\n": "version is missing",
		"version: v1\nkind: K\nplural: ks\nrole: king\n":                                                                            "role",
		"version: v1\nkind: K\nplural: ks\nrole: job\n":                                                                             "conditions.path",
		"version: v1\nkind: K\nplural: ks\nrole: job\nspan: 1\n":                                                                    "line 5",
		"version: v1\nkind: K\nplural: ks\nrole: node\ngauges: {learning_made_up: a}\n":                                             "learning_made_up",
		"version: v1\nkind: K\nplural: ks\nrole: node\nrounds: {number: '(a)(b)'}\n":                                                "exactly one group",
		"version: v1\nkind: K\nplural: ks\nrole: job\nconditions: {path: a, type: t, in_stage: Sleep, times: [x]}\n":                "Sleep",
		"version: v1\nkind: K\nplural: ks\nrole: job\nconditions: {path: a., type: t, in_stage: Train, times: [x]}\n":               "ends in a dot",
		"version: v1\nkind: K\nplural: ks\nrole: job\nconditions: {path: a, type: t, in_stage: Train, times: [x], types: {a: b}}\n": "condition",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := mapping.Load(dir)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "bad.yaml") {
			t.Errorf("%q gives %v, want %q", text, err, want)
		}
	}
}

func TestAFolderReplacesAndAddsKinds(t *testing.T) {
	dir := t.TempDir()
	text := "group: sedna.io\nversion: v1beta1\nkind: Dataset\nplural: datasets\nrole: dataset\n"
	if err := os.WriteFile(filepath.Join(dir, "d.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	other := "group: example.org\nversion: v1\nkind: SwarmJob\nplural: swarmjobs\nrole: job\nconditions: {path: status.steps, type: type, in_stage: Train, times: [at]}\n"
	if err := os.WriteFile(filepath.Join(dir, "s.yaml"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := mapping.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m := set.Find(resource.Kind{Group: "sedna.io", Kind: "Dataset"}); m.Version != "v1beta1" {
		t.Errorf("version %s", m.Version)
	}
	if set.Find(resource.Kind{Group: "example.org", Kind: "SwarmJob"}) == nil || len(set.Jobs()) != 5 {
		t.Errorf("%d kinds of jobs", len(set.Jobs()))
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a.b[0]", `["x.y"].z`, "a[k=v][*]"} {
		f.Add(s)
	}
	root := map[string]any{"a": []any{map[string]any{"b": "c"}}}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := mapping.ParsePath(s)
		if err == nil && p.String() != s {
			t.Errorf("%q became %q", s, p)
		}
		p.Text(root)
	})
}
