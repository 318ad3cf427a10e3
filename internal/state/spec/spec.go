// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package spec is the language in which a file says what series an object of the Kubernetes API
// gives: the CustomResourceStateMetrics configuration of kube-state-metrics in its current and its
// old form, with extensions. docs/resource-state.md is its reference.
//
// [Parse] decodes a file strictly: every fault is reported with file and line, and a file with one
// fault gives nothing. A [Spec] is immutable. [Resource.Bind] makes the metrics for one kind of
// object, and an [Evaluator] applies them:
//
//	file ── Parse ──> Spec ── Bind(kind) ──> []*Metric ──┐
//	                                object ── Evaluator ─┴──> labels, value …
//
// Whatever an object holds, evaluation neither panics nor takes unbounded time: a fault is an error
// of that metric for that object and leaves the rest alone.
package spec

import (
	"slices"
	"strings"

	"github.com/periplus-io/periplus/internal/resource"
)

// Naming says how default metric names are made.
type Naming string

// The two namings that files in use rely on.
const (
	// Legacy is kube_<group>_<version>_<Kind>_<name>, with no labels for the kind.
	Legacy Naming = "legacy"
	// Current is kube_customresource_<name> with customresource_group, _version and _kind labels.
	Current Naming = "current"
)

// Type is the type of a metric.
type Type uint8

// The types. The old form is a Gauge.
const (
	Gauge Type = iota + 1
	StateSet
	Info
	// Count is the number of objects for each set of labels.
	Count
)

// String gives the type as a file spells it.
func (t Type) String() string {
	return [...]string{"", "Gauge", "StateSet", "Info", "Count"}[t]
}

// Label is a name and a value.
type Label struct{ Name, Value string }

// Spec is what one file says.
type Spec struct {
	// File is the name it was parsed under.
	File      string
	Resources []*Resource
}

// Resource is what a file says about one kind of object, or several by wildcard.
type Resource struct {
	// Group is exact; Version and Kind may be "*".
	Group, Version, Kind string
	// Plural is the resource name, empty where the file does not say it.
	Plural string
	// History asks for the past of an object to be written back from its list of conditions.
	History bool
	// Print changes whenever anything changes that the resource gives.
	Print string

	selector          selector
	prefix            *string
	namespace, system string // of the old form
	metrics           []*definition
}

// definition is a metric before it is bound to a kind.
type definition struct {
	Metric
	short  string
	naming Naming
}

// Metric is a metric of one kind of object.
type Metric struct {
	Name, Help string
	Type       Type
	// Limit is how many series the metric may have over all objects, 0 where the file does not say.
	Limit int
	// Quiet is set where the file asks to log errors at high verbosity only.
	Quiet bool
	// LabelName is the label of a StateSet that takes the state.
	LabelName string
	// Conditions is set where the result depends on status.conditions, Newest where it looks at the
	// end of that list alone.
	Conditions, Newest bool

	path, value  Path
	labelFromKey string
	list         []string
	entries      bool // an Info looks at the entries of an object too
	nilIsZero    bool
	exists       bool // the value is whether there is one
	ignoreCase   bool // of states
	consts       []Label
	base, each   labelSet
	selector     selector
}

// Matches says whether the resource speaks about objects of kind k.
func (r *Resource) Matches(k resource.Kind) bool {
	return r.Group == k.Group && (r.Version == "*" || r.Version == k.Version) && (r.Kind == "*" || r.Kind == k.Kind)
}

// Selects says whether the resource speaks about this object.
func (r *Resource) Selects(object resource.Object) bool { return r.selector.matches(object) }

// Bind gives the metrics for objects of kind k, in the order of the file.
func (r *Resource) Bind(k resource.Kind) []*Metric {
	out := make([]*Metric, 0, len(r.metrics))
	for _, d := range r.metrics {
		m := d.Metric
		m.Name = r.fullName(d, k)
		m.consts = slices.Clone(d.consts)
		if d.naming == Current {
			for _, l := range []Label{
				{"customresource_group", k.Group}, {"customresource_kind", k.Kind}, {"customresource_version", k.Version},
			} {
				m.consts = setLabel(m.consts, l.Name, l.Value)
			}
		}
		out = append(out, &m)
	}
	return out
}

func (r *Resource) fullName(d *definition, k resource.Kind) string {
	var parts []string
	switch {
	case r.prefix != nil:
		parts = append(parts, *r.prefix)
	case d.naming == Current:
		parts = append(parts, "kube_customresource")
	default:
		parts = append(parts, or(r.namespace, "kube"), or(r.system, k.Group+"_"+k.Version+"_"+k.Kind))
	}
	parts = slices.DeleteFunc(append(parts, d.short), func(p string) bool { return p == "" || p == "_" })
	return cleanName(strings.Join(parts, "_"))
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// validLabel says whether s can be the name of a label as it is.
func validLabel(s string) bool {
	return s != "" && !strings.HasPrefix(s, "__") && cleanName(s) == s && !strings.Contains(s, ":")
}

// cleanName replaces what a name may not hold by underscores.
func cleanName(s string) string {
	clean := func(i int, c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9' && i > 0
	}
	for i := range len(s) {
		if !clean(i, s[i]) {
			b := []byte(s)
			for i, c := range b {
				if !clean(i+1, c) {
					b[i] = '_'
				}
			}
			if !clean(0, b[0]) {
				return "_" + string(b)
			}
			return string(b)
		}
	}
	return s
}
