// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing that is wrong with a configuration, and where.
type Fault struct {
	// File is the path as the user named it.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	// Message says what is wrong and, where it can, what would be right.
	Message string
}

// String gives file:line: message, the form that editors jump to.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
}

// Faults is every fault found in one load, in order of file and line. It is never empty when it is returned
// as an error.
type Faults []Fault

// Error puts each fault on a line of its own.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// report collects faults of one load.
type report struct {
	faults Faults
	order  map[string]int // files in the order they were met
}

func (r *report) add(file string, line int, format string, args ...any) {
	if _, ok := r.order[file]; !ok {
		r.order[file] = len(r.order)
	}
	f := Fault{File: file, Line: line, Message: fmt.Sprintf(format, args...)}
	if !slices.Contains(r.faults, f) {
		r.faults = append(r.faults, f)
	}
}

func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		if a.File != b.File {
			return r.order[a.File] - r.order[b.File]
		}
		return a.Line - b.Line
	})
	return r.faults
}

// lineMessage is how the YAML decoders word an error that has a line. It never changes.
var lineMessage = regexp.MustCompile(`^(?:yaml: )?(?:line )?([0-9]+):(?:[0-9]+:)? (?s:(.*))$`)

// splitLine takes the line off the front of a message; line is 0 when there is none.
func splitLine(s string) (line int, message string) {
	m := lineMessage.FindStringSubmatch(s)
	if m == nil {
		return 0, strings.TrimPrefix(s, "yaml: ")
	}
	line, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, s
	}
	return line, m[2]
}

// splitErrors takes apart what the decoders join into one message.
func splitErrors(s string) []string {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(s, "yaml: "), "unmarshal errors:\n")
	if !ok {
		return []string{s}
	}
	var out []string
	for line := range strings.Lines(rest) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// unjoin gives the errors that errors.Join put together, at any depth.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	var multi interface{ Unwrap() []error }
	if errors.As(err, &multi) {
		var all []error
		for _, e := range multi.Unwrap() {
			all = append(all, unjoin(e)...)
		}
		if len(all) > 0 {
			return all
		}
	}
	return []error{err}
}
