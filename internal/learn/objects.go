// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

// maxMetrics bounds the entries of a model's own metrics.
const maxMetrics = 1000

type dataset struct {
	learning.Dataset
	uid string
}

type model struct {
	learning.Model
	uid string
}

// set hands the series of an owner on and counts them.
func (l *Learn) set(owner string, at time.Time, earlier, current []wire.Sample) {
	l.m.out.WithLabelValues("earlier").Add(float64(len(earlier)))
	l.m.out.WithLabelValues("current").Add(float64(len(current)))
	l.o.Sink.Set(owner, at, earlier, current)
}

func keyOf(m *mapping.Mapping, o resource.Object) name {
	return name{o.Namespace(), m.Kind, o.Name()}
}

// objectOwner names an object as an owner of series.
func objectOwner(role string, k name, uid string) string {
	return "learn/" + role + "/" + k.namespace + "/" + k.name + "/" + uid
}

func timeAt(p mapping.Path, o resource.Object) *time.Time {
	if t := mapping.Time(p.Get(map[string]any(o))); !t.IsZero() {
		return &t
	}
	return nil
}

func (l *Learn) applyDataset(m *mapping.Mapping, ev resource.Event, deleted bool) {
	o, key := ev.Object, name{namespace: ev.Object.Namespace(), name: ev.Object.Name()} // jobs name datasets without a kind
	old := l.datasets[key]
	owner := objectOwner("dataset", key, o.UID())
	if deleted {
		if old == nil || old.uid != o.UID() {
			return
		}
		delete(l.datasets, key)
		l.o.Sink.Remove(owner, ev.Received)
		l.datasetChanged(key, ev.Received)
		return
	}
	f := facts.Read(m, o)
	d := &dataset{uid: o.UID(), Dataset: learning.Dataset{
		Namespace: o.Namespace(), Name: o.Name(), URL: f.Info["url"], Format: f.Info["format"], Node: f.Info["node"], Updated: timeAt(m.Times["updated"], o),
	}}
	if v, ok := f.Gauges["learning_dataset_samples"]; ok {
		d.Samples = &v
	}
	if old != nil && old.uid != d.uid {
		l.o.Sink.Remove(objectOwner("dataset", key, old.uid), ev.Received)
	}
	l.datasets[key] = d
	at := ev.Received
	if d.Updated != nil && !ev.Initial && old != nil && d.Updated.After(at.Add(-fresh)) {
		at = *d.Updated
	}
	lost := map[string]int{}
	s := newSeries(l.o.Config.SeriesLimit, lost, "namespace", d.Namespace, "dataset", d.Name)
	t := at.UnixMilli()
	s.now(t, false, "learning_dataset_info", 1, "url", d.URL, "format", d.Format, "node", d.Node)
	facts.Optional(s.now, t, d.Samples, "learning_dataset_samples")
	if d.Updated != nil {
		s.now(t, false, "learning_dataset_updated_seconds", float64(d.Updated.UnixMilli())/1000)
	}
	_, current := s.samples()
	l.set(owner, at, nil, current)
	if old == nil || !equalNumber(old.Samples, d.Samples) {
		l.datasetChanged(key, ev.Received)
		if !ev.Initial {
			l.publish(learning.Event{
				Type: learning.DatasetChanged, Time: at.UTC(), Namespace: d.Namespace, Kind: m.Kind, Name: d.Name, UID: d.uid, Message: samplesText(d.Samples),
			})
		}
	}
}

func samplesText(n *float64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatFloat(*n, 'f', -1, 64) + " samples"
}

func equalNumber(a, b *float64) bool { return a == b || (a != nil && b != nil && *a == *b) }

// datasetChanged makes the series anew that depend on the size of a dataset.
func (l *Learn) datasetChanged(key name, at time.Time) {
	for j := range l.users[key] {
		if j.live {
			l.setSamples(j, at)
		}
	}
}

func (j *job) samplesOwner() string { return "learn/samples/" + j.rec.UID }

// setSamples gives the estimated samples per stage, where the dataset and the split are known.
func (l *Learn) setSamples(j *job, at time.Time) {
	d := l.datasets[name{namespace: j.rec.Namespace, name: j.dataset}]
	if j.ratio < 0 || d == nil || d.Samples == nil {
		if j.estimated {
			l.o.Sink.Remove(j.samplesOwner(), at)
			j.estimated = false
		}
		return
	}
	s := newSeries(l.o.Config.SeriesLimit, map[string]int{}, j.labels()...)
	train := float64(int64(*d.Samples*j.ratio + 0.5))
	t := at.UnixMilli()
	s.now(t, false, "learning_job_stage_samples", train, "stage", string(learning.Train), "dataset", j.dataset, "estimated", "true")
	s.now(t, false, "learning_job_stage_samples", *d.Samples-train, "stage", string(learning.Eval), "dataset", j.dataset, "estimated", "true")
	_, current := s.samples()
	l.set(j.samplesOwner(), at, nil, current)
	j.estimated = true
}

func (l *Learn) applyModel(m *mapping.Mapping, ev resource.Event, deleted bool) {
	o, key := ev.Object, keyOf(m, ev.Object)
	old := l.models[key]
	owner := objectOwner("model", key, o.UID())
	if deleted {
		if old != nil && old.uid == o.UID() {
			delete(l.models, key)
			l.o.Sink.Remove(owner, ev.Received)
		}
		return
	}
	f := facts.Read(m, o)
	lost := history.Lost{}
	mod := &model{uid: o.UID(), Model: learning.Model{
		Namespace: o.Namespace(), Name: o.Name(), URL: f.Info["url"], Format: f.Info["format"], Updated: timeAt(m.Times["updated"], o),
		Metrics: modelMetrics(m.Metrics.List(map[string]any(o)), lost),
	}}
	if old != nil && old.uid != mod.uid {
		l.o.Sink.Remove(objectOwner("model", key, old.uid), ev.Received)
	}
	l.models[key] = mod
	s := newSeries(l.o.Config.SeriesLimit, lost, "namespace", mod.Namespace, "model", mod.Name)
	t := ev.Received.UnixMilli()
	s.now(t, false, "learning_model_info", 1, "url", mod.URL, "format", mod.Format)
	for _, e := range mod.Metrics {
		if e.Value != nil {
			s.now(t, false, "learning_model_metric", *e.Value, "key", e.Key, "index", e.Index)
		} else {
			s.now(t, false, "learning_model_metric_info", 1, "key", e.Key, "value", e.Text)
		}
	}
	_, current := s.samples()
	l.set(owner, ev.Received, nil, current)
	l.lose("model "+key.namespace+"/"+key.name, lost)
	if !ev.Initial {
		l.publish(learning.Event{Type: learning.ModelChanged, Time: ev.Received.UTC(), Namespace: mod.Namespace, Kind: m.Kind, Name: mod.Name, UID: mod.uid})
	}
}

// modelMetrics reads a list of key and value, where a value may be JSON in a string.
func modelMetrics(list []any, lost map[string]int) []learning.ModelMetric {
	var out []learning.ModelMetric
	seen := map[string]struct{}{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		key := facts.Clip(textOf(m["key"]))
		if _, dup := seen[key]; dup || key == "" || len(out) >= maxMetrics {
			lost["bad_model_metric"]++
			continue
		}
		seen[key] = struct{}{}
		v := m["value"]
		if s, ok := v.(string); ok && strings.HasPrefix(strings.TrimSpace(s), "[") {
			var decoded []any
			if json.Unmarshal([]byte(s), &decoded) == nil {
				v = decoded
			}
		}
		out = append(out, modelMetric(key, v)...)
	}
	return out
}

func modelMetric(key string, v any) []learning.ModelMetric {
	if n, ok := mapping.Number(v); ok {
		return []learning.ModelMetric{{Key: key, Value: &n}}
	}
	list, ok := v.([]any)
	out := make([]learning.ModelMetric, 0, len(list))
	for i, e := range list {
		n, number := mapping.Number(e)
		ok = ok && number && i < maxMetrics
		index := ""
		if len(list) > 1 {
			index = strconv.Itoa(i)
		}
		out = append(out, learning.ModelMetric{Key: key, Index: index, Value: &n})
	}
	if ok && len(out) > 0 {
		return out
	}
	text := textOf(v)
	if len(text) > 256 {
		text = text[:256]
	}
	return []learning.ModelMetric{{Key: key, Text: strings.ToValidUTF8(text, "")}}
}

// textOf gives a string as it is and anything else as JSON.
func textOf(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
