// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/periplus-io/periplus/internal/learning"
)

// rounds draws one line for each of the newest rounds, newest last.
func (p *page) rounds(d *learning.JobDetail) {
	if len(d.Rounds) == 0 {
		return
	}
	p.line()
	first := max(0, len(d.Rounds)-maxRounds)
	head := []string{fit("ROUND", 7), fit("BEGAN", 16)}
	for _, s := range p.stagesOf(d) {
		head = append(head, fit(strings.ToUpper(string(s)), 11))
	}
	p.line(p.paint(bold, strings.Join(append(head, "SCORES"), "")))
	if first > 0 {
		p.line(p.paint(dim, fmt.Sprintf("  … %d earlier rounds", first)))
	}
	for i := first; i < len(d.Rounds); i++ {
		p.round(d, &d.Rounds[i])
	}
}

func (p *page) stagesOf(d *learning.JobDetail) []learning.Stage {
	var out []learning.Stage
	for _, s := range learning.Stages() {
		for _, st := range d.Stages {
			if st.Stage == s {
				out = append(out, s)
			}
		}
	}
	return out
}

func (p *page) round(d *learning.JobDetail, r *learning.Round) {
	line := []string{right(strconv.Itoa(r.Number), 5), "  ", fit(r.Start.In(p.o.Location).Format("01-02 15:04:05"), 16)}
	width := 7 + 16
	for _, s := range p.stagesOf(d) {
		line = append(line, p.stageCell(r, s))
		width += 11
	}
	if room := p.o.Width - width; room > 8 {
		line = append(line, fit(scoreList(r.Scores), room))
	}
	p.line(line...)
}

func (p *page) stageCell(r *learning.Round, s learning.Stage) string {
	for _, st := range r.Stages {
		if st.Stage != s {
			continue
		}
		g := look(st.Condition)
		text := string(st.Condition)
		if st.Duration != nil {
			text = seconds(*st.Duration)
		}
		if s == learning.Deploy && r.Deploy != "" && st.Condition == learning.Completed {
			text = r.Deploy
		}
		return p.paint(g.color, string(g.mark)) + " " + fit(clean(text), 9)
	}
	return fit("", 11)
}

// scoreList writes the new model's scores, with the old one's beside them where both are given.
func scoreList(scores []learning.Score) string {
	var out []string
	for _, s := range scores {
		if s.Model == "old" {
			continue
		}
		name := s.Metric
		if s.Task != "" {
			name = s.Task + " " + name
		}
		if s.Index != "" {
			name += "[" + s.Index + "]"
		}
		var text strings.Builder
		text.WriteString(clean(name) + " " + value(s.Value))
		if s.Model != "new" {
			text.WriteString(" of " + clean(s.Model))
		}
		for _, o := range scores {
			if o.Model == "old" && o.Metric == s.Metric && o.Task == s.Task && o.Index == s.Index {
				text.WriteString(" (was " + value(o.Value) + ")")
			}
		}
		out = append(out, text.String())
	}
	return strings.Join(out, ", ")
}

// facts draws what the job works with, one subject a line.
func (p *page) facts(d *learning.JobDetail) {
	p.line()
	for _, ds := range d.Datasets {
		text := clean(ds.Name)
		if ds.Samples != nil {
			text += ", " + value(*ds.Samples) + " samples"
		}
		if ds.Node != "" {
			text += ", on " + clean(ds.Node)
		}
		p.block("dataset", []string{text})
	}
	var params []string
	for _, q := range d.Parameters {
		text := strings.TrimPrefix(q.Name, "learning_train_") + " " + value(q.Value)
		if q.Template != "" {
			text = "worker " + q.Template + " " + text
		}
		params = append(params, text)
	}
	if len(params) > 0 {
		p.block("training", []string{strings.Join(params, ", ")})
	}
	for _, t := range d.Thresholds {
		p.block("decision", []string{fmt.Sprintf("%s when %s %s %s", t.Effect, orScore(t.Metric), t.Operator, value(t.Value))})
	}
	if kb := d.KnowledgeBase; kb != nil {
		p.block("knows", []string{knowledge(kb)})
	}
	if in := d.Inference; in != nil {
		p.block("answered", []string{fmt.Sprintf("%s at the edge, %s in the cloud, %s hard", number(in.Edge), number(in.Cloud), number(in.Hard))})
	}
	for _, m := range d.Models {
		p.block("model", []string{fmt.Sprintf("%s: %s", m.Stage, m.URL)})
	}
	p.block("tasks", []string{fmt.Sprintf("%d active, %d in all", d.Job.Tasks.Active, d.Job.Tasks.Total)})
}

func orScore(metric string) string {
	if metric == "" {
		return "the score"
	}
	return metric
}

func knowledge(kb *learning.KnowledgeBase) string {
	var out []string
	add := func(v *float64, one, many string) {
		switch {
		case v == nil:
		case *v == 1:
			out = append(out, "1 "+one)
		default:
			out = append(out, value(*v)+" "+many)
		}
	}
	add(kb.Models, "model", "models")
	add(kb.Classes, "class", "classes")
	add(kb.UnseenLabeledSamples, "labelled unseen sample", "labelled unseen samples")
	if kb.Address != "" {
		out = append(out, "at "+kb.Address)
	}
	return strings.Join(out, ", ")
}

func (p *page) workers(d *learning.JobDetail) {
	if len(d.Workers) == 0 {
		return
	}
	name := 8
	for _, w := range d.Workers {
		name = max(name, len([]rune(clean(w.Pod))))
	}
	name = min(name, max(20, p.o.Width-50))
	p.line()
	p.line(p.paint(bold, fit("WORKER", name+2)+fit("TYPE", 16)+fit("NODE", 14)+fit("STATE", 8)+right("RESTARTS", 8)))
	for i, w := range d.Workers {
		if i == maxWorkers {
			p.line(p.paint(dim, fmt.Sprintf("… %d more", len(d.Workers)-i)))
			break
		}
		where := clean(w.Node)
		if where == "" {
			where = "-"
		}
		kind := clean(w.Type)
		if w.Location != "" {
			kind += "@" + w.Location
		}
		line := fit(clean(w.Pod), name) + "  " + fit(kind, 15) + " " + fit(where, 13) + " " +
			p.paint(workerColor(w.Status), fit(w.Status, 7)) + " " + right(strconv.Itoa(w.Restarts), 8)
		if room := p.o.Width - name - 2 - 16 - 14 - 8 - 8 - 2; w.Reason != "" && room > 10 {
			line += "  " + fit(clean(w.Reason), room)
		}
		p.line(line)
	}
}

func workerColor(status string) string {
	switch status {
	case "active":
		return green
	case "waiting":
		return yellow
	}
	return dim
}
