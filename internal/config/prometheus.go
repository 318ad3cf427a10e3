// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v3"
)

// prometheus loads the tree of Prometheus' keys and what it names on disk.
func (l *loader) prometheus(root *yaml.Node) *promconfig.Config {
	jobs := map[string]string{}
	l.duplicateJobs(l.file, root, jobs)
	l.secretFiles(l.file, l.dir, root)
	cfg := l.decodePrometheus(l.file, root)
	if cfg == nil {
		l.namedFiles(root)
		return nil
	}
	cfg.SetDirectory(l.dir)
	l.namedFiles(root)
	patterns := child(root, "scrape_config_files")
	if patterns == nil || patterns.Kind != yaml.SequenceNode {
		return cfg
	}
	cfg.ScrapeConfigFiles = nil
	global := child(root, "global")
	for _, p := range patterns.Content {
		for _, file := range l.glob(p) {
			cfg.ScrapeConfigs = append(cfg.ScrapeConfigs, l.scrapeFile(file, global, jobs)...)
		}
	}
	return cfg
}

// decodePrometheus runs Prometheus' own loader; nil when it refuses, and then every reason is reported.
func (l *loader) decodePrometheus(file string, root *yaml.Node) *promconfig.Config {
	s, err := text(root, nil)
	if err != nil {
		l.fileFault(file, err)
		return nil
	}
	cfg, err := promconfig.Load(s, l.Log)
	if err == nil {
		return cfg
	}
	quiet := slog.New(slog.DiscardHandler)
	d := diagnosis{
		file: file, root: root, typ: reflect.TypeFor[promconfig.Config](), report: &l.report,
		decode: func(s string) error {
			_, err := promconfig.Load(s, quiet)
			return err
		},
	}
	before := len(l.report.faults)
	d.run()
	if len(l.report.faults) == before {
		l.fileFault(file, err)
	}
	return nil
}

// duplicateJobs reports job names that are taken, and takes those of root. The repetition is left out of the
// tree, so that what else is wrong with the file is found.
func (l *loader) duplicateJobs(file string, root *yaml.Node, jobs map[string]string) {
	list := child(root, "scrape_configs")
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	kept := list.Content[:0:0]
	for _, item := range list.Content {
		name := child(deref(item), "job_name")
		if name == nil || name.Kind != yaml.ScalarNode || name.Value == "" {
			kept = append(kept, item)
			continue
		}
		place := Fault{File: file, Line: name.Line}
		if first, ok := jobs[name.Value]; ok {
			l.report.add(file, name.Line, "job %q is there twice, first in %s", name.Value, first)
			continue
		}
		jobs[name.Value] = strings.TrimSuffix(place.String(), ": ")
		kept = append(kept, item)
	}
	list.Content = kept
}

// scrapeFile loads one of scrape_config_files under the global settings of the main file.
func (l *loader) scrapeFile(file string, global *yaml.Node, jobs map[string]string) []*promconfig.ScrapeConfig {
	data, err := os.ReadFile(file)
	if err != nil {
		l.report.add(file, 0, "%s", cause(err))
		return nil
	}
	root, err := l.tree(file, data)
	if err != nil {
		l.fileFault(file, err)
		return nil
	}
	for _, p := range pairs(root) {
		if p.key.Value != "scrape_configs" {
			l.report.add(file, p.key.Line, "unknown key %q%s: such a file has only scrape_configs", p.key.Value,
				didYouMean(p.key.Value, []string{"scrape_configs"}))
		}
	}
	list := child(root, "scrape_configs")
	if list == nil {
		return nil
	}
	l.duplicateJobs(file, root, jobs)
	l.secretFiles(file, filepath.Dir(file), root)
	joined := &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	if global != nil {
		flat := flatten(global, 0)
		joined.Content = append(joined.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "global", Line: 1}, flat)
	}
	joined.Content = append(joined.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "scrape_configs", Line: 1}, list)
	cfg := l.decodePrometheus(file, joined)
	if cfg == nil {
		return nil
	}
	for _, s := range cfg.ScrapeConfigs {
		s.SetDirectory(filepath.Dir(file))
	}
	return cfg.ScrapeConfigs
}

// flatten copies a tree onto line 1, to be put in front of another file's.
func flatten(n *yaml.Node, depth int) *yaml.Node {
	n = deref(n)
	c := *n
	c.Line, c.Content = 1, nil
	if depth > maxDepth {
		return &c
	}
	for _, sub := range n.Content {
		c.Content = append(c.Content, flatten(sub, depth+1))
	}
	return &c
}

// namedFiles checks rule_files: what a pattern without wildcards names must be there, and all must parse.
func (l *loader) namedFiles(root *yaml.Node) {
	list := child(root, "rule_files")
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	for _, p := range list.Content {
		for _, file := range l.glob(p) {
			if l.CheckRules == nil {
				continue
			}
			for _, err := range l.CheckRules(file) {
				for _, m := range splitErrors(strings.TrimPrefix(err.Error(), file+": ")) {
					line, message := splitLine(m)
					l.report.add(file, line, "%s", words(message))
				}
			}
		}
	}
}

// glob gives the files that a pattern of the main file matches, and reports one that names a missing file.
func (l *loader) glob(n *yaml.Node) []string {
	n = deref(n)
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return nil
	}
	pattern := n.Value
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(l.dir, pattern)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		l.report.add(l.file, n.Line, "bad file pattern %q", n.Value)
		return nil
	}
	if len(files) == 0 && !strings.ContainsAny(n.Value, "*?[") {
		l.report.add(l.file, n.Line, "file %q: %s", n.Value, fs.ErrNotExist)
	}
	return files
}

// secretFiles checks that what a key ending in _file names can be read: credentials, certificates, a kubeconfig.
func (l *loader) secretFiles(file, dir string, root *yaml.Node) {
	walk(root, nil, func(path []string, key, value *yaml.Node) {
		if key == nil || !strings.HasSuffix(key.Value, "_file") || strings.HasSuffix(key.Value, "_log_file") {
			return
		}
		if value = deref(value); value.Kind != yaml.ScalarNode || value.Value == "" {
			return
		}
		for _, p := range path {
			if p == "external_labels" || p == "labels" || p == "params" {
				return // These are words, not settings.
			}
		}
		name := value.Value
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		f, err := os.Open(name)
		if err != nil {
			l.report.add(file, value.Line, "%s %q: %s", dotted(path), value.Value, cause(err))
			return
		}
		_ = f.Close()
	})
}

// cause gives an error of the file system without the operation and the path, which the fault names itself.
func cause(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}
