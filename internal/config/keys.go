// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/discovery"
)

// fields gives the keys that a struct decodes from YAML, with their types. Inlined structs count as their outer
// one; discovery configurations, which Prometheus inlines by other means, are added by name.
func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	t = indirect(t)
	if t == nil || t.Kind() != reflect.Struct {
		return out
	}
	for f := range t.Fields() {
		if f.Type == reflect.TypeFor[discovery.Configs]() {
			for _, name := range discovery.RegisteredConfigNames() {
				if name == "static" {
					out["static_configs"] = nil
					continue
				}
				out[name+"_sd_configs"] = nil
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline"):
			maps.Copy(out, fields(f.Type))
		case name == "-" || !f.IsExported():
		case name != "":
			out[name] = f.Type
		default:
			out[strings.ToLower(f.Name)] = f.Type
		}
	}
	return out
}

func indirect(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// typeAt walks from t along path; nil when the path leaves what the types tell.
func typeAt(t reflect.Type, path []string) reflect.Type {
	for _, step := range path {
		t = indirect(t)
		if t == nil {
			return nil
		}
		switch t.Kind() {
		case reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			t = fields(t)[step]
		default:
			return nil
		}
	}
	return t
}

// Keys lists the keys that sections accept, as dotted paths in alphabetical order; `[]` stands for the elements
// of a list and `{}` for the entries of a map. The reference in docs/configuration.md is checked against it.
func Keys(sections ...Section) []string {
	var out []string
	for _, s := range sections {
		out = append(out, s.Key)
		walkKeys(reflect.TypeOf(s.into), s.Key, nil, &out)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func walkKeys(t reflect.Type, path string, seen []reflect.Type, out *[]string) {
	t = indirect(t)
	if t == nil || slices.Contains(seen, t) {
		return
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		walkKeys(t.Elem(), path+"[]", seen, out)
	case reflect.Map:
		walkKeys(t.Elem(), path+"{}", seen, out)
	case reflect.Struct:
		if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
			return
		}
		for k, ft := range fields(t) {
			*out = append(*out, path+"."+k)
			walkKeys(ft, path+"."+k, append(seen, t), out)
		}
	}
}

// nearest gives the candidate that is most like word, or nothing when none is close.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	slices.Sort(candidates)
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the single-byte edits, neighbours exchanged included, that turn a into b.
func distance(a, b string) int {
	const far = 1 << 20
	if len(a) > 200 || len(b) > 200 {
		return far
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

func didYouMean(word string, candidates []string) string {
	if s := nearest(word, candidates); s != "" {
		return ` (did you mean "` + s + `"?)`
	}
	return ""
}
