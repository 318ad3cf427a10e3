// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
)

// maxLabel bounds a label value that comes from free text; maxScores the scores of one evaluation.
const (
	maxLabel  = 1 << 10
	maxScores = 1000
	maxModels = 100
	maxDepth  = 16
)

// Payload is what the JSON document of one condition says.
type Payload struct {
	Scores []learning.Score
	Models []learning.ModelRef
	Input  learning.Input
}

// DecodePayload reads the document of a condition, whatever its shape; what cannot be used is counted in lost.
func DecodePayload(c *Condition, m *mapping.Payload, lost Lost) Payload {
	var p Payload
	if c.Data == "" {
		return p
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(c.Data)))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		lost["bad_data"]++
		return p
	}
	if _, ok := doc.(map[string]any); !ok {
		lost["bad_data"]++
		return p
	}
	stage := StageName(c.Stage)
	for _, place := range m.Models {
		if place.Stage == stage {
			p.addModels(place, doc, lost)
		}
	}
	p.Input = learning.Input{Stage: stage, DataURL: clip(m.DataURL.Text(doc), maxLabel), OutputDir: clip(m.OutputDir.Text(doc), maxLabel)}
	if c.Type == completed {
		d := decoder{lost: lost, seen: map[learning.Score]struct{}{}}
		for _, place := range m.Scores {
			if place.Stage == stage {
				d.scores(place, doc)
			}
		}
		p.Scores = d.out
	}
	return p
}

func (p *Payload) addModels(place mapping.StageModels, doc any, lost Lost) {
	v := place.Path.Get(doc)
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	for _, e := range list {
		m, _ := e.(map[string]any)
		url, _ := m["url"].(string)
		if url == "" {
			if e != nil && m["url"] != nil {
				lost["bad_data"]++
			}
			continue
		}
		ref := learning.ModelRef{Stage: place.Stage, URL: clip(url, maxLabel), Format: clip(stringOf(m["format"]), maxLabel)}
		if !slices.Contains(p.Models, ref) && len(p.Models) < maxModels {
			p.Models = append(p.Models, ref)
		}
	}
}

// decoder collects scores, each identity once.
type decoder struct {
	lost Lost
	seen map[learning.Score]struct{}
	out  []learning.Score
}

func (d *decoder) scores(place mapping.Scores, doc any) {
	for i, e := range place.Models.List(doc) {
		model := place.Model
		if model == "" {
			if i < len(place.Order) {
				model = place.Order[i]
			} else {
				fields, _ := e.(map[string]any)
				if model = clip(stringOf(fields["url"]), maxLabel); model == "" {
					model = strconv.Itoa(i)
				}
			}
		} else if i > 0 {
			break // fields that name a model by role speak of the newest
		}
		d.walk(place, model, place.Path.Get(e), nil)
	}
}

// walk goes down nested objects; the keys on the way name metric and task.
func (d *decoder) walk(place mapping.Scores, model string, v any, keys []string) {
	switch v := v.(type) {
	case nil:
		return
	case map[string]any:
		if len(keys) >= maxDepth {
			d.lost["bad_data"]++
			return
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			d.walk(place, model, v[k], append(slices.Clip(keys), k))
		}
	case []any:
		for i, e := range v {
			if len(v) == 1 {
				d.add(place, model, e, keys, "")
			} else {
				d.add(place, model, e, keys, strconv.Itoa(i))
			}
		}
	default:
		d.add(place, model, v, keys, "")
	}
}

func (d *decoder) add(place mapping.Scores, model string, v any, keys []string, index string) {
	value, ok := mapping.Number(v)
	if !ok {
		d.lost["bad_data"]++
		return
	}
	s := learning.Score{Model: model, Index: index}
	switch {
	case len(keys) == 0:
		s.Metric = d.onlyMetric(place.Path.String())
	case place.Tasks:
		s.Metric, s.Task = keys[len(keys)-1], strings.Join(keys[:len(keys)-1], ".")
	default:
		s.Metric = strings.Join(keys, ".")
	}
	s.Metric, s.Task = clip(s.Metric, maxLabel), clip(s.Task, maxLabel)
	if _, dup := d.seen[s]; dup {
		return
	}
	if len(d.out) >= maxScores {
		d.lost["scores_limit"]++
		return
	}
	d.seen[s] = struct{}{}
	s.Value = value
	d.out = append(d.out, s)
}

// onlyMetric names a bare number: by the one metric that the evaluation speaks of, or else by its field.
func (d *decoder) onlyMetric(field string) string {
	name := ""
	for _, s := range d.out {
		if s.Task != "" && name != s.Metric {
			if name != "" {
				return field
			}
			name = s.Metric
		}
	}
	if name == "" {
		return field
	}
	return name
}
