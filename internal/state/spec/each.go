// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// block gives the key of a type's block and the type, for a type in any case.
func block(name string) (key string, typ Type, ok bool) {
	switch strings.ToLower(name) {
	case "gauge":
		return "gauge", Gauge, true
	case "stateset":
		return "stateSet", StateSet, true
	case "info":
		return "info", Info, true
	case "count":
		return "count", Count, true
	}
	return "", 0, false
}

// each takes what a metric is made of, in the current form (a type and its block) or the old one.
func (p *parser) each(n *yaml.Node, m *definition) {
	given := map[string]*yaml.Node{}
	p.pairs(n, "each", func(key, value *yaml.Node) { given[key.Value] = value })
	kind, typed := given["type"]
	for key := range given {
		if _, _, ok := block(key); ok && !typed {
			p.fail(n, "each has %s but no type", key)
			return
		}
	}
	if !typed {
		p.oldEach(n, m)
		return
	}
	name, typ, ok := block(kind.Value)
	if !ok {
		p.fail(kind, "type is %q, want Gauge, StateSet, Info or Count", kind.Value)
		return
	}
	m.Type = typ
	if m.naming == "" {
		m.naming = Current
	}
	body, ok := given[name]
	if !ok && m.Type != Count {
		p.fail(n, "type is %s but there is no %s", m.Type, name)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if key != "type" && key != name {
			p.fail(given[key], "unknown key %q in each of type %s; known are %s, type", key, m.Type, name)
		}
	}
	if body != nil && !null(body) {
		p.block(body, name, m)
	}
	if m.Type == StateSet && (m.LabelName == "" || len(m.list) == 0) {
		p.fail(n, "a stateSet needs labelName and list")
	}
}

func (p *parser) block(n *yaml.Node, what string, m *definition) {
	known := p.blockKeys(m)
	known["valueFrom"] = func(n *yaml.Node) { m.value = p.straight(n, "valueFrom") }
	known["nilIsZero"] = func(n *yaml.Node) { m.nilIsZero = p.boolean(n, "nilIsZero") }
	switch m.Type {
	case Info, Count:
		delete(known, "valueFrom")
		delete(known, "nilIsZero")
	case StateSet:
		delete(known, "nilIsZero")
		delete(known, "labelFromKey")
		known["labelName"] = func(n *yaml.Node) { m.LabelName = p.label(n, "labelName") }
		known["ignoreCase"] = func(n *yaml.Node) { m.ignoreCase = p.boolean(n, "ignoreCase") }
		known["list"] = func(n *yaml.Node) { m.list = p.states(n) }
	case Gauge:
		known["exists"] = func(n *yaml.Node) { m.exists = p.boolean(n, "exists") }
	}
	p.fields(n, what, known)
	if m.exists && m.value.empty() {
		p.fail(n, "exists needs valueFrom")
	}
}

func (p *parser) blockKeys(m *definition) map[string]func(*yaml.Node) {
	return map[string]func(*yaml.Node){
		"path":           func(n *yaml.Node) { m.path = p.path(n, "path") },
		"labelFromKey":   func(n *yaml.Node) { m.labelFromKey = p.label(n, "labelFromKey") },
		"labelsFromPath": func(n *yaml.Node) { m.each = newLabelSet(p.labelPaths(n)) },
	}
}

// oldEach takes the form that was in use before metrics had types.
func (p *parser) oldEach(n *yaml.Node, m *definition) {
	m.Type = Gauge
	if m.naming == "" {
		m.naming = Legacy
	}
	known := p.blockKeys(m)
	known["value"] = func(n *yaml.Node) { m.value = p.straight(n, "value") }
	known["nilIsZero"] = func(n *yaml.Node) { m.nilIsZero = p.boolean(n, "nilIsZero") }
	p.fields(n, "each", known)
}

func (p *parser) label(n *yaml.Node, what string) string {
	w := cleanName(p.word(n, what))
	if w != "" && !validLabel(w) {
		p.fail(n, "%s: %q cannot be a label", what, w)
	}
	return w
}

func (p *parser) states(n *yaml.Node) []string {
	list := p.words(n, "list")
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s] {
			p.fail(n, "state %q twice in list", s)
		}
		seen[s] = true
	}
	return list
}

// extended says whether the metric uses what kube-state-metrics does not have in a path. Then its
// author means the elements the path names, not their entries as well.
func (m *Metric) extended() bool {
	extended := m.path.cel != nil || m.path.spreads()
	m.each.each(func(p *Path) { extended = extended || p.cel != nil })
	return extended
}

// dependsOnConditions says whether any path of the metric goes through status.conditions, and
// whether all that do look only at its end.
func (m *Metric) dependsOnConditions() (depends, newest bool) {
	newest = true
	look := func(p *Path) {
		if p.cel != nil {
			if strings.Contains(p.cel.source, "conditions") {
				depends, newest = true, false
			}
			return
		}
		if len(p.words) < 2 || p.words[0] != "status" || p.words[1] != "conditions" {
			return
		}
		depends = true
		if len(p.steps) < 3 || p.steps[2].op != opField && p.steps[2].op != opFilter || p.steps[2].index >= 0 {
			newest = false
		}
	}
	look(&m.path)
	m.base.each(look)
	if m.path.empty() {
		look(&m.value)
		m.each.each(look)
	}
	return depends, depends && newest
}
