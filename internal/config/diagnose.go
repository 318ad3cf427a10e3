// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/discovery"
	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
)

const (
	maxFaults = 50               // told of one file
	maxProbes = 3000             // decodings spent on finding their lines
	maxSearch = 10 * time.Second // time spent on it; a fault in a thousand jobs takes two seconds
)

var (
	unknownField = regexp.MustCompile(`^(?:field|key) (.+) not found in (?:type|struct) (.*)$`)          // A decoder's words.
	wrongType    = regexp.MustCompile("^cannot unmarshal !!([a-z]+)(?: `((?s:.*))`)? into (.+)$")        // A decoder's words.
	alreadySet   = regexp.MustCompile(`^(?:field|key|mapping key) "?([^" ]+)"? already (?:set|defined)`) // A decoder's words.
)

// diagnosis finds the line of every fault in a tree that a decoder refuses. The decoder is a black box that
// stops at the first fault of meaning and mostly knows no line, so the place is found by elimination: the
// shortest beginning of a mapping or list that still gives the same error ends with the culprit; then the
// same inside of the culprit. The culprit is left out and the rest is decoded again, until nothing is refused.
type diagnosis struct {
	file   string
	root   *yaml.Node
	typ    reflect.Type
	decode func(string) error
	report *report

	skip   map[*yaml.Node]bool
	probes int
}

func (d *diagnosis) run() {
	d.skip = map[*yaml.Node]bool{}
	start := time.Now()
	for range maxFaults {
		if time.Since(start) > maxSearch {
			break
		}
		err := d.try(nil)
		if err == nil {
			return
		}
		if lines := typeErrors(err); len(lines) > 0 {
			if !d.typeFaults(lines) {
				return
			}
			continue
		}
		culprit, spoiled := d.locate(d.root, err.Error())
		if spoiled && culprit != d.root {
			// A part of it was left out before and this is what comes of that.
			d.skip[culprit] = true
			continue
		}
		if !spoiled {
			d.report.add(d.file, d.lineOf(culprit), "%s", reword(err.Error()))
		}
		if culprit == d.root {
			return
		}
		d.skip[culprit] = true
	}
	d.report.add(d.file, 0, "there may be more faults; these were enough to look for")
}

// try decodes the tree without what was found and without more.
func (d *diagnosis) try(more []*yaml.Node) error {
	d.probes++
	if len(more) == 0 {
		return d.decodeSkipping(d.skip)
	}
	skip := make(map[*yaml.Node]bool, len(d.skip)+len(more))
	for n := range d.skip {
		skip[n] = true
	}
	for _, n := range more {
		skip[n] = true
	}
	return d.decodeSkipping(skip)
}

func (d *diagnosis) decodeSkipping(skip map[*yaml.Node]bool) error {
	s, err := text(d.root, skip)
	if err != nil {
		return err
	}
	return d.decode(s)
}

// locate gives the smallest node that holds the cause of message, and whether parts of it are left out.
func (d *diagnosis) locate(n *yaml.Node, message string) (culprit *yaml.Node, spoiled bool) {
	var after []*yaml.Node // What follows on the way down; left out as well.
	for d.probes < maxProbes {
		children, missing := d.children(n)
		spoiled = missing
		k := d.shortest(children, after, message)
		if k == 0 {
			return n, spoiled
		}
		after = append(after, children[k:]...)
		n = children[k-1]
	}
	return n, spoiled
}

// shortest gives the smallest k for which children[:k] alone show message. More children never hide it,
// because the decoder reads in order; so the search halves.
func (d *diagnosis) shortest(children, after []*yaml.Node, message string) int {
	low, high := 0, len(children)
	for low < high && d.probes < maxProbes {
		mid := (low + high) / 2
		err := d.try(append(append([]*yaml.Node{}, after...), children[mid:]...))
		if err != nil && err.Error() == message {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return high
}

func (d *diagnosis) children(n *yaml.Node) (nodes []*yaml.Node, missing bool) {
	add := func(c *yaml.Node) {
		if d.skip[c] {
			missing = true
			return
		}
		nodes = append(nodes, c)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, c := range n.Content {
			add(c)
		}
		return nodes, false // Elements of a list do not need one another.
	case yaml.MappingNode:
		if n == d.root {
			if g := child(n, "global"); g != nil { // Everything else is judged by it.
				add(g)
			}
		}
		for _, p := range pairs(n) {
			if n != d.root || p.key.Value != "global" {
				add(p.value)
			}
		}
	}
	return nodes, missing && n != d.root
}

// lineOf gives the line of the key that n is the value of, else n's own.
func (d *diagnosis) lineOf(n *yaml.Node) int {
	line := n.Line
	walk(d.root, nil, func(_ []string, key, value *yaml.Node) {
		if value == n && key != nil {
			line = key.Line
		}
	})
	return line
}

// typeFaults reports what a decoder says with lines, and leaves out the nodes it means. False when it could
// not find one of them: then going on would find the same for ever.
func (d *diagnosis) typeFaults(lines []string) bool {
	found := true
	for _, l := range lines {
		line, message := splitLine(l)
		path, node := d.find(line, message)
		d.report.add(d.file, line, "%s", d.explain(message, path))
		if node == nil {
			found = false
			continue
		}
		d.skip[node] = true
	}
	return found
}

// find gives the node that a decoder's message about a line means.
func (d *diagnosis) find(line int, message string) (path []string, node *yaml.Node) {
	unknown, wrong, again := unknownField.FindStringSubmatch(message), wrongType.FindStringSubmatch(message),
		alreadySet.FindStringSubmatch(message)
	walk(d.root, nil, func(p []string, key, value *yaml.Node) {
		if d.skip[value] || (node != nil && again == nil) {
			return
		}
		target := deref(value)
		match := false
		switch {
		case unknown != nil:
			match = key != nil && key.Value == unknown[1] && (key.Line == line || value.Line == line)
		case again != nil: // The last one on the line is the repetition.
			match = key != nil && key.Value == again[1] && (key.Line == line || value.Line == line)
		case wrong != nil && wrong[2] != "":
			shown, cut := strings.CutSuffix(wrong[2], "...")
			match = value.Line == line && target.Kind == yaml.ScalarNode &&
				(target.Value == shown || cut && strings.HasPrefix(target.Value, shown))
		case wrong != nil:
			match = value.Line == line && (wrong[1] == "seq" && target.Kind == yaml.SequenceNode ||
				wrong[1] == "map" && target.Kind == yaml.MappingNode)
		default:
			match = value.Line == line && target.Kind == yaml.ScalarNode
		}
		if match {
			path, node = append([]string{}, p...), value
		}
	})
	return path, node
}

// explain words a decoder's message for the reader of a configuration file.
func (d *diagnosis) explain(message string, path []string) string {
	if m := unknownField.FindStringSubmatch(message); m != nil {
		where, known := "", []string(nil)
		if len(path) > 1 {
			where = " in " + dotted(path[:len(path)-1])
		}
		if len(path) > 0 {
			for k := range fields(typeAt(d.typ, path[:len(path)-1])) {
				known = append(known, k)
			}
		}
		hint := didYouMean(m[1], known)
		if kind, ok := strings.CutSuffix(m[1], "_sd_configs"); ok && nearest(kind, discovery.RegisteredConfigNames()) == "" {
			hint = ": this discovery is not supported; list its targets by file_sd_configs or http_sd_configs"
		}
		return fmt.Sprintf("unknown key %q%s%s", m[1], where, hint)
	}
	if m := wrongType.FindStringSubmatch(message); m != nil {
		where := ""
		if len(path) > 0 {
			where = dotted(path) + ": "
		}
		name := m[3]
		if t := indirect(typeAt(d.typ, path)); t != nil && t.PkgPath() != "" && !strings.HasSuffix(name, "Duration") {
			name = t.Kind().String()
		}
		return where + gotKind(m) + " is not " + typeName(name)
	}
	if m := alreadySet.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("key %q is there twice", m[1])
	}
	return reword(message)
}

// dotted writes a path the way the reference of the keys does. Which element of a list it is, the line tells.
func dotted(path []string) string {
	var b strings.Builder
	for i, p := range path {
		switch _, err := strconv.Atoi(p); {
		case err == nil:
			b.WriteString("[]")
			continue
		case i > 0:
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

// words is explain for a file whose keys are not known here.
func words(message string) string {
	if m := unknownField.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("unknown key %q", m[1])
	}
	if m := wrongType.FindStringSubmatch(message); m != nil {
		return gotKind(m) + " is not " + typeName(m[3])
	}
	return reword(message)
}

// gotKind says what a wrongType message found.
func gotKind(m []string) string {
	switch m[1] {
	case "seq":
		return "a list"
	case "map":
		return "a mapping"
	}
	return fmt.Sprintf("%q", m[2])
}

// typeName turns a Go type into words.
func typeName(t string) string {
	switch {
	case strings.HasPrefix(t, "[]"), t == "slice", t == "array":
		return "a list"
	case strings.HasPrefix(t, "map"), strings.Contains(t, "plain"), strings.HasPrefix(t, "struct"), strings.HasSuffix(t, "Config"),
		strings.HasPrefix(t, "rulefmt."):
		return "a mapping"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"):
		return "a whole number"
	case strings.HasPrefix(t, "float"):
		return "a number"
	case t == "bool":
		return "true or false"
	case strings.HasSuffix(t, "Duration"):
		return "a duration"
	case t == "string", strings.HasSuffix(t, "Secret"):
		return "a text"
	}
	return "a " + t
}

// reword drops what only the programmers of a decoder understand.
func reword(message string) string {
	message = strings.TrimPrefix(message, "yaml: ")
	return strings.ReplaceAll(message, "error parsing regexp: ", "bad regular expression: ")
}

// typeErrors gives the messages of the errors that know their line. Prometheus decodes with the older package.
func typeErrors(err error) []string {
	if v3, ok := errors.AsType[*yaml.TypeError](err); ok {
		return v3.Errors
	}
	if v2, ok := errors.AsType[*yamlv2.TypeError](err); ok {
		return v2.Errors
	}
	return nil
}

// walk visits every value of a tree with its path, depth first in the order of the file.
func walk(n *yaml.Node, path []string, visit func(path []string, key, value *yaml.Node)) {
	if len(path) > maxDepth {
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		for _, p := range pairs(n) {
			sub := append(slices.Clip(path), p.key.Value)
			visit(sub, p.key, p.value)
			walk(p.value, sub, visit)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			sub := append(slices.Clip(path), fmt.Sprint(i))
			visit(sub, nil, c)
			walk(c, sub, visit)
		}
	}
}
