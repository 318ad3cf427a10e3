// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/periplus-io/periplus/internal/resource"
)

//go:embed strip.yaml
var stripRules []byte

// stripper removes from objects what nobody reads, by the rules in strip.yaml.
type stripper struct {
	Drop []struct {
		Group string   `yaml:"group"`
		Kind  string   `yaml:"kind"`
		Path  []string `yaml:"path"`
	} `yaml:"drop"`
	Pod struct {
		Keep           []string `yaml:"keep"`
		Volumes        []string `yaml:"volumes"`
		ContainerLists []string `yaml:"containerLists"`
		Container      []string `yaml:"container"`
		Environment    []string `yaml:"environment"`
	} `yaml:"pod"`

	environment map[string]bool
}

// newStripper reads the rules; environment are further names of variables to keep.
func newStripper(environment []string) (*stripper, error) {
	s := &stripper{environment: map[string]bool{}}
	if err := yaml.Unmarshal(stripRules, s); err != nil {
		return nil, fmt.Errorf("read strip rules: %w", err)
	}
	for _, name := range slices.Concat(s.Pod.Environment, environment) {
		s.environment[strings.ToLower(name)] = true
	}
	return s, nil
}

// strip changes o, which nobody else may hold yet.
func (s *stripper) strip(kind resource.Kind, o resource.Object) {
	for _, rule := range s.Drop {
		if rule.Kind == "" || rule.Kind == kind.Kind && rule.Group == kind.Group {
			drop(map[string]any(o), rule.Path)
		}
	}
	if kind.Group == "" && kind.Kind == "Pod" {
		s.podSpec(o.Field("spec"))
		return
	}
	s.templates(o.Field("spec"))
}

// drop removes what path leads to.
func drop(v any, path []string) {
	switch v := v.(type) {
	case map[string]any:
		if path[0] == "*" && len(path) > 1 {
			for _, e := range v {
				drop(e, path[1:])
			}
			return
		}
		if len(path) == 1 {
			delete(v, path[0])
			return
		}
		drop(v[path[0]], path[1:])
	case []any:
		if path[0] != "*" || len(path) == 1 {
			return
		}
		for _, e := range v {
			drop(e, path[1:])
		}
	}
}

// templates looks for pod templates below v and reduces them.
func (s *stripper) templates(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			if key == "template" && s.template(e) {
				continue
			}
			s.templates(e)
		}
	case []any:
		for _, e := range v {
			s.templates(e)
		}
	}
}

// template reduces v if it is a pod template.
func (s *stripper) template(v any) bool {
	spec, _ := resource.Object{"t": v}.Field("t", "spec").(map[string]any)
	if _, ok := spec["containers"].([]any); !ok {
		return false
	}
	s.podSpec(spec)
	return true
}

func (s *stripper) podSpec(v any) {
	spec, ok := v.(map[string]any)
	if !ok {
		return
	}
	for key, e := range spec {
		switch {
		case slices.Contains(s.Pod.ContainerLists, key):
			eachMap(e, s.container)
		case !slices.Contains(s.Pod.Keep, key):
			delete(spec, key)
		case key == "volumes":
			eachMap(e, func(volume map[string]any) { keep(volume, s.Pod.Volumes) })
		}
	}
}

func (s *stripper) container(c map[string]any) {
	env, _ := c["env"].([]any)
	keep(c, s.Pod.Container)
	env = slices.DeleteFunc(env, func(v any) bool {
		variable, ok := v.(map[string]any)
		return !ok || !s.environment[strings.ToLower(resource.Object(variable).Text("name"))]
	})
	if len(env) > 0 {
		c["env"] = env
	}
}

func keep(m map[string]any, keys []string) {
	for key := range m {
		if !slices.Contains(keys, key) {
			delete(m, key)
		}
	}
}

func eachMap(v any, f func(map[string]any)) {
	list, _ := v.([]any)
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			f(m)
		}
	}
}
