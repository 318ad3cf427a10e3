// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package facts reads what a job's object says beside its conditions: parameters, thresholds, triggers, datasets,
// counters and what it knows of a knowledge base, as the mapping of its kind tells. Whatever is missing or has
// another shape is left out, and texts are bounded, because they become labels.
package facts

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// maxLabel bounds a text in bytes.
const maxLabel = 1 << 10

// Facts is what a job's object says beside its conditions. It is kept as JSON with the object's record; times are in ms.
type Facts struct {
	Info       map[string]string       `json:"info,omitempty"`
	Started    int64                   `json:"started,omitempty"`
	Completed  int64                   `json:"completed,omitempty"`
	Gauges     map[string]float64      `json:"gauges,omitempty"`
	Phase      string                  `json:"phase,omitempty"`
	Parameters []learning.Parameter    `json:"parameters,omitempty"`
	Thresholds []learning.Threshold    `json:"thresholds,omitempty"`
	Triggers   []learning.Trigger      `json:"triggers,omitempty"`
	Datasets   []string                `json:"datasets,omitempty"`
	Ratio      *float64                `json:"ratio,omitempty"`
	Inference  *learning.Inference     `json:"inference,omitempty"`
	Knowledge  *learning.KnowledgeBase `json:"knowledge,omitempty"`
}

// Read applies a mapping to an object.
func Read(m *mapping.Mapping, o resource.Object) Facts {
	root := map[string]any(o)
	f := Facts{Info: map[string]string{}, Gauges: map[string]float64{}}
	for k, p := range m.Info {
		if v := Clip(p.Text(root)); v != "" {
			f.Info[k] = v
		}
	}
	for k, p := range m.Gauges {
		if v, ok := p.Number(root); ok {
			f.Gauges[k] = v
		}
	}
	f.Started, f.Completed = millis(m.Times["start"], root), millis(m.Times["completion"], root)
	if p := m.Phase.Path.Text(root); slices.Contains(m.Phase.Values, p) {
		f.Phase = p
	}
	f.Parameters = readParameters(&m.Parameters, root)
	for i := range m.Thresholds {
		if t, ok := readThreshold(&m.Thresholds[i], root); ok {
			f.Thresholds = append(f.Thresholds, t)
		}
	}
	for _, t := range m.Triggers {
		if found, ok := readTrigger(t, root); ok {
			f.Triggers = append(f.Triggers, found)
		}
	}
	m.Samples.Dataset.Each(root, func(v any) {
		if s, _ := v.(string); s != "" && !slices.Contains(f.Datasets, s) && len(f.Datasets) < 1000 {
			f.Datasets = append(f.Datasets, Clip(s))
		}
	})
	if v, ok := m.Samples.TrainRatio.Number(root); ok && v >= 0 && v <= 1 {
		f.Ratio = &v
	}
	f.Inference = readInference(&m.Inference, root)
	f.Knowledge = readKnowledge(m, root, f.Gauges)
	return f
}

func millis(p mapping.Path, root any) int64 {
	if t := mapping.Time(p.Get(root)); !t.IsZero() {
		return t.UnixMilli()
	}
	return 0
}

// readParameters reads hyper-parameters; where there are several training workers each is a template named by its place.
func readParameters(p *mapping.Parameters, root any) []learning.Parameter {
	var out []learning.Parameter
	read := func(worker any, template string) {
		env, _ := p.Env.Get(worker).([]any)
		for _, series := range slices.Sorted(maps.Keys(p.Names)) {
			for _, key := range p.Names[series] {
				if v, ok := mapping.Number(Environment(env, key)); ok {
					out = append(out, learning.Parameter{Name: series, Value: v, Template: template})
					break
				}
			}
		}
	}
	if p.Each.Zero() {
		read(root, "")
		return out
	}
	i := 0
	p.Each.Each(root, func(worker any) {
		if i < 1000 {
			read(worker, strconv.Itoa(i))
		}
		i++
	})
	return out
}

// Environment gives the value of an entry of a container's environment, whatever the case of its name.
func Environment(env []any, key string) string {
	for _, e := range env {
		m, _ := e.(map[string]any)
		if n, _ := m["name"].(string); strings.EqualFold(n, key) {
			v, _ := m["value"].(string)
			return v
		}
	}
	return ""
}

func readThreshold(t *mapping.Threshold, root any) (learning.Threshold, bool) {
	out := learning.Threshold{Effect: t.Effect}
	if t.In.Get(root) == nil {
		return out, false
	}
	env, _ := t.Env.Get(root).([]any)
	lookup := func(places []mapping.Path) string {
		for _, p := range places {
			v := p.Text(root)
			if !t.Env.Zero() {
				v = Environment(env, p.String())
			}
			if v != "" {
				return v
			}
		}
		return ""
	}
	out.Metric = Clip(lookup(t.Metric))
	operator, known := normalise(lookup(t.Operator))
	value, ok := mapping.Number(lookup(t.Value))
	if t.Default != nil {
		switch {
		case operator == "":
			operator = t.Default.Operator
		case !known && t.Default.Unknown != "":
			operator = t.Default.Unknown
		}
		if !ok {
			value, ok = t.Default.Value, true
		}
	}
	out.Operator, out.Value = Clip(operator), value
	return out, ok
}

// normalise writes a comparison as a sign and says whether it is one.
func normalise(operator string) (string, bool) {
	s := strings.ToLower(strings.TrimSpace(operator))
	switch s {
	case "gt", ">":
		return ">", true
	case "ge", "gte", ">=":
		return ">=", true
	case "eq", "=", "==":
		return "=", true
	case "ne", "!=":
		return "!=", true
	case "le", "lte", "<=":
		return "<=", true
	case "lt", "<":
		return "<", true
	}
	return s, false
}

// readTrigger reads when a stage begins, in the shape {checkPeriodSeconds, timer, condition}.
func readTrigger(t mapping.Trigger, root any) (learning.Trigger, bool) {
	out := learning.Trigger{Stage: t.Stage}
	m, ok := t.Path.Get(root).(map[string]any)
	if !ok {
		return out, false
	}
	out.CheckPeriod, _ = mapping.Number(m["checkPeriodSeconds"])
	if timer, _ := m["timer"].(map[string]any); timer != nil {
		out.From, _ = timer["start"].(string)
		out.To, _ = timer["end"].(string)
	}
	if c, _ := m["condition"].(map[string]any); c != nil {
		operator, _ := c["operator"].(string)
		out.Operator, _ = normalise(operator)
		out.Metric, _ = c["metric"].(string)
		if v, ok := mapping.Number(c["threshold"]); ok {
			out.Threshold = &v
		}
	}
	return out, true
}

// readInference reads the counters of a joint inference service; what went to the cloud is the share that was uploaded.
func readInference(in *mapping.Inference, root any) *learning.Inference {
	if in.Path.Zero() {
		return nil
	}
	find := func(key string) *float64 {
		for _, e := range in.Path.List(root) {
			m, _ := e.(map[string]any)
			if k, _ := m["key"].(string); k != key {
				continue
			}
			if v, ok := mapping.Number(m["value"]); ok {
				return &v
			}
		}
		return nil
	}
	out := &learning.Inference{Hard: find(in.Hard), UploadRatio: find(in.UploadRatio)}
	if total := find(in.Total); total != nil && out.UploadRatio != nil && *out.UploadRatio >= 0 && *out.UploadRatio <= 1 {
		cloud := float64(int64(*total**out.UploadRatio + 0.5))
		edge := *total - cloud
		out.Edge, out.Cloud = &edge, &cloud
	}
	if *out == (learning.Inference{}) {
		return nil
	}
	return out
}

func readKnowledge(m *mapping.Mapping, root any, gauges map[string]float64) *learning.KnowledgeBase {
	gauge := func(name string) *float64 {
		if v, ok := gauges[name]; ok {
			return &v
		}
		return nil
	}
	kb := &learning.KnowledgeBase{
		Models: gauge("learning_job_knowledge_models"), Classes: gauge("learning_job_knowledge_classes"),
		UnseenSamples: gauge("learning_job_knowledge_unseen_samples"), UnseenLabeledSamples: gauge("learning_job_knowledge_unseen_labeled_samples"),
	}
	k := &m.Knowledge
	for _, v := range k.Classes.List(root) {
		if s, _ := v.(string); s != "" && len(kb.ClassNames) < 1000 {
			kb.ClassNames = append(kb.ClassNames, Clip(s))
		}
	}
	for _, v := range k.Models.List(root) {
		id := Clip(k.ID.Text(v))
		if id == "" || len(kb.ModelList) >= 1000 {
			continue
		}
		fields, _ := v.(map[string]any)
		entry := learning.KnowledgeModel{ID: id}
		if n, ok := k.Samples.Number(v); ok {
			entry.Samples = &n
		}
		for _, field := range k.Scores {
			if n, ok := mapping.Number(fields[field]); ok {
				entry.Metric, entry.Score = field, &n
				break
			}
		}
		kb.ModelList = append(kb.ModelList, entry)
	}
	if kb.Models == nil && kb.Classes == nil && kb.UnseenSamples == nil && kb.UnseenLabeledSamples == nil && kb.ClassNames == nil && kb.ModelList == nil {
		return nil
	}
	return kb
}

// Emit records the series of the facts at t, in ms.
func (f *Facts) Emit(t int64, m *mapping.Mapping, uid string, created int64, rec history.Record) {
	rec(t, false, "learning_job_info", 1, "uid", uid, "dataset", strings.Join(f.Datasets, ","),
		"output_dir", f.Info["output_dir"], "framework", f.Info["framework"])
	moment(rec, t, created, "learning_job_created_seconds")
	moment(rec, t, f.Started, "learning_job_start_time_seconds")
	moment(rec, t, f.Completed, "learning_job_completion_time_seconds")
	for _, series := range slices.Sorted(maps.Keys(f.Gauges)) {
		rec(t, false, series, f.Gauges[series])
	}
	if f.Phase != "" {
		for _, v := range m.Phase.Values {
			rec(t, false, "learning_job_phase", truth(v == f.Phase), "phase", v)
		}
	}
	for _, p := range f.Parameters {
		rec(t, false, p.Name, p.Value, "worker_template", p.Template)
	}
	for _, h := range f.Thresholds {
		rec(t, false, "learning_eval_threshold", h.Value, "metric", h.Metric, "operator", h.Operator, "effect", h.Effect)
	}
	if in := f.Inference; in != nil {
		Optional(rec, t, in.Edge, "learning_inference_location_samples", "location", "edge")
		Optional(rec, t, in.Cloud, "learning_inference_location_samples", "location", "cloud")
		Optional(rec, t, in.Hard, "learning_inference_hard_samples")
		Optional(rec, t, in.UploadRatio, "learning_inference_upload_ratio")
	}
	if f.Knowledge != nil {
		for _, k := range f.Knowledge.ModelList {
			Optional(rec, t, k.Score, "learning_eval_score", "metric", k.Metric, "model", k.ID)
		}
	}
}

// moment records a time in ms, if there is one, as Unix seconds.
func moment(rec history.Record, t, ms int64, name string) {
	if ms > 0 {
		rec(t, false, name, float64(ms)/1000)
	}
}

// Optional records a value that may be missing.
func Optional(rec history.Record, t int64, v *float64, name string, kv ...string) {
	if v != nil {
		rec(t, false, name, *v, kv...)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Clip bounds a text that becomes a label value or is kept with every job.
func Clip(s string) string {
	if len(s) > maxLabel {
		s = s[:maxLabel]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
