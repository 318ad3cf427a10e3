// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package config loads the one configuration file. Its top-level keys are those of Prometheus' own
// file, in Prometheus' syntax and read by Prometheus' loader, and beside them one key for each room that
// has something to configure. The package knows no room: a [Section] ties a key to the room's struct.
//
//	text ─> tree ─> ${ENV} in values ─┬─ Prometheus' keys ─> promconfig.Load ─┐
//	                                  └─ one section each ─> the room's struct ┴─> *Config, or every fault
//
// A load gives a complete, checked value or [Faults]: every fault with its file and line, not just the first.
// Files that the configuration names (scrape_config_files) are read and put in at once, so what was
// checked is what runs. Text from the environment is the content of one value and never becomes
// structure, and neither it nor any secret is in what [Config.String] prints.
//
// Prometheus' configuration package is used here because its types are what discover, scrape and the
// other rooms on Prometheus' engine take.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v3"
)

// Options say what to load and how.
type Options struct {
	// Path is the file; empty means that there is none and the defaults hold.
	Path string
	// Sections are our keys beside Prometheus' own.
	Sections []Section
	// CheckRules gives what is wrong with the rule file at path, nothing if all is well. An error that begins
	// with "line:" or "line:column:" tells where. Without it rule files must only exist.
	CheckRules func(path string) []error
	// Getenv looks up an environment variable; nil means [os.LookupEnv].
	Getenv func(name string) (string, bool)
	// Log gets what is odd but not wrong. It must be set.
	Log *slog.Logger
}

// Section ties a top-level key to the struct that it fills. Use [Bind] to make one.
type Section struct {
	// Key is the top-level key.
	Key      string
	into     any
	validate func() error
}

// Bind makes the section of a room: what stands under key is decoded into the value that into points at,
// which holds the defaults before. Unknown keys are faults. Then Validate is called, also when the key is
// absent; an error (or each of several joined ones) that begins with a key path, as in
// "samples.max must be positive", is reported at that key's line. A struct with a SetDirectory(string)
// method gets the folder of the file, to resolve relative paths against.
func Bind[T any, P interface {
	*T
	Validate() error
}](key string, into P) Section {
	return Section{Key: key, into: into, validate: into.Validate}
}

// Config is one loaded, complete and checked configuration. Whoever completes it further (the default scrape
// jobs) does so before it is in use.
type Config struct {
	// Prometheus is the part in Prometheus' syntax, its scrape_config_files put in and its relative paths
	// resolved. What its loader fills in by default is filled in.
	Prometheus *promconfig.Config

	sections []Section
	origin   origin
}

// Load reads, checks and gives the configuration that o describes. The error is [Faults] when the content
// is at fault.
func Load(o Options) (*Config, error) {
	if o.Path == "" {
		return Parse("defaults", nil, o)
	}
	f, err := os.Open(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(o.Path, data, o)
}

// Parse is Load for a text that is already read; path names it in faults and says where relative paths begin.
func Parse(path string, data []byte, o Options) (*Config, error) {
	l := &loader{Options: o, file: path, dir: filepath.Dir(path)}
	if l.Getenv == nil {
		l.Getenv = os.LookupEnv
	}
	l.report.order = map[string]int{path: 0}
	l.origin = origin{written: map[string]string{}, values: map[string]string{}}
	return l.load(data)
}

// loader is the state of one load.
type loader struct {
	Options
	file, dir string
	report    report
	origin    origin
}

func (l *loader) load(data []byte) (*Config, error) {
	root, err := l.tree(l.file, data)
	if err != nil {
		l.fileFault(l.file, err)
		return nil, l.report.err()
	}
	ours := l.split(root)
	for _, s := range l.Sections {
		l.section(s, ours[s.Key])
	}
	prom := l.prometheus(root)
	if err := l.report.err(); err != nil {
		return nil, err
	}
	return &Config{Prometheus: prom, sections: slices.Clone(l.Sections), origin: l.origin}, nil
}

// tree parses a file and expands the environment in it.
func (l *loader) tree(file string, data []byte) (*yaml.Node, error) {
	root, err := parse(data)
	if err != nil {
		return nil, err
	}
	e := expander{
		lookup: l.Getenv, origin: &l.origin, done: map[*yaml.Node]bool{},
		fault: func(line int, format string, args ...any) { l.report.add(file, line, format, args...) },
	}
	e.node(root, "", false, nil)
	return root, nil
}

func (l *loader) fileFault(file string, err error) {
	for _, m := range append(typeErrors(err), err.Error())[:max(1, len(typeErrors(err)))] {
		line, message := splitLine(m)
		l.report.add(file, line, "%s", reword(message))
	}
}

// unsupported are keys that Prometheus has and we refuse, with what to do instead.
func unsupported(key string) string {
	switch key {
	case "tracing":
		return "tracing is not supported: Periplus sends no traces of itself; remove the key"
	case "runtime":
		return "runtime is not supported: set the log level on the command line and GOGC in the environment"
	}
	return ""
}

// split takes our sections and what nobody knows out of root, which then holds only Prometheus' keys.
func (l *loader) split(root *yaml.Node) map[string]*yaml.Node {
	known := fields(reflect.TypeFor[promconfig.Config]())
	sections := map[string]bool{}
	for _, s := range l.Sections {
		sections[s.Key] = true
	}
	candidates := slices.Collect(maps.Keys(sections))
	for k := range known {
		if unsupported(k) == "" {
			candidates = append(candidates, k)
		}
	}
	ours, seen := map[string]*yaml.Node{}, map[string]int{}
	var kept []*yaml.Node
	for _, p := range pairs(root) {
		key := p.key.Value
		_, prometheus := known[key]
		switch first := seen[key]; {
		case first != 0:
			l.report.add(l.file, p.key.Line, "key %q is there twice, first in line %d", key, first)
		case unsupported(key) != "":
			l.report.add(l.file, p.key.Line, "%s", unsupported(key))
		case sections[key]:
			ours[key] = p.value
		case prometheus:
			kept = append(kept, p.key, p.value)
		default:
			l.report.add(l.file, p.key.Line, "unknown key %q%s", key, didYouMean(key, candidates))
		}
		seen[key] = p.key.Line
	}
	root.Content = kept
	return ours
}

// section decodes one of our sections and lets its room judge it.
func (l *loader) section(s Section, n *yaml.Node) {
	before := len(l.report.faults)
	if n != nil && n.ShortTag() != "!!null" {
		root := &yaml.Node{Kind: yaml.MappingNode, Line: 1, Content: []*yaml.Node{
			{Kind: yaml.ScalarNode, Value: s.Key, Line: n.Line}, n,
		}}
		target := reflect.StructOf([]reflect.StructField{{
			Name: "Value", Type: reflect.TypeOf(s.into), Tag: reflect.StructTag(`yaml:"` + s.Key + `"`),
		}})
		decode := func(text string) error {
			v := reflect.New(target)
			v.Elem().Field(0).Set(reflect.ValueOf(s.into))
			return decodeStrict(text, v.Interface())
		}
		d := diagnosis{file: l.file, root: root, typ: target, decode: decode, report: &l.report}
		d.run()
	}
	if dir, ok := s.into.(interface{ SetDirectory(dir string) }); ok {
		dir.SetDirectory(l.dir)
	}
	if len(l.report.faults) > before {
		return // What Validate would say may only follow from these.
	}
	for _, err := range unjoin(s.validate()) {
		line := 0
		if n != nil {
			line = lineOfKey(n, err.Error())
		}
		l.report.add(l.file, line, "%s: %s", s.Key, err)
	}
}

func decodeStrict(text string, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	dec.KnownFields(true)
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// lineOfKey gives the line of the key path that is the first word of message, as far as it is there.
func lineOfKey(n *yaml.Node, message string) int {
	line := n.Line
	end := strings.IndexAny(message, ": \n")
	if end < 0 {
		return line
	}
	path := strings.NewReplacer("[", ".", "]", "").Replace(message[:end])
	for step := range strings.SplitSeq(path, ".") {
		n = deref(n)
		var next *yaml.Node
		for _, p := range pairs(n) {
			if p.key.Value == step {
				next, line = p.value, p.key.Line
			}
		}
		if n != nil && n.Kind == yaml.SequenceNode {
			var i int
			if _, err := fmt.Sscan(step, &i); err == nil && i >= 0 && i < len(n.Content) {
				next, line = n.Content[i], n.Content[i].Line
			}
		}
		if next == nil {
			return line
		}
		n = next
	}
	return line
}
