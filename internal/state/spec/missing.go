// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"strings"

	"github.com/periplus-io/periplus/internal/resource"
)

// Missing says in words why the metric gives nothing for the object.
func (m *Metric) Missing(object resource.Object) string {
	if !m.selector.matches(object) {
		return "its selector does not match"
	}
	e := &Evaluator{object: object}
	v := any(map[string]any(object))
	for i := range m.path.steps {
		s := &m.path.steps[i]
		if s.op == opEach {
			return fmt.Sprintf("nothing beyond [%s] has what it asks for", strings.Join(m.path.words[:i+1], ", "))
		}
		next, err := s.apply(e, v)
		if err != nil {
			return err.Error()
		}
		if next == nil {
			return fmt.Sprintf("there is nothing at [%s]: %s has no %s",
				strings.Join(m.path.words[:i+1], ", "), shape(v), m.path.words[i])
		}
		v = next
	}
	switch {
	case !m.value.empty():
		return fmt.Sprintf("%s at %v has nothing at %v", shape(v), m.path, m.value)
	case m.Type == Info:
		return fmt.Sprintf("none of its labels is found in %s at %v", shape(v), m.path)
	}
	return fmt.Sprintf("%s at %v holds nothing", shape(v), m.path)
}
