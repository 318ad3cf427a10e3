// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"
)

// Bounds of a file: aliases can make a small file a very large tree.
const (
	maxNodes  = 200_000
	maxDepth  = 64
	maxFaults = 50
)

// yamlLine finds the line in the YAML library's messages, which have no other form for it.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// decoder walks the nodes of a file and collects every fault with its line.
type decoder struct {
	file   string
	errs   []error
	env    *cel.Env
	nodes  int
	broken bool // a bound was passed; further faults would be noise
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	if d.broken || len(d.errs) > maxFaults {
		return
	}
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %w", d.file, n.Line, fmt.Errorf(format, args...)))
}

// syntax turns a fault of the YAML library into ours.
func (d *decoder) syntax(err error) error {
	m := yamlLine.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
	if m == nil {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	line := m[1]
	if line == "" {
		line = "1"
	}
	return fmt.Errorf("%s:%s: %w", d.file, line, errors.New(m[2]))
}

// resolve follows aliases and counts.
func (d *decoder) resolve(n *yaml.Node) *yaml.Node {
	for range maxDepth {
		if n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	if d.nodes++; d.nodes > maxNodes && !d.broken {
		d.fail(n, "more than %d nodes", maxNodes)
		d.broken = true
	}
	return n
}

func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// fields takes a mapping apart. Unknown keys and keys given twice are faults.
func (d *decoder) fields(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	d.pairs(n, what, func(key, value *yaml.Node) {
		take, ok := known[key.Value]
		switch {
		case !ok:
			d.fail(key, "unknown key %q in %s; known are %s", key.Value, what,
				strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case !null(value):
			take(value)
		}
	})
}

// pairs visits the entries of a mapping, those merged in by << included.
func (d *decoder) pairs(n *yaml.Node, what string, visit func(key, value *yaml.Node)) {
	seen := map[string]bool{}
	d.mapping(n, what, 0, seen, visit)
}

func (d *decoder) mapping(n *yaml.Node, what string, depth int, seen map[string]bool, visit func(key, value *yaml.Node)) {
	n = d.resolve(n)
	if n.Kind != yaml.MappingNode || depth > maxDepth {
		d.fail(n, "%s must be a mapping", what)
		return
	}
	own := map[string]bool{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !d.broken; i += 2 {
		key, value := d.resolve(n.Content[i]), d.resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			d.fail(key, "a key of %s must be a word", what)
		case key.Tag == "!!merge":
			merged = append(merged, value)
		case own[key.Value]:
			d.fail(key, "key %q twice in %s", key.Value, what)
		case !seen[key.Value]:
			own[key.Value], seen[key.Value] = true, true
			visit(key, value)
		}
	}
	for _, m := range merged {
		if m.Kind == yaml.SequenceNode {
			for _, el := range m.Content {
				d.mapping(el, what, depth+1, seen, visit)
			}
			continue
		}
		d.mapping(m, what, depth+1, seen, visit)
	}
}

// items visits the elements of a list.
func (d *decoder) items(n *yaml.Node, what string, visit func(*yaml.Node)) {
	n = d.resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "%s must be a list", what)
		return
	}
	for _, el := range n.Content {
		if d.broken {
			return
		}
		visit(d.resolve(el))
	}
}

// word takes any scalar as text, as kube-state-metrics does for list indexes and versions.
func (d *decoder) word(n *yaml.Node, what string) string {
	n = d.resolve(n)
	if n.Kind != yaml.ScalarNode || null(n) {
		d.fail(n, "%s must be a text", what)
		return ""
	}
	return n.Value
}

func (d *decoder) words(n *yaml.Node, what string) []string {
	out := []string{}
	d.items(n, what, func(el *yaml.Node) { out = append(out, d.word(el, "an element of "+what)) })
	return out
}

func (d *decoder) boolean(n *yaml.Node, what string) bool {
	b, err := strconv.ParseBool(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
		d.fail(n, "%s must be true or false", what)
	}
	return b
}

func (d *decoder) number(n *yaml.Node, what string, least int) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || i < least {
		d.fail(n, "%s must be a whole number from %d", what, least)
	}
	return i
}

// path takes a list of steps, or {cel: EXPRESSION}.
func (d *decoder) path(n *yaml.Node, what string) Path {
	n = d.resolve(n)
	if n.Kind == yaml.MappingNode {
		var p Path
		d.fields(n, what, map[string]func(*yaml.Node){"cel": func(n *yaml.Node) { p = d.expression(n) }})
		if p.cel == nil && len(n.Content) == 0 {
			d.fail(n, "%s is empty", what)
		}
		return p
	}
	p, err := ParsePath(d.words(n, what))
	if err != nil {
		d.fail(n, "%s: %w", what, err)
	}
	return p
}

// straight is path for where a path may not branch.
func (d *decoder) straight(n *yaml.Node, what string) Path {
	p := d.path(n, what)
	if p.spreads() {
		d.fail(n, "%s: * may only stand in the path of a metric", what)
	}
	return p
}

func (d *decoder) expression(n *yaml.Node) Path {
	source := d.word(n, "cel")
	if d.env == nil {
		env, err := environment()
		if err != nil {
			d.fail(n, "cel: %w", err)
			return Path{}
		}
		d.env = env
	}
	prog, err := compileCEL(d.env, source)
	if err != nil {
		d.fail(n, "%w", err)
		return Path{}
	}
	return Path{cel: prog}
}

func (d *decoder) labelPaths(n *yaml.Node) map[string]Path {
	out := map[string]Path{}
	d.pairs(n, "labelsFromPath", func(key, value *yaml.Node) {
		if !validLabel(cleanName(strings.Trim(key.Value, "*"))) && strings.Trim(key.Value, "*") != "" {
			d.fail(key, "%q cannot be a label", key.Value)
		}
		out[key.Value] = d.straight(value, "labelsFromPath "+key.Value)
	})
	return out
}

func (d *decoder) constants(n *yaml.Node) map[string]string {
	out := map[string]string{}
	d.pairs(n, "commonLabels", func(key, value *yaml.Node) {
		if !validLabel(cleanName(key.Value)) {
			d.fail(key, "%q cannot be a label", key.Value)
		}
		out[cleanName(key.Value)] = d.word(value, "commonLabels "+key.Value)
	})
	return out
}
