// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/periplus-io/periplus/internal/learning"
)

// What one picture shows at most.
const (
	maxRounds  = 8
	maxWorkers = 20
	margin     = 9
)

// Job draws one job: where it is and why, its timeline, rounds, workers and newest message.
func Job(w io.Writer, d learning.JobDetail, o Options) error {
	p := &page{w: w, o: o.withDefaults()}
	p.head(&d)
	p.chart(&d)
	p.rounds(&d)
	p.facts(&d)
	p.workers(&d)
	return p.err
}

func (p *page) head(d *learning.JobDetail) {
	name := jobName(&d.Job)
	p.line(p.paint(bold, name), "  ", p.paint(dim, clean(d.Kind)))
	state, color := condition(&d.Job)
	line := p.paint(color, string(look(d.Condition).mark)+" "+state)
	switch {
	case d.Deleted != nil:
		line += fmt.Sprintf(" at %s", p.stamp(*d.Deleted))
	case d.Since != nil:
		line += fmt.Sprintf(" for %s, since %s", age(p.o.Now.Sub(*d.Since)), p.stamp(*d.Since))
	}
	p.line(line)
	if d.Message != "" {
		p.block("message", []string{d.Message})
	}
	if len(d.Why) > 0 {
		p.block("why", d.Why)
	}
}

// block draws texts beside a word in the margin.
func (p *page) block(title string, texts []string) {
	for i, text := range texts {
		for k, line := range wrap(clean(text), p.o.Width-margin) {
			word := ""
			if i == 0 && k == 0 {
				word = title
			}
			p.line(p.paint(dim, fit(word, margin)), fit(line, min(utf8.RuneCountInString(line), p.o.Width-margin)))
		}
	}
}

// chart draws the spans of the newest rounds against time.
func (p *page) chart(d *learning.JobDetail) {
	from, spans := shown(d)
	if len(spans) == 0 {
		p.line()
		p.line(p.paint(dim, "No condition has been seen yet."))
		return
	}
	c := canvas{from: from, to: p.endOf(d, from, spans[len(spans)-1].Start), width: p.o.Width - margin}
	p.line()
	p.line(strings.Repeat(" ", margin), p.paint(dim, c.roundMarks(d, from)))
	for _, stage := range learning.Stages() {
		cells := c.row(spans, stage)
		if cells == nil {
			continue
		}
		p.line(fit(string(stage), margin), p.bar(cells))
	}
	p.line(strings.Repeat(" ", margin), p.paint(dim, c.axis(p.o.Location)))
	legend := []string{strings.Repeat(" ", margin)}
	for _, t := range learning.ConditionTypes() {
		legend = append(legend, p.paint(look(t).color, string(look(t).bar)), " ", p.paint(dim, string(t)), "  ")
	}
	p.line(legend...)
}

// endOf gives where the time axis ends: now, or soon after the last change of a job that is over.
func (p *page) endOf(d *learning.JobDetail, from, last time.Time) time.Time {
	to := p.o.Now
	switch {
	case d.Deleted != nil:
		to = *d.Deleted
	case d.Completed != nil && (d.Condition == learning.Completed || d.Condition == learning.Failed):
		to = last.Add(last.Sub(from) / 20)
	}
	if !to.After(last) {
		to = last.Add(time.Second)
	}
	return to
}

// shown gives the spans of the newest rounds and when they begin.
func shown(d *learning.JobDetail) (from time.Time, spans []learning.Span) {
	first := 0
	if n := len(d.Rounds); n > 0 {
		first = d.Rounds[max(0, n-maxRounds)].Number
	}
	if len(d.Rounds) <= maxRounds {
		first = 0
	}
	for _, s := range d.Spans {
		if s.Round >= first {
			spans = append(spans, s)
		}
	}
	if len(spans) == 0 {
		spans = d.Spans
	}
	if len(spans) > 0 {
		from = spans[0].Start
	}
	return from, spans
}

// canvas maps time to columns.
type canvas struct {
	from, to time.Time
	width    int
}

func (c *canvas) column(t time.Time) int {
	share := float64(t.Sub(c.from)) / float64(c.to.Sub(c.from))
	return max(0, min(c.width-1, int(share*float64(c.width))))
}

// row gives for each column the condition to draw, or nil for a stage without spans. Where several meet in one
// column, the one nearer to the end of a pass wins; a pass that ended leaves a mark and no bar.
func (c *canvas) row(spans []learning.Span, stage learning.Stage) []learning.ConditionType {
	var cells []learning.ConditionType
	for _, s := range spans {
		if s.Stage != stage {
			continue
		}
		if cells == nil {
			cells = make([]learning.ConditionType, c.width)
		}
		end := c.to
		if s.End != nil {
			end = *s.End
		}
		a, b := c.column(s.Start), c.column(end)
		if s.Condition == learning.Completed || s.Condition == learning.Failed {
			b = a
		}
		for i := a; i <= b; i++ {
			if rank(s.Condition) >= rank(cells[i]) {
				cells[i] = s.Condition
			}
		}
	}
	return cells
}

func rank(c learning.ConditionType) int { return slices.Index(learning.ConditionTypes(), c) }

// bar draws cells, runs of one condition in one colour.
func (p *page) bar(cells []learning.ConditionType) string {
	var b strings.Builder
	for i := 0; i < len(cells); {
		j := i
		for j < len(cells) && cells[j] == cells[i] {
			j++
		}
		g := look(cells[i])
		b.WriteString(p.paint(g.color, strings.Repeat(string(g.bar), j-i)))
		i = j
	}
	return b.String()
}

// roundMarks writes the number of each round above its beginning.
func (c *canvas) roundMarks(d *learning.JobDetail, from time.Time) string {
	cells := []rune(strings.Repeat(" ", c.width))
	free := 0
	for _, r := range d.Rounds {
		if r.Start.Before(from) {
			continue
		}
		text := []rune(fmt.Sprintf("│%d", r.Number))
		if at := c.column(r.Start); at >= free && at+len(text) <= c.width {
			copy(cells[at:], text)
			free = at + len(text) + 1
		}
	}
	return string(cells)
}

// axis writes times below the bars, as many as fit.
func (c *canvas) axis(zone *time.Location) string {
	form := "15:04:05"
	switch span := c.to.Sub(c.from); {
	case span > 60*24*time.Hour:
		form = "2006-01-02"
	case span > 20*time.Hour:
		form = "01-02 15:04"
	case span > 20*time.Minute:
		form = "15:04"
	}
	cells := []rune(strings.Repeat(" ", c.width))
	step := max(len(form)+6, c.width/5)
	for at := 0; at+1+len(form) <= c.width; at += step {
		t := c.from.Add(time.Duration(float64(c.to.Sub(c.from)) * float64(at) / float64(c.width)))
		copy(cells[at:], []rune("└"+t.In(zone).Format(form)))
	}
	return string(cells)
}

func (p *page) stamp(t time.Time) string {
	return t.In(p.o.Location).Format("2006-01-02 15:04:05 MST")
}
