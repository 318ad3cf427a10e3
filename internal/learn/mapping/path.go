// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Path leads from an object to a value inside it: keys with dots between them, each followed by any number of
// [index], [key=value] or [*] steps, as in spec.containers[0].env[name=epochs].value. A key that
// contains a dot is written in brackets and quotes, as in metadata.labels["sedna.io/name"].
type Path struct {
	text  string
	steps []step
}

// step is one move: exactly one of key, index, match or all is used.
type step struct {
	kind       stepKind
	key, value string
	index      int
}

type stepKind uint8

const (
	stepKey stepKind = iota
	stepIndex
	stepMatch
	stepAll
)

var errPath = errors.New("bad path")

// ParsePath reads a path.
func ParsePath(text string) (Path, error) {
	p := Path{text: text}
	rest := text
	for rest != "" {
		var err error
		if rest[0] == '[' {
			rest, err = p.bracket(rest)
		} else {
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return Path{}, fmt.Errorf("%w %q: empty key", errPath, text)
			}
			p.steps = append(p.steps, step{kind: stepKey, key: rest[:end]})
			rest = rest[end:]
		}
		if err != nil {
			return Path{}, err
		}
		if strings.HasPrefix(rest, ".") {
			if rest = rest[1:]; rest == "" {
				return Path{}, fmt.Errorf("%w %q: ends in a dot", errPath, text)
			}
		}
	}
	return p, nil
}

// bracket reads one step in brackets at the start of rest and gives what follows it.
func (p *Path) bracket(rest string) (string, error) {
	if strings.HasPrefix(rest, `["`) {
		end := strings.Index(rest, `"]`)
		if end < 2 {
			return "", fmt.Errorf("%w %q: quote is not closed", errPath, p.text)
		}
		p.steps = append(p.steps, step{kind: stepKey, key: rest[2:end]})
		return rest[end+2:], nil
	}
	end := strings.IndexByte(rest, ']')
	if end < 2 {
		return "", fmt.Errorf("%w %q: bracket is empty or not closed", errPath, p.text)
	}
	inner := rest[1:end]
	if key, value, ok := strings.Cut(inner, "="); ok {
		p.steps = append(p.steps, step{kind: stepMatch, key: key, value: value})
	} else if inner == "*" {
		p.steps = append(p.steps, step{kind: stepAll})
	} else {
		n, err := strconv.Atoi(inner)
		if err != nil {
			return "", fmt.Errorf("%w %q: index %q is no number", errPath, p.text, inner)
		}
		p.steps = append(p.steps, step{kind: stepIndex, index: n})
	}
	return rest[end+1:], nil
}

// UnmarshalText reads the path from a mapping file.
func (p *Path) UnmarshalText(text []byte) error {
	parsed, err := ParsePath(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// String gives the path as it was written.
func (p Path) String() string { return p.text }

// Zero says whether the path was left out.
func (p Path) Zero() bool { return p.text == "" }

// Get gives the value at the path, or nil; of several the first.
func (p Path) Get(root any) any {
	var found any
	p.each(root, p.steps, func(v any) bool {
		found = v
		return false
	})
	return found
}

// Each calls f for every value at the path.
func (p Path) Each(root any, f func(any)) {
	p.each(root, p.steps, func(v any) bool {
		f(v)
		return true
	})
}

// Text gives a string at the path; a number or boolean is written out and anything else is empty.
func (p Path) Text(root any) string { return text(p.Get(root)) }

// Number gives a number at the path, also from a numeric string.
func (p Path) Number(root any) (float64, bool) { return Number(p.Get(root)) }

// List gives the list at the path, or nil.
func (p Path) List(root any) []any {
	list, _ := p.Get(root).([]any)
	return list
}

// each walks to every value and stops when f gives false.
func (p Path) each(v any, steps []step, f func(any) bool) bool {
	if p.Zero() || v == nil {
		return true
	}
	if len(steps) == 0 {
		return f(v)
	}
	s, rest := steps[0], steps[1:]
	switch s.kind {
	case stepKey:
		m, _ := v.(map[string]any)
		return p.each(m[s.key], rest, f)
	case stepIndex:
		list, _ := v.([]any)
		i := s.index
		if i < 0 {
			i += len(list)
		}
		if i < 0 || i >= len(list) {
			return true
		}
		return p.each(list[i], rest, f)
	default:
		list, _ := v.([]any)
		for _, e := range list {
			if s.takes(e) && !p.each(e, rest, f) {
				return false
			}
		}
	}
	return true
}

// takes says whether a step over a list goes into an element.
func (s step) takes(e any) bool {
	if s.kind == stepAll {
		return true
	}
	m, _ := e.(map[string]any)
	return text(m[s.key]) == s.value
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}
