// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package manifest reads objects of the Kubernetes API from files as kubectl writes them: single
// objects, lists and several documents, in YAML or JSON. Faults name their line. Lists are decoded item by
// item, and what would take memory out of all proportion is refused.
package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch/frame"
)

// Object is one object of a file.
type Object struct {
	Object resource.Object
	// Line is where it begins, from 1.
	Line int
}

// LineError is an error with its place in a file.
type LineError struct {
	Line int // 0 when not known
	Err  error
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// Reader reads the objects of a file as kubectl get writes them: single objects, lists and
// several documents, YAML or JSON.
type Reader struct {
	// Limit is the size in bytes above which an object is left out.
	Limit int
	// Each takes an object; Refused is called for one that is too large.
	Each    func(Object) error
	Refused func(line int)
}

// Read reads a file. It fails at the first thing that is not an object of the Kubernetes API.
func (r Reader) Read(data []byte) error {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	start := bytes.TrimSpace(data)
	if len(start) == 0 {
		return errors.New("the file is empty")
	}
	if start[0] == '{' && !bytes.Contains(data, []byte("\n---")) { // else JSON as documents of YAML
		return r.readJSON(data)
	}
	return r.readYAML(data)
}

func (r Reader) readJSON(data []byte) error {
	source := bytes.NewReader(data)
	frames := frame.NewReader(source, len(data))
	for {
		raw, err := frames.Next()
		offset := len(data) - source.Len() - frames.Unread()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &LineError{lineAt(data, offset), err}
		}
		if err := r.json(raw, data, offset-len(raw)); err != nil {
			return err
		}
	}
}

// json takes in an object or list that begins at offset of data.
func (r Reader) json(raw, data []byte, offset int) error {
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset += int(s.Offset)
		}
		return &LineError{lineAt(data, offset), err}
	}
	items := []json.RawMessage{raw}
	if isList(list.Kind) && list.Items != nil {
		items = list.Items
	}
	line := lineAt(data, offset)
	for i, item := range items {
		if len(item) > r.Limit {
			r.Refused(line)
			continue
		}
		o, err := frame.Decode(item)
		if errors.Is(err, frame.ErrTooLarge) {
			r.Refused(line)
			continue
		}
		if err != nil {
			return &LineError{line, fmt.Errorf("item %d: %w", i, err)}
		}
		if err := r.object(o, line); err != nil {
			return err
		}
	}
	return nil
}

// readYAML reads piece by piece, see [pieces].
func (r Reader) readYAML(data []byte) error {
	for p := range pieces(data) {
		if p.tooManyValues() {
			r.Refused(p.line + 1)
			continue
		}
		d := yaml.NewDecoder(bytes.NewReader(p.text))
		for {
			var document yaml.Node
			err := d.Decode(&document)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				err = yamlError(err)
			} else {
				err = r.document(&document, p)
			}
			if l, ok := errors.AsType[*LineError](err); ok && l.Line > 0 {
				l.Line += p.line
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// document takes in one document, whose items are decoded one by one if it is a list.
func (r Reader) document(n *yaml.Node, p piece) error {
	n = n.Content[0]
	nodes := []*yaml.Node{n}
	if items, ok := listItems(n); ok {
		nodes = items
	}
	if p.item && n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		c := converter{budget: r.Limit}
		v, err := c.value(n, 0)
		if errors.Is(err, frame.ErrTooLarge) {
			r.Refused(p.line + n.Line)
			continue
		}
		if err != nil {
			return err
		}
		if v == nil {
			continue // nothing between two separators
		}
		o, ok := v.(map[string]any)
		if !ok {
			return &LineError{n.Line, errors.New("this is not an object")}
		}
		if err := r.object(o, p.line+n.Line); err != nil {
			if l, ok := errors.AsType[*LineError](err); ok {
				l.Line -= p.line // the caller adds it to all
			}
			return err
		}
	}
	return nil
}

func (r Reader) object(o resource.Object, line int) error {
	for _, field := range [][]string{{"apiVersion"}, {"kind"}, {"metadata", "name"}} {
		if o.Text(field...) == "" {
			return &LineError{line, fmt.Errorf("the object has no %s", strings.Join(field, "."))}
		}
	}
	return r.Each(Object{o, line})
}

func isList(kind string) bool { return strings.HasSuffix(kind, "List") }

// listItems gives the items of a node that is a list of objects.
func listItems(n *yaml.Node) ([]*yaml.Node, bool) {
	if n.Kind != yaml.MappingNode {
		return nil, false
	}
	var items *yaml.Node
	list := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case "kind":
			list = isList(n.Content[i+1].Value)
		case "items":
			items = n.Content[i+1]
		}
	}
	if !list || items == nil || items.Kind != yaml.SequenceNode {
		return nil, false
	}
	return items.Content, true
}

var (
	yamlLine = regexp.MustCompile(`line (\d+): `)
	// parserFault matches the messages for which the library counts lines from 0.
	parserFault = regexp.MustCompile(`did not find expected (<|key|node content|'-'|',')`)
)

// yamlError takes the line out of the library's message.
func yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	m := yamlLine.FindStringSubmatch(text)
	if m == nil {
		return &LineError{0, errors.New(text)}
	}
	line, _ := strconv.Atoi(m[1]) // digits
	if parserFault.MatchString(text) {
		line++
	}
	return &LineError{line, errors.New(strings.Replace(text, m[0], "", 1))}
}

// converter turns YAML nodes into the values that JSON has. The budget bounds what aliases can blow up.
type converter struct {
	budget int
}

// maxDepth is how deep an object may be nested.
const maxDepth = 1000

// valueCost is what a value counts of the budget beyond its text.
const valueCost = 32

func (c *converter) value(n *yaml.Node, depth int) (any, error) {
	c.budget -= len(n.Value) + valueCost
	if c.budget < 0 {
		return nil, frame.ErrTooLarge
	}
	if depth > maxDepth {
		return nil, &LineError{n.Line, errors.New("nested too deeply")}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := c.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	default:
		return scalar(n)
	}
}

func (c *converter) mapping(n *yaml.Node, depth int) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			return nil, &LineError{k.Line, errors.New("a key is not a plain string")}
		}
		if _, ok := m[k.Value]; ok {
			return nil, &LineError{k.Line, fmt.Errorf("key %q comes twice", k.Value)}
		}
		c.budget -= len(k.Value) + 2
		v, err := c.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		m[k.Value] = v
	}
	return m, nil
}

func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, At(n.Line, err)
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return i, nil
		}
		fallthrough
	case "!!float":
		var f float64
		err := n.Decode(&f)
		if err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			err = fmt.Errorf("%s is not a number in JSON", n.Value)
		}
		return f, At(n.Line, err)
	default: // strings, and times, which JSON has as strings
		return n.Value, nil
	}
}

// At says that an error is in a line; no error stays none.
func At(line int, err error) error {
	if err == nil {
		return nil
	}
	return &LineError{line, err}
}

// lineAt gives the line, from 1, of an offset.
func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), len(data))], []byte("\n"))
}

// DeriveUID makes the identity of an object that has none: the same for the same kind, namespace,
// name and creation time.
func DeriveUID(group, kind string, o resource.Object) string {
	sum := sha256.Sum256([]byte(strings.Join(
		[]string{group, kind, o.Namespace(), o.Name(), o.Text("metadata", "creationTimestamp")}, "\x00")))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: made by a rule of one's own
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// SplitAPIVersion separates group and version.
func SplitAPIVersion(apiVersion string) (group, version string) {
	group, version, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return "", group
	}
	return group, version
}
