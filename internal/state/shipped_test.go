// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What kube-state-metrics knows of a file, nothing more.
type (
	stockFile struct {
		Kind string `yaml:"kind"`
		Spec struct {
			Resources []stockResource `yaml:"resources"`
		} `yaml:"spec"`
	}
	stockLabels struct {
		CommonLabels   map[string]string   `yaml:"commonLabels"`
		LabelsFromPath map[string][]string `yaml:"labelsFromPath"`
	}
	stockResource struct {
		stockLabels      `yaml:",inline"`
		MetricNamePrefix *string `yaml:"metricNamePrefix"`
		GroupVersionKind struct {
			Group   string `yaml:"group"`
			Version string `yaml:"version"`
			Kind    string `yaml:"kind"`
		} `yaml:"groupVersionKind"`
		ResourcePlural string        `yaml:"resourcePlural"`
		Metrics        []stockMetric `yaml:"metrics"`
		ErrorLogV      int32         `yaml:"errorLogV"`
	}
	stockMetric struct {
		stockLabels `yaml:",inline"`
		Name        string `yaml:"name"`
		Help        string `yaml:"help"`
		ErrorLogV   int32  `yaml:"errorLogV"`
		Each        struct {
			Type     string      `yaml:"type"`
			Gauge    *stockBlock `yaml:"gauge"`
			StateSet *stockBlock `yaml:"stateSet"`
			Info     *stockBlock `yaml:"info"`
		} `yaml:"each"`
	}
	stockBlock struct {
		Path           []string            `yaml:"path"`
		LabelsFromPath map[string][]string `yaml:"labelsFromPath"`
		ValueFrom      []string            `yaml:"valueFrom"`
		LabelFromKey   string              `yaml:"labelFromKey"`
		NilIsZero      bool                `yaml:"nilIsZero"`
		LabelName      string              `yaml:"labelName"`
		List           []string            `yaml:"list"`
	}
)

// TestSednaFileIsForKubeStateMetricsToo: no key and no path step that a stock kube-state-metrics lacks.
func TestSednaFileIsForKubeStateMetricsToo(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("specs/sedna.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var f stockFile
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	step := regexp.MustCompile(`^([A-Za-z]+|-?\d+|\[[a-z]+=[A-Za-z_]+\])$`)
	check := func(where string, paths ...[]string) {
		for _, p := range paths {
			for _, s := range p {
				if !step.MatchString(s) {
					t.Errorf("%s: step %q", where, s)
				}
			}
		}
	}
	metrics := 0
	for _, r := range f.Spec.Resources {
		for _, p := range r.LabelsFromPath {
			check(r.GroupVersionKind.Kind, p)
		}
		for _, m := range r.Metrics {
			metrics++
			for _, b := range []*stockBlock{m.Each.Gauge, m.Each.StateSet, m.Each.Info} {
				if b == nil {
					continue
				}
				check(m.Name, b.Path, b.ValueFrom)
				for _, p := range b.LabelsFromPath {
					check(m.Name, p)
				}
			}
		}
	}
	if metrics < 40 {
		t.Errorf("only %d metrics", metrics)
	}
}

// TestShippedMetricsHaveHelp: nobody should have to guess.
func TestShippedMetricsHaveHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sedna", "kube"} {
		data, err := os.ReadFile("specs/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Spec struct {
				Resources []struct {
					Metrics []struct{ Name, Help string }
				}
			}
		}
		if err := yaml.Unmarshal(data, &f); err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Spec.Resources {
			for _, m := range r.Metrics {
				if !strings.HasSuffix(m.Help, ".") {
					t.Errorf("%s: %s: help %q", name, m.Name, m.Help)
				}
			}
		}
	}
}
