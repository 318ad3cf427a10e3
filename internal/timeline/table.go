// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"io"
	"strings"

	"github.com/periplus-io/periplus/internal/learning"
)

// column is one column of a table.
type column struct {
	title string
	width int
	right bool
	cell  func(j *learning.Job) (text, color string)
}

// Jobs draws a page of jobs as a table. Wider terminals get more columns.
func Jobs(w io.Writer, list learning.JobPage, o Options) error {
	p := &page{w: w, o: o.withDefaults()}
	if len(list.Jobs) == 0 {
		p.line("No jobs match.")
		return p.err
	}
	columns := p.columns(list.Jobs)
	var head strings.Builder
	for i, c := range columns {
		head.WriteString(gap(i) + c.place(c.title))
	}
	p.line(p.paint(bold, head.String()))
	for i := range list.Jobs {
		var row strings.Builder
		for k, c := range columns {
			text, color := c.cell(&list.Jobs[i])
			row.WriteString(gap(k) + p.paint(color, c.place(text)))
		}
		p.line(row.String())
	}
	if n := list.Offset + len(list.Jobs); list.Total > len(list.Jobs) {
		p.line()
		p.line(p.paint(dim, fmt.Sprintf("%d to %d of %d jobs", list.Offset+1, n, list.Total)))
	}
	return p.err
}

func gap(i int) string {
	if i == 0 {
		return ""
	}
	return "  "
}

func (c *column) place(text string) string {
	if c.right {
		return right(text, c.width)
	}
	return fit(text, c.width)
}

// columns chooses what fits; the job's name takes the room that is left, but no more than it needs.
func (p *page) columns(jobs []learning.Job) []column {
	kind := column{title: "KIND", width: 14, cell: func(j *learning.Job) (string, string) { return clean(shortKind(j.Kind)), "" }}
	if p.o.Width < 112 {
		kind = column{title: "KIND", width: 4, cell: func(j *learning.Job) (string, string) { return capitals(j.Kind), "" }}
	}
	out := []column{
		kind,
		{title: "T E D", width: 5, cell: func(j *learning.Job) (string, string) { return strip(j), look(j.Condition).color }},
		{title: "CONDITION", width: 15, cell: condition},
		{title: "RND", width: 4, right: true, cell: func(j *learning.Job) (string, string) { return orDash(j.Round), "" }},
		{title: "SCORE", width: 6, right: true, cell: func(j *learning.Job) (string, string) { return score(j.Score), "" }},
	}
	if p.o.Width >= 112 {
		out = append(out,
			column{title: "SAMPLES", width: 8, right: true, cell: func(j *learning.Job) (string, string) { return number(j.Samples), "" }},
			column{title: "NODES", width: 16, cell: func(j *learning.Job) (string, string) { return nodes(j.Nodes), "" }})
	}
	out = append(out,
		column{title: "WORK", width: 5, right: true, cell: workers},
		column{title: "SINCE", width: 5, right: true, cell: p.since})
	rest := p.o.Width
	for _, c := range out {
		rest -= c.width + 2
	}
	need := len("JOB")
	for i := range jobs {
		need = max(need, len([]rune(jobName(&jobs[i]))))
	}
	name := column{title: "JOB", width: max(8, min(rest, need)), cell: func(j *learning.Job) (string, string) { return jobName(j), bold }}
	return append([]column{name}, out...)
}

func jobName(j *learning.Job) string {
	if j.Namespace == "" {
		return clean(j.Name)
	}
	return clean(j.Namespace + "/" + j.Name)
}

// capitals shortens a kind to its capital letters.
func capitals(kind string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, kind)
}

// strip draws one mark for each stage.
func strip(j *learning.Job) string {
	var out strings.Builder
	for i, s := range learning.Stages() {
		if i > 0 {
			out.WriteString(" ")
		}
		mark := look("").mark
		for _, st := range j.Stages {
			if st.Stage == s {
				mark = look(st.Condition).mark
			}
		}
		out.WriteString(string(mark))
	}
	return out.String()
}

func condition(j *learning.Job) (string, string) {
	switch {
	case j.Deleted != nil:
		return "deleted", dim
	case j.Stage != "":
		return string(j.Stage) + " " + string(j.Condition), look(j.Condition).color
	case j.Phase != "":
		return clean(j.Phase), ""
	}
	return "-", dim
}

func workers(j *learning.Job) (string, string) {
	if j.Workers.Total == 0 {
		return "-", dim
	}
	return fmt.Sprintf("%d/%d", j.Workers.Active, j.Workers.Total), ""
}

func (p *page) since(j *learning.Job) (string, string) {
	at := j.Created
	if j.Since != nil {
		at = *j.Since
	}
	if j.Deleted != nil {
		at = *j.Deleted
	}
	return age(p.o.Now.Sub(at)), ""
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func score(s *learning.Score) string {
	if s == nil {
		return "-"
	}
	return value(s.Value)
}

func number(v *float64) string {
	if v == nil {
		return "-"
	}
	return value(*v)
}

func nodes(list []string) string {
	switch len(list) {
	case 0:
		return "-"
	case 1:
		return clean(list[0])
	}
	return clean(fmt.Sprintf("%s +%d", list[0], len(list)-1))
}
