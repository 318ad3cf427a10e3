// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/units"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/periplus-io/periplus/internal/watch"
)

func TestConfigReadsAsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "kubernetes.md"))
	must(t, err)
	_, example, ok := strings.Cut(string(text), "```yaml\n")
	if !ok {
		t.Fatal("no example in the document")
	}
	example, _, _ = strings.Cut(example, "```")
	file := struct{ Kubernetes watch.Config }{watch.DefaultConfig()}
	d := yaml.NewDecoder(strings.NewReader(example))
	d.KnownFields(true)
	must(t, d.Decode(&file))
	must(t, file.Kubernetes.Validate())
	want := watch.Config{
		Kubeconfig: "/etc/periplus/kubeconfig", Context: "edge-site", Namespaces: []string{"learning", "vision"},
		Selectors: map[string]string{"Pod": "!periplus.io/ignore"}, Manifests: []string{"/etc/periplus/objects"},
		KeepEnvironment: []string{"MOMENTUM"}, MaxObjectSize: 16 * units.MiB, MaxFileSize: 64 * units.MiB,
	}
	if diff := cmp.Diff(want, file.Kubernetes); diff != "" {
		t.Error(diff)
	}
}

func TestConfigFaults(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(garbage, []byte("clusters: 7"), 0o600))
	for name, change := range map[string]func(*watch.Config){
		"exclude each other":    func(c *watch.Config) { c.Kubeconfig, c.InCluster = "a", true },
		"context needs":         func(c *watch.Config) { c.Context = "a" },
		"selector of Pod":       func(c *watch.Config) { c.Selectors = map[string]string{"Pod": "a in b"} },
		"max_object_size":       func(c *watch.Config) { c.MaxObjectSize = 1 },
		"max_file_size":         func(c *watch.Config) { c.MaxFileSize = units.MiB },
		"namespaces":            func(c *watch.Config) { c.Namespaces = []string{""} },
		"manifests":             func(c *watch.Config) { c.Manifests = []string{""} },
		"not a folder":          func(c *watch.Config) { c.Manifests = []string{garbage} },
		"kubeconfig: ":          func(c *watch.Config) { c.Kubeconfig = garbage },
		"no such file":          func(c *watch.Config) { c.Kubeconfig = garbage + "x" },
		"context \"none\" does": func(c *watch.Config) { c.Kubeconfig, c.Context = emptyKubeconfig(t), "none" },
	} {
		c := watch.DefaultConfig()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got error %v, want one with %q", err, name)
		}
	}
}

func emptyKubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(path, []byte("{apiVersion: v1, kind: Config}"), 0o600))
	return path
}
