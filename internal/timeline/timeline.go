// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package timeline draws the learning model as text: a table of jobs, and one job as a timeline of its stages with
// its rounds, scores, workers and newest message. Both are pure functions of the shared types, a width and a
// time, so what is drawn is tested against files. Texts that come from objects are stripped of
// control characters before they reach a terminal.
package timeline

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/periplus-io/periplus/internal/learning"
)

// Options say how to draw. The zero value is 80 columns, without colour, in UTC; Now must be set.
type Options struct {
	Width int
	Color bool
	// Now is the time that ages are counted to.
	Now time.Time
	// Location is the zone of all times.
	Location *time.Location
}

func (o Options) withDefaults() Options {
	if o.Width < 40 {
		o.Width = 80
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	return o
}

// glyph is how a condition looks: in a strip, in a bar, and its colour.
type glyph struct {
	mark, bar rune
	color     string
}

// The colours suit dark and light terminals and differ for colour-blind eyes; no meaning is in colour alone.
const (
	dim    = "\x1b[2m"
	bold   = "\x1b[1m"
	blue   = "\x1b[34m"
	cyan   = "\x1b[36m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	red    = "\x1b[31m"
	reset  = "\x1b[0m"
)

func look(c learning.ConditionType) glyph {
	switch c {
	case learning.Waiting:
		return glyph{'○', '░', dim}
	case learning.Ready:
		return glyph{'◔', '▒', cyan}
	case learning.Starting:
		return glyph{'◑', '▓', yellow}
	case learning.Running:
		return glyph{'●', '█', blue}
	case learning.Completed:
		return glyph{'✔', '✔', green}
	case learning.Failed:
		return glyph{'✖', '✖', red}
	}
	return glyph{'·', ' ', ""}
}

// page collects lines; the first error of the writer stays.
type page struct {
	w   io.Writer
	o   Options
	err error
}

func (p *page) line(parts ...string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, strings.TrimRight(strings.Join(parts, ""), " ")+"\n")
	}
}

// paint colours text, where colours are asked for.
func (p *page) paint(color, text string) string {
	if !p.o.Color || color == "" || strings.TrimSpace(text) == "" {
		return text
	}
	return color + text + reset
}

// clean makes a foreign text safe for one line of a terminal.
func clean(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || (unicode.IsControl(r) && !unicode.IsSpace(r)) || unicode.In(r, unicode.Cf) {
			return -1
		}
		return r
	}, s)), " ")
}

// fit cuts or fills a text to exactly n columns.
func fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	if k := utf8.RuneCountInString(s); k <= n {
		return s + strings.Repeat(" ", n-k)
	}
	return string([]rune(s)[:n-1]) + "…"
}

// right is fit with the text at the right edge.
func right(s string, n int) string {
	if k := utf8.RuneCountInString(s); k < n {
		return strings.Repeat(" ", n-k) + s
	}
	return fit(s, n)
}

// wrap breaks a text into lines of at most n columns.
func wrap(s string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > n {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, fit(line, max(n, utf8.RuneCountInString(line))))
	}
	return lines
}

// age writes a duration in at most five columns: 42s, 3m20s, 5h12m, 3d4h, 112d.
func age(d time.Duration) string {
	d = max(d, 0)
	switch s := int64(d / time.Second); {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 36_000:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	case s < 86_400:
		return fmt.Sprintf("%dh", s/3600)
	case s < 864_000:
		return fmt.Sprintf("%dd%dh", s/86_400, s/3600%24)
	default:
		return fmt.Sprintf("%dd", s/86_400)
	}
}

func seconds(s float64) string { return age(time.Duration(s * float64(time.Second))) }

// value writes a number with at most four significant digits.
func value(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// shortKind leaves out what every kind of job says anyway.
func shortKind(kind string) string {
	for _, suffix := range []string{"LearningJob", "Service", "Job"} {
		if s, ok := strings.CutSuffix(kind, suffix); ok && s != "" {
			return s
		}
	}
	return kind
}
