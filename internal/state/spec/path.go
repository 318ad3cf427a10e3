// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what one path may cost.
const (
	maxSteps = 64
	maxJSON  = 1 << 20
)

// Faults of a path while it is walked.
var (
	errJSON  = errors.New("@json")
	errSteps = errors.New("too many steps")
)

type op uint8

const (
	opField  op = iota // a key of an object, or an index where a list stands
	opEqual            // key=value on an object
	opFilter           // [key=value,…] in a list
	opEach             // * over a list or an object
	opJSON             // @json
)

// step is one compiled element of a path.
type step struct {
	op op
	// key is the field, or with opEach the label that takes the key.
	key string
	// index is the list index of a numeric field, or which match of a filter.
	index   int
	isIndex bool
	// conds are what a filter's element must have; opEqual has one. With opEach there may be one:
	// its field names the element's field that is captured.
	conds []cond
}

type cond struct {
	key, want string
	number    float64
	isNumber  bool
	isBool    bool
	boolean   bool
}

// Path says where in an object something is: by steps, or by a CEL expression. The zero value is
// the empty path, which gives what it is asked about.
type Path struct {
	words []string
	steps []step
	cel   *program
}

// ParsePath compiles the steps of a path.
func ParsePath(words []string) (Path, error) {
	p := Path{words: words}
	if len(words) > maxSteps {
		return p, fmt.Errorf("%d steps: %w, at most %d", len(words), errSteps, maxSteps)
	}
	for _, w := range words {
		s, err := parseStep(w)
		if err != nil {
			return p, fmt.Errorf("step %q: %w", w, err)
		}
		p.steps = append(p.steps, s)
	}
	return p, nil
}

// String gives the path as it would be written in YAML.
func (p Path) String() string {
	if p.cel != nil {
		return "{cel: " + p.cel.source + "}"
	}
	return "[" + strings.Join(p.words, ", ") + "]"
}

func (p Path) empty() bool { return len(p.steps) == 0 && p.cel == nil }

// spreads says whether the path has a step with more than one result.
func (p Path) spreads() bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.op == opEach })
}

func parseStep(w string) (step, error) {
	switch {
	case w == "":
		return step{}, errors.New("empty")
	case w == "@json":
		return step{op: opJSON}, nil
	case strings.HasPrefix(w, "@"):
		return step{}, errors.New("unknown function, the only one is @json")
	case w == "*":
		return step{op: opEach}, nil
	case strings.HasPrefix(w, "*:"):
		return parseEach(w[2:])
	case strings.HasPrefix(w, "["):
		return parseFilter(w)
	}
	s := step{op: opField, key: w}
	if n, err := strconv.Atoi(w); err == nil {
		s.index, s.isIndex = n, true
	}
	if key, want, ok := strings.Cut(w, "="); ok && !strings.Contains(want, "=") {
		s.op, s.conds = opEqual, []cond{newCond(key, want)}
	}
	return s, nil
}

// parseEach reads what follows "*:", a label and where its value comes from: LABEL for the key or
// index, LABEL=FIELD for a field of the element.
func parseEach(w string) (step, error) {
	label, field, has := strings.Cut(w, "=")
	if !validLabel(label) {
		return step{}, fmt.Errorf("%q is not a label name", label)
	}
	s := step{op: opEach, key: label}
	if has {
		if field == "" {
			return step{}, errors.New("no field after =")
		}
		s.conds = []cond{{key: field}}
	}
	return s, nil
}

// parseFilter reads [key=value], [a=x,b=y] and [N:key=value].
func parseFilter(w string) (step, error) {
	inner, ok := strings.CutSuffix(w[1:], "]")
	if !ok {
		return step{}, errors.New("no closing ]")
	}
	s := step{op: opFilter}
	if n, rest, ok := strings.Cut(inner, ":"); ok {
		if i, err := strconv.Atoi(n); err == nil {
			s.index, inner = i, rest
		}
	}
	parts := strings.Split(inner, ",")
	// A comma belongs to the value unless another condition follows it.
	if slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(p, "=") }) {
		parts = []string{inner}
	}
	for _, p := range parts {
		key, want, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return step{}, errors.New("want [key=value]")
		}
		s.conds = append(s.conds, newCond(key, want))
	}
	return s, nil
}

func newCond(key, want string) cond {
	c := cond{key: key, want: want}
	if f, err := Number(want); err == nil {
		c.number, c.isNumber = f, true
	}
	if b, err := strconv.ParseBool(want); err == nil {
		c.boolean, c.isBool = b, true
	}
	return c
}

func (c *cond) matches(m map[string]any) bool {
	switch v := m[c.key].(type) {
	case nil:
		return false
	case string:
		if v == c.want {
			return true
		}
		if !c.isNumber || v == "" || len(v) > 64 {
			return false
		}
		f, err := textNumber(v)
		return err == nil && f == c.number
	case bool:
		return c.isBool && v == c.boolean
	default:
		f, err := Number(v)
		return err == nil && c.isNumber && f == c.number
	}
}

func (s *step) matches(v any) (map[string]any, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	for i := range s.conds {
		if !s.conds[i].matches(m) {
			return nil, false
		}
	}
	return m, true
}

// find gives the index-th element of list that fulfils the filter, counted from the end where
// index is negative; nil without one.
func (s *step) find(list []any) any {
	if s.index >= 0 {
		left := s.index
		for _, v := range list {
			if m, ok := s.matches(v); ok {
				if left == 0 {
					return m
				}
				left--
			}
		}
		return nil
	}
	left := -s.index - 1
	for _, v := range slices.Backward(list) {
		if m, ok := s.matches(v); ok {
			if left == 0 {
				return m
			}
			left--
		}
	}
	return nil
}

// apply does one step with a single result. Nothing there is nil and no error.
func (s *step) apply(e *Evaluator, v any) (any, error) {
	switch s.op {
	case opField:
		return s.field(v), nil
	case opEqual:
		m, ok := v.(map[string]any)
		if !ok {
			return nil, nil
		}
		if s.conds[0].matches(m) {
			return m[s.conds[0].key], nil
		}
		return m[s.key], nil
	case opFilter:
		list, ok := v.([]any)
		if !ok {
			return nil, nil
		}
		return s.find(list), nil
	case opJSON:
		return e.decode(v)
	case opEach:
	}
	return nil, nil
}

func (s *step) field(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return v[s.key]
	case []any:
		i := s.index
		if i < 0 {
			i += len(v)
		}
		if s.isIndex && i >= 0 && i < len(v) {
			return v[i]
		}
	}
	return nil
}

// get walks the path from v; key is what CEL sees as key.
func (e *Evaluator) get(p *Path, v any, key string) (any, error) {
	if p.cel != nil {
		return p.cel.eval(e.object, v, key)
	}
	for i := range p.steps {
		if v == nil {
			return nil, nil
		}
		var err error
		if v, err = p.steps[i].apply(e, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// spread walks a path that may branch and calls found for each result, with the labels captured on
// the way in e.captured.
func (e *Evaluator) spread(steps []step, v any, found func(v any)) error {
	for i := range steps {
		if v == nil {
			return nil
		}
		s := &steps[i]
		if s.op == opEach {
			return e.branch(s, steps[i+1:], v, found)
		}
		var err error
		if v, err = s.apply(e, v); err != nil {
			return err
		}
	}
	found(v)
	return nil
}

// branch goes on with rest in every element of v. A fault in one leaves the others.
func (e *Evaluator) branch(s *step, rest []step, v any, found func(v any)) error {
	var errs []error
	one := func(key string, el any) {
		if len(errs) > 0 && len(errs) >= maxErrors {
			return
		}
		mark := len(e.captured)
		if s.key != "" {
			e.capture(s, key, el)
		}
		if err := e.spread(rest, el, found); err != nil {
			errs = append(errs, err)
		}
		e.captured = e.captured[:mark]
	}
	switch v := v.(type) {
	case []any:
		for i, el := range v {
			if e.stop {
				break
			}
			one(strconv.Itoa(i), el)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if e.stop {
				break
			}
			one(key, v[key])
		}
	}
	return errors.Join(errs...)
}

func (e *Evaluator) capture(s *step, key string, el any) {
	if len(s.conds) > 0 {
		m, _ := el.(map[string]any)
		t, ok := text(m[s.conds[0].key])
		if !ok {
			return
		}
		key = t
	}
	e.captured = append(e.captured, Label{Name: s.key, Value: key})
}

// decode reads a text of an object as JSON. Within one object every text is decoded once.
func (e *Evaluator) decode(v any) (any, error) {
	s, ok := v.(string)
	if !ok || s == "" {
		return nil, nil
	}
	if len(s) > maxJSON {
		return nil, fmt.Errorf("%w: %d bytes are too many", errJSON, len(s))
	}
	if d, ok := e.decoded[s]; ok {
		return d, nil
	}
	var d any
	if err := json.Unmarshal([]byte(s), &d); err != nil {
		return nil, fmt.Errorf("%w: %w", errJSON, err)
	}
	if e.decoded == nil {
		e.decoded = map[string]any{}
	}
	e.decoded[s] = d
	return d, nil
}
