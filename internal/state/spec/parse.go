// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Choices are what is said about a file from outside. They win over what the file says.
type Choices struct {
	// Naming is empty to let the file decide.
	Naming Naming
	// History asks for the past of the objects of every resource in the file.
	History bool
	// Limit caps the series of metrics that have no limit of their own; 0 leaves that open.
	Limit int
}

// Parse reads a file. The error joins one error for each fault, each with file and line.
func Parse(file string, data []byte, o Choices) (*Spec, error) {
	p := &parser{decoder: decoder{file: file}, choices: o, spec: &Spec{File: file}}
	docs := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := docs.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("yaml: nothing there")
		}
		return nil, p.syntax(err)
	}
	if err := docs.Decode(&second); err == nil {
		p.fail(&second, "a second document; a file holds one")
	} else if !errors.Is(err, io.EOF) {
		return nil, p.syntax(err)
	}
	p.top(root.Content[0])
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.spec, nil
}

// parser builds the specification while the decoder walks the file.
type parser struct {
	decoder
	choices Choices
	naming  Naming
	spec    *Spec
}

func (p *parser) top(n *yaml.Node) {
	n = p.resolve(n)
	var resources *yaml.Node
	ignore := func(*yaml.Node) {}
	p.fields(n, "the file", map[string]func(*yaml.Node){
		"apiVersion": ignore,
		"metadata":   ignore,
		"kind": func(n *yaml.Node) {
			if n.Value != "CustomResourceStateMetrics" {
				p.fail(n, "kind is %q, want CustomResourceStateMetrics", n.Value)
			}
		},
		"naming": func(n *yaml.Node) {
			if p.naming = Naming(n.Value); p.naming != Legacy && p.naming != Current {
				p.fail(n, "naming is %q, want legacy or current", n.Value)
			}
		},
		"spec": func(n *yaml.Node) {
			p.fields(n, "spec", map[string]func(*yaml.Node){"resources": func(n *yaml.Node) { resources = n }})
		},
	})
	if p.choices.Naming != "" {
		p.naming = p.choices.Naming
	}
	if resources == nil {
		if len(p.errs) == 0 {
			p.fail(n, "no spec.resources")
		}
		return
	}
	p.items(resources, "resources", p.resource)
}

// shared is what a resource and a metric may both say.
type shared struct {
	common   map[string]string
	paths    map[string]Path
	quiet    bool
	limit    int
	selector selector
}

func (p *parser) sharedKeys(s *shared) map[string]func(*yaml.Node) {
	return map[string]func(*yaml.Node){
		"commonLabels":   func(n *yaml.Node) { s.common = p.constants(n) },
		"labelsFromPath": func(n *yaml.Node) { s.paths = p.labelPaths(n) },
		"errorLogV":      func(n *yaml.Node) { s.quiet = p.number(n, "errorLogV", 0) > 0 },
		"limit":          func(n *yaml.Node) { s.limit = p.number(n, "limit", 1) },
		"selector":       func(n *yaml.Node) { s.selector = p.selector(n) },
	}
}

func (p *parser) resource(n *yaml.Node) {
	r := &Resource{History: p.choices.History}
	var s shared
	var metrics *yaml.Node
	gvk := false
	keys := p.sharedKeys(&s)
	maps.Copy(keys, map[string]func(*yaml.Node){
		"groupVersionKind": func(n *yaml.Node) { gvk = true; p.kind(n, r) },
		"metricNamePrefix": func(n *yaml.Node) { prefix := p.word(n, "metricNamePrefix"); r.prefix = &prefix },
		"resourcePlural":   func(n *yaml.Node) { r.Plural = p.word(n, "resourcePlural") },
		"namespace":        func(n *yaml.Node) { r.namespace = p.word(n, "namespace") },
		"subsystem":        func(n *yaml.Node) { r.system = p.word(n, "subsystem") },
		"history":          func(n *yaml.Node) { r.History = p.boolean(n, "history") || r.History },
		"metrics":          func(n *yaml.Node) { metrics = n },
	})
	p.fields(n, "a resource", keys)
	r.selector = s.selector
	if !gvk {
		p.fail(n, "a resource without groupVersionKind")
	}
	if metrics == nil {
		p.fail(n, "a resource without metrics")
		return
	}
	if s.limit == 0 {
		s.limit = p.choices.Limit
	}
	p.items(metrics, "metrics", func(n *yaml.Node) { p.metric(n, r, &s) })
	r.Print = p.print(n, r)
	p.spec.Resources = append(p.spec.Resources, r)
}

// print identifies what the resource says by its text and what was said from outside.
func (p *parser) print(n *yaml.Node, r *Resource) string {
	if p.broken {
		return ""
	}
	out, err := yaml.Marshal(n)
	if err != nil {
		p.fail(n, "%w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(out, "\n%s %v %d", p.naming, r.History, p.choices.Limit))
	return hex.EncodeToString(sum[:12])
}

func (p *parser) kind(n *yaml.Node, r *Resource) {
	p.fields(n, "groupVersionKind", map[string]func(*yaml.Node){
		"group":   func(n *yaml.Node) { r.Group = p.word(n, "group") },
		"version": func(n *yaml.Node) { r.Version = p.word(n, "version") },
		"kind":    func(n *yaml.Node) { r.Kind = p.word(n, "kind") },
	})
	if r.Version == "" {
		p.fail(n, "groupVersionKind without version")
	}
	if r.Kind == "" {
		p.fail(n, "groupVersionKind without kind")
	}
	if r.Group == "*" {
		p.fail(n, "the group cannot be a wildcard")
	}
}

// selector takes a label selector, or {label: …, field: …}.
func (p *parser) selector(n *yaml.Node) selector {
	var s selector
	label := func(n *yaml.Node) {
		parsed, err := labels.Parse(p.word(n, "label selector"))
		if err != nil {
			p.fail(n, "label selector: %w", err)
			return
		}
		s.label = parsed
	}
	if n.Kind == yaml.ScalarNode {
		label(n)
		return s
	}
	p.fields(n, "selector", map[string]func(*yaml.Node){
		"label": label,
		"field": func(n *yaml.Node) {
			parsed, err := fields.ParseSelector(p.word(n, "field selector"))
			if err != nil {
				p.fail(n, "field selector: %w", err)
				return
			}
			s.field = parsed
		},
	})
	return s
}

func (p *parser) metric(n *yaml.Node, r *Resource, above *shared) {
	if n.Kind != yaml.MappingNode {
		p.fail(n, "a metric must be a mapping")
		return
	}
	m := &definition{naming: p.naming}
	var s shared
	var each *yaml.Node
	keys := p.sharedKeys(&s)
	maps.Copy(keys, map[string]func(*yaml.Node){
		"name": func(n *yaml.Node) { m.short = p.word(n, "name") },
		"help": func(n *yaml.Node) { m.Help = p.word(n, "help") },
		"each": func(n *yaml.Node) { each = n },
	})
	p.fields(n, "a metric", keys)
	if m.short == "" {
		p.fail(n, "a metric without name")
	}
	if cleanName("a"+m.short) != "a"+strings.ReplaceAll(m.short, ":", "_") {
		p.fail(n, "%q cannot be the name of a metric", m.short)
	}
	if each == nil {
		p.fail(n, "metric %q has no each", m.short)
		return
	}
	p.each(each, m)
	m.Quiet = s.quiet || above.quiet
	m.selector = s.selector
	if m.Limit = s.limit; m.Limit == 0 {
		m.Limit = above.limit
	}
	common, paths := maps.Clone(above.common), maps.Clone(above.paths)
	if m.Type == Count {
		// Labels that tell the objects apart would make a series of each.
		paths = nil
	}
	m.consts = sortedLabels(merge(common, s.common))
	m.base = newLabelSet(merge(paths, s.paths))
	m.Conditions, m.Newest = m.dependsOnConditions()
	m.entries = m.labelFromKey != "" || !m.extended()
	r.metrics = append(r.metrics, m)
}

func merge[V any](under, over map[string]V) map[string]V {
	if under == nil {
		return over
	}
	maps.Copy(under, over)
	return under
}

func sortedLabels(m map[string]string) []Label {
	var out []Label
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Label{name, m[name]})
	}
	return out
}
