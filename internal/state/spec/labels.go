// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/periplus-io/periplus/internal/resource"
)

// labelSource is a label and where its value is, or a map that is copied into labels.
type labelSource struct {
	name string // a prefix where it copies
	path Path
}

// labelSet is a labelsFromPath section. Copies come first so that named labels win.
type labelSet struct {
	copies, named []labelSource
}

func newLabelSet(paths map[string]Path) labelSet {
	var s labelSet
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if strings.HasPrefix(name, "*") || strings.HasSuffix(name, "*") {
			s.copies = append(s.copies, labelSource{strings.Trim(name, "*"), paths[name]})
			continue
		}
		s.named = append(s.named, labelSource{cleanName(name), paths[name]})
	}
	return s
}

func (s *labelSet) each(visit func(p *Path)) {
	for i := range s.copies {
		visit(&s.copies[i].path)
	}
	for i := range s.named {
		visit(&s.named[i].path)
	}
}

// setLabel gives set with the label, replacing one of the same name.
func setLabel(set []Label, name, value string) []Label {
	for i := range set {
		if set[i].Name == name {
			set[i].Value = value
			return set
		}
	}
	return append(set, Label{name, value})
}

// collect adds to set what the paths give when they start at v, and says whether there was anything.
func (e *Evaluator) collect(set []Label, s *labelSet, v any, key string) ([]Label, bool) {
	found := false
	for i := range s.copies {
		from, err := e.get(&s.copies[i].path, v, key)
		if err != nil {
			e.fault(err)
			continue
		}
		m, _ := from.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if t, ok := text(m[k]); ok && len(set) < maxLabels {
				set, found = setLabel(set, cleanName(s.copies[i].name+k), t), true
			}
		}
	}
	for i := range s.named {
		got, err := e.get(&s.named[i].path, v, key)
		if err != nil {
			e.fault(err)
			continue
		}
		if t, ok := text(got); ok {
			set, found = setLabel(set, s.named[i].name, t), true
		}
	}
	return set, found
}

// selector restricts to objects by label and field. The zero value matches all.
type selector struct {
	label labels.Selector
	field fields.Selector
}

func (s selector) matches(object resource.Object) bool {
	if s.label != nil {
		m, _ := object.Field("metadata", "labels").(map[string]any)
		if !s.label.Matches(textMap(m)) {
			return false
		}
	}
	return s.field == nil || s.field.Matches(fieldsOf(object))
}

// textMap is the labels of an object for a label selector.
type textMap map[string]any

// Has implements labels.Labels.
func (m textMap) Has(label string) bool { _, ok := m[label]; return ok }

// Get implements labels.Labels.
func (m textMap) Get(label string) string { s, _ := m[label].(string); return s }

// Lookup implements labels.Labels.
func (m textMap) Lookup(label string) (string, bool) { s, ok := m[label].(string); return s, ok }

// fieldsOf is an object for a field selector: dotted paths of fields.
type fieldsOf resource.Object

// Has implements fields.Fields.
func (o fieldsOf) Has(field string) bool {
	return resource.Object(o).Field(strings.Split(field, ".")...) != nil
}

// Get implements fields.Fields.
func (o fieldsOf) Get(field string) string {
	t, _ := text(resource.Object(o).Field(strings.Split(field, ".")...))
	return t
}
