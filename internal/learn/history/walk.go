// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"slices"
	"time"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
)

// Past is a job's history for people: everything that the folded list says.
type Past struct {
	Spans      []learning.Span
	Rounds     []learning.Round
	Conditions []learning.Condition
}

// Walk makes the past of a job from all of its conditions in their order. ended is when the job as a whole ended, in ms, or 0.
func Walk(all []Condition, m *mapping.Mapping, floor, ended int64) Past {
	p := Past{Spans: []learning.Span{}, Rounds: []learning.Round{}, Conditions: make([]learning.Condition, 0, len(all))}
	f := New(floor)
	open := [stages]int{-1, -1, -1}
	for i := range all {
		c := &all[i]
		p.Conditions = append(p.Conditions, c.Public())
		counted := f.Step(c, m, Lost{}, func(int64, bool, string, float64, ...string) {})
		at := time.UnixMilli(c.Time).UTC()
		if counted {
			if k := open[c.Stage]; k >= 0 {
				end := at
				if end.Before(p.Spans[k].Start) { // a clock that was wrong for a while
					end = p.Spans[k].Start
				}
				p.Spans[k].End = &end
			}
			open[c.Stage] = len(p.Spans)
			p.Spans = append(p.Spans, learning.Span{
				Stage: StageName(c.Stage), Condition: TypeName(c.Type), Round: f.round, Start: at,
				Reason: c.Reason, Message: c.Message,
			})
		}
		p.round(&f, c, m, at)
	}
	if n := len(p.Rounds); n > 0 && ended > 0 {
		end := time.UnixMilli(ended).UTC()
		if p.Rounds[n-1].End == nil && !end.Before(p.Rounds[n-1].Start) {
			p.Rounds[n-1].End = &end
		}
	}
	return p
}

// round adds what a condition says to the round it belongs to.
func (p *Past) round(f *Fold, c *Condition, m *mapping.Mapping, at time.Time) {
	if f.round == 0 {
		return
	}
	if n := len(p.Rounds); n == 0 || p.Rounds[n-1].Number != f.round {
		if n > 0 {
			end := at
			p.Rounds[n-1].End = &end
		}
		p.Rounds = append(p.Rounds, learning.Round{Number: f.round, Start: at, Stages: []learning.StageState{}})
	}
	r := &p.Rounds[len(p.Rounds)-1]
	state := f.stageState(c.Stage)
	if !f.stages[c.Stage].timed {
		state.Duration = nil // that of an earlier pass
	}
	if k := slices.IndexFunc(r.Stages, func(s learning.StageState) bool { return s.Stage == state.Stage }); k >= 0 {
		r.Stages[k] = state
	} else {
		r.Stages = append(r.Stages, state)
	}
	if m.Deploy {
		r.Deploy = f.deploy.String()
	}
	doc := DecodePayload(c, &m.Payload, Lost{})
	if len(doc.Scores) > 0 {
		r.Scores = doc.Scores
	}
	for _, ref := range doc.Models {
		if !slices.Contains(r.Models, ref) {
			r.Models = append(r.Models, ref)
		}
	}
	if doc.Input.DataURL != "" || doc.Input.OutputDir != "" {
		r.Inputs = append(dropStage(r.Inputs, c.Stage, func(i learning.Input) learning.Stage { return i.Stage }), doc.Input)
	}
}
