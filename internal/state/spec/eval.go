// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/periplus-io/periplus/internal/resource"
)

// Bounds of what one metric may give for one object.
const (
	maxErrors = 8
	maxLabels = 128
)

var errState = errors.New("a state is a text, number or boolean")

// Evaluator applies metrics to objects. It keeps its buffers from one object to the next and is not
// safe for concurrent use. The zero value is ready.
type Evaluator struct {
	object   map[string]any
	decoded  map[string]any
	captured []Label
	base     []Label
	labels   []Label
	errs     []error
	emit     Emit
	stop     bool
}

// Emit takes one series: its labels in the order of their names, valid during the call only. A label
// may be empty. It returns false to end the metric for this object.
type Emit func(labels []Label, value float64) bool

// Begin sets the object that the following calls of [Evaluator.Metric] look at.
func (e *Evaluator) Begin(object resource.Object) {
	e.object = object
	clear(e.decoded)
}

// Release lets go of the object and all that was made of it.
func (e *Evaluator) Release() {
	e.object, e.decoded, e.emit = nil, nil, nil
	clear(e.captured[:cap(e.captured)])
	clear(e.base[:cap(e.base)])
	clear(e.labels[:cap(e.labels)])
	clear(e.errs[:cap(e.errs)])
}

// Metric gives what m says about the object to emit, and returns what was wrong: at most a few
// errors, nil where there simply is nothing. The errors are valid until the next call.
func (e *Evaluator) Metric(m *Metric, emit Emit) []error {
	e.emit, e.stop, e.errs, e.captured = emit, false, e.errs[:0], e.captured[:0]
	if !m.selector.matches(e.object) {
		return nil
	}
	e.base, _ = e.collect(append(e.base[:0], m.consts...), &m.base, e.object, "")
	if m.path.cel == nil && m.path.spreads() {
		if err := e.spread(m.path.steps, e.object, func(v any) { e.values(m, v) }); err != nil {
			e.fault(err)
		}
		return e.errs
	}
	v, err := e.get(&m.path, e.object, "")
	if err != nil {
		e.fault(err)
		return e.errs
	}
	e.values(m, v)
	return e.errs
}

func (e *Evaluator) fault(err error) {
	if len(e.errs) < maxErrors {
		e.errs = append(e.errs, err)
	}
}

// values gives the series for what the path led to.
func (e *Evaluator) values(m *Metric, v any) {
	switch m.Type {
	case Gauge:
		e.gauge(m, v)
	case Info:
		e.info(m, v)
	case StateSet:
		e.each(v, func(_ string, el any) { e.states(m, el) })
	case Count:
		if m.path.empty() {
			e.series(m, v, "", 1)
			return
		}
		e.each(v, func(key string, el any) {
			if el != nil {
				e.series(m, el, key, 1)
			}
		})
	}
}

// each visits the elements of a list, or v itself.
func (e *Evaluator) each(v any, visit func(key string, el any)) {
	list, ok := v.([]any)
	if !ok {
		visit("", v)
		return
	}
	for i, el := range list {
		if e.stop {
			return
		}
		visit(strconv.Itoa(i), el)
	}
}

func (e *Evaluator) gauge(m *Metric, v any) {
	fields, ok := v.(map[string]any)
	// A CEL value of an object looks at the object as a whole unless its keys are asked for.
	if !ok || m.value.cel != nil && m.labelFromKey == "" {
		e.each(v, func(key string, el any) { e.value(m, el, key, nil) })
		return
	}
	found := false
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if e.stop {
			return
		}
		found = e.entry(m, fields, key) || found
	}
	if !found && !m.value.empty() && m.labelFromKey == "" {
		e.value(m, v, "", nil)
	}
}

// entry gives the series of one entry of an object and says whether the entry had a value. A
// valueFrom of one step may also name the entry itself; then labels may come from the whole object.
func (e *Evaluator) entry(m *Metric, fields map[string]any, key string) bool {
	el := fields[key]
	if len(m.value.steps) == 1 && m.value.steps[0].op == opField && m.value.steps[0].key == key {
		f, err := Number(el)
		if el == nil && m.nilIsZero {
			f, err = 0, nil
		}
		if err != nil {
			e.fault(fmt.Errorf("%v of %s: %w", m.path, key, err))
			return true
		}
		e.begin(m, key)
		e.labels, _ = e.collect(e.labels, &m.each, el, key)
		e.surround(m, fields)
		e.give(f)
		return true
	}
	return e.value(m, el, key, fields)
}

// surround adds labels that an entry does not have from the object it is in.
func (e *Evaluator) surround(m *Metric, fields map[string]any) {
	for i := range m.each.named {
		s := &m.each.named[i]
		if len(s.path.steps) == 0 || slices.ContainsFunc(e.labels, func(l Label) bool { return l.Name == s.name }) {
			continue
		}
		if got, err := e.get(&s.path, fields, ""); err == nil {
			if t, ok := text(got); ok {
				e.labels = append(e.labels, Label{s.name, t})
			}
		}
	}
}

// value gives the series of one element and says whether it had a value. An entry of an object comes
// with the object's fields.
func (e *Evaluator) value(m *Metric, el any, key string, fields map[string]any) bool {
	got, err := el, error(nil)
	if !m.value.empty() {
		if el == nil && !m.nilIsZero {
			return false
		}
		got, err = e.get(&m.value, el, key)
	}
	if err != nil {
		e.fault(err)
		return false
	}
	f := 0.0
	if m.exists {
		if got != nil {
			f = 1
		}
	} else if got != nil {
		if f, err = Number(got); err != nil {
			e.fault(fmt.Errorf("%v: %w", m.where(), err))
			return false
		}
	} else if !m.nilIsZero {
		return false
	}
	if fields == nil {
		e.begin(m, "")
		e.labels, _ = e.collect(e.labels, &m.each, el, key)
	} else {
		e.begin(m, key)
		e.labels, _ = e.collect(e.labels, &m.each, el, key)
		e.surround(m, fields)
	}
	e.give(f)
	return true
}

// where names the place of a value in messages.
func (m *Metric) where() string {
	if m.value.empty() {
		return m.path.String()
	}
	return m.path.String() + " " + m.value.String()
}

// info gives a series of value 1 for each element that gives at least one label. An object gives
// one for each of its entries, and one for itself.
func (e *Evaluator) info(m *Metric, v any) {
	if fields, ok := v.(map[string]any); ok && m.entries {
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			if e.stop {
				return
			}
			e.infoOf(m, fields[key], key, key)
		}
	}
	e.each(v, func(key string, el any) { e.infoOf(m, el, key, "") })
}

// infoOf gives the series of one element; label is set for the entries of an object.
func (e *Evaluator) infoOf(m *Metric, el any, key, label string) {
	if el == nil || e.stop {
		return
	}
	e.begin(m, label)
	named := len(e.captured) > 0
	if label != "" {
		named = m.labelFromKey != ""
	}
	var found bool
	if e.labels, found = e.collect(e.labels, &m.each, el, key); found || named {
		e.give(1)
	}
}

func (e *Evaluator) states(m *Metric, el any) {
	got, err := e.get(&m.value, el, "")
	if err != nil {
		e.fault(err)
		return
	}
	switch got.(type) {
	case nil:
		return
	case map[string]any, []any:
		e.fault(fmt.Errorf("%v: %s: %w", m.where(), shape(got), errState))
		return
	}
	current, _ := text(got)
	for _, state := range m.list {
		if e.stop {
			return
		}
		e.begin(m, "")
		e.labels = setLabel(e.labels, m.LabelName, state)
		e.labels, _ = e.collect(e.labels, &m.each, el, "")
		value := 0.0
		if state == current || m.ignoreCase && strings.EqualFold(state, current) {
			value = 1
		}
		e.give(value)
	}
}

// series gives one series for el.
func (e *Evaluator) series(m *Metric, el any, key string, value float64) {
	e.begin(m, key)
	e.labels, _ = e.collect(e.labels, &m.each, el, key)
	e.give(value)
}

// begin starts the labels of a series with all that does not come from its element.
func (e *Evaluator) begin(m *Metric, key string) {
	e.labels = append(e.labels[:0], e.base...)
	for _, l := range e.captured {
		e.labels = setLabel(e.labels, l.Name, l.Value)
	}
	if m.labelFromKey != "" && key != "" {
		e.labels = setLabel(e.labels, m.labelFromKey, key)
	}
}

// give hands the series over, its labels sorted. They are few, and mostly in order already.
func (e *Evaluator) give(value float64) {
	l := e.labels
	for i := 1; i < len(l); i++ {
		for j := i; j > 0 && l[j].Name < l[j-1].Name; j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
	if !e.emit(l, value) {
		e.stop = true
	}
}
