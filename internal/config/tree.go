// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxFile  = 16 << 20 // bytes of a configuration file
	maxText  = 32 << 20 // bytes after aliases are written out
	maxDepth = 200      // levels of nesting
)

// plain matches scalars that are read the same inside and outside of a flow collection. It never changes.
var plain = regexp.MustCompile(`^(?:[-+.]?[A-Za-z0-9_][A-Za-z0-9_.+-]*|~)$`)

// parse reads one document. An empty one gives an empty mapping.
func parse(data []byte) (*yaml.Node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("the file has %d bytes, more than %d", len(data), maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 && doc.Content[0].ShortTag() != "!!null" {
		root = doc.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a configuration is a mapping of keys at the top", root.Line)
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		return nil, fmt.Errorf("line %d: a second document; a configuration is one", next.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return root, nil
}

// pair is one key of a mapping and its value.
type pair struct{ key, value *yaml.Node }

func pairs(n *yaml.Node) []pair {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	out := make([]pair, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, pair{n.Content[i], n.Content[i+1]})
	}
	return out
}

// child gives the value under key, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	for _, p := range pairs(n) {
		if p.key.Value == key {
			return p.value
		}
	}
	return nil
}

// deref follows an alias.
func deref(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// writer writes a tree as flow YAML in which every node stands on the line it came from, so that whoever
// parses the text reports the user's line numbers. Values are quoted: what they contain can never become
// structure.
type writer struct {
	b    bytes.Buffer
	line int
	// skip leaves out the elements and pairs whose value node is in it.
	skip map[*yaml.Node]bool
	err  error
}

// text writes root without the nodes in skip.
func text(root *yaml.Node, skip map[*yaml.Node]bool) (string, error) {
	w := writer{line: 1, skip: skip}
	w.node(root, 0)
	w.b.WriteByte('\n')
	return w.b.String(), w.err
}

func (w *writer) fail(n *yaml.Node, message string) {
	if w.err == nil {
		w.err = fmt.Errorf("line %d: %s", n.Line, message)
	}
}

func (w *writer) pad(line int) {
	for ; w.line < line; w.line++ {
		w.b.WriteByte('\n')
	}
}

func (w *writer) node(n *yaml.Node, depth int) {
	switch {
	case w.err != nil:
		return
	case depth > maxDepth:
		w.fail(n, fmt.Sprintf("nested more than %d deep", maxDepth))
		return
	case w.b.Len() > maxText:
		w.fail(n, fmt.Sprintf("more than %d bytes with its aliases written out", maxText))
		return
	}
	w.pad(n.Line)
	w.tag(n)
	switch n.Kind {
	case yaml.AliasNode:
		w.node(n.Alias, depth+1)
	case yaml.MappingNode:
		w.mapping(n, depth)
	case yaml.SequenceNode:
		w.b.WriteByte('[')
		for _, e := range n.Content {
			if w.skip[e] {
				continue
			}
			w.node(e, depth+1)
			w.b.WriteString(", ")
		}
		w.b.WriteByte(']')
	default:
		w.scalar(n)
	}
}

// tag writes a tag that the user wrote.
func (w *writer) tag(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle != 0 && n.Kind != yaml.AliasNode {
		fmt.Fprintf(&w.b, "!<%s> ", strings.NewReplacer("<", "", ">", "", "\n", "", " ", "").Replace(n.LongTag()))
	}
}

func (w *writer) mapping(n *yaml.Node, depth int) {
	w.b.WriteByte('{')
	for _, p := range pairs(n) {
		if w.skip[p.value] {
			continue
		}
		if p.key.Kind != yaml.ScalarNode {
			w.fail(p.key, "a key must be a plain word")
			return
		}
		w.pad(p.key.Line)
		w.b.WriteString("? ") // An explicit key may be longer than 1,024 bytes.
		if p.key.Tag == "!!merge" {
			w.b.WriteString("<<")
		} else {
			w.tag(p.key)
			w.scalar(p.key)
		}
		w.b.WriteString(" : ")
		w.node(p.value, depth+1)
		w.b.WriteString(", ")
	}
	w.b.WriteByte('}')
}

func (w *writer) scalar(n *yaml.Node) {
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	if n.Style&quoted == 0 {
		if n.Value == "" {
			w.b.WriteString("null")
			return
		}
		if plain.MatchString(n.Value) {
			w.b.WriteString(n.Value)
			return
		}
	}
	w.b.WriteString(quote(n.Value))
}

// quote writes s as a double-quoted YAML scalar on one line.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f || r == 0x85 || r == 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			b.WriteString(`\u` + fmt.Sprintf("%04x", r))
		case r < 0x7f:
			b.WriteRune(r)
		default:
			b.WriteString(`\U` + fmt.Sprintf("%08s", strconv.FormatInt(int64(r), 16)))
		}
	}
	b.WriteByte('"')
	return b.String()
}
