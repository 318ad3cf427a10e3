// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"slices"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learning"
)

// change moves a state set from one value to another; a set that did not exist gets all its values.
func change(rec Record, t int64, existed bool, from, to int, values []string, series, label string, more ...string) {
	for i, v := range values {
		if existed && i != from && i != to {
			continue
		}
		value := 0.0
		if i == to {
			value = 1
		}
		rec(t, false, series, value, append([]string{label, v}, more...)...)
	}
}

// Begin records what holds of a job before its first condition.
func Begin(t int64, rec Record) {
	change(rec, t, false, 0, 2, statuses(), "learning_job_status", "status")
	rec(t, false, "learning_job_conditions", 0)
}

// Emit records every current value, as if all had been set at t.
func (f *Fold) Emit(t int64, withDeploy bool, rec Record) {
	if !f.any {
		Begin(t, rec)
		return
	}
	change(rec, t, false, 0, int(f.status), statuses(), "learning_job_status", "status")
	change(rec, t, false, 0, int(f.stage), stageNames(), "learning_job_stage", "stage")
	rec(t, false, "learning_job_conditions", float64(f.count))
	if f.round > 0 {
		rec(t, false, "learning_job_round", float64(f.round))
	}
	if withDeploy {
		change(rec, t, false, 0, int(f.deploy), deployStates(), "learning_deploy_status", "status")
	}
	for i := range f.stages {
		st := &f.stages[i]
		if !st.seen {
			continue
		}
		name := string(StageName(uint8(i)))
		change(rec, t, false, 0, int(st.cond), typeNames(), "learning_job_stage_condition", "condition", "stage", name)
		rec(t, false, "learning_job_stage_since_seconds", seconds(st.since), "stage", name)
		if st.finished {
			rec(t, false, "learning_job_stage_duration_seconds", st.duration, "stage", name)
		}
		for k, n := range st.transitions {
			if n > 0 {
				rec(t, false, "learning_job_stage_transitions_total", float64(n), "stage", name, "condition", string(TypeName(uint8(k))))
			}
		}
	}
	for _, s := range f.Scores {
		emitScore(rec, t, false, s)
	}
	for _, m := range f.Models {
		emitModel(rec, t, false, m)
	}
}

func emitScore(rec Record, t int64, gone bool, s learning.Score) {
	rec(t, gone, "learning_eval_score", s.Value, "metric", s.Metric, "model", s.Model, "task", s.Task, "index", s.Index)
}

func emitModel(rec Record, t int64, gone bool, m learning.ModelRef) {
	rec(t, gone, "learning_"+strings.ToLower(string(m.Stage))+"_model_info", 1, "url", m.URL, "format", m.Format)
}

// Round gives the current round, 0 before the first.
func (f *Fold) Round() int { return f.round }

// Count gives the number of conditions, duplicates folded.
func (f *Fold) Count() int { return f.count }

// Time gives the newest condition's own time in ms, and Last the time that its step was given.
func (f *Fold) Time() int64 { return f.exact }

// Last gives the time in ms that the newest step was given.
func (f *Fold) Last() int64 { return f.last }

// Status is True, False or Unknown.
func (f *Fold) Status() string {
	if !f.any {
		return "Unknown"
	}
	return StatusName(f.status)
}

// Deploy gives the deploy state of the current round; it means nothing for kinds without one.
func (f *Fold) Deploy() DeployState { return f.deploy }

// Current gives the stage of the newest condition, that condition and since when; false without any.
func (f *Fold) Current() (learning.StageState, bool) {
	if !f.any {
		return learning.StageState{}, false
	}
	return f.stageState(f.stage), true
}

// Stages gives where each stage is that has a condition.
func (f *Fold) Stages() []learning.StageState {
	out := make([]learning.StageState, 0, stages)
	for i := range f.stages {
		if f.stages[i].seen {
			out = append(out, f.stageState(uint8(i)))
		}
	}
	return out
}

func (f *Fold) stageState(i uint8) learning.StageState {
	st := &f.stages[i]
	s := learning.StageState{Stage: StageName(i), Condition: TypeName(st.cond), Since: time.UnixMilli(st.since).UTC()}
	if st.finished {
		d := st.duration
		s.Duration = &d
	}
	return s
}

func stageNames() []string {
	return []string{string(learning.Train), string(learning.Eval), string(learning.Deploy)}
}

func typeNames() []string {
	return []string{
		string(learning.Waiting), string(learning.Ready), string(learning.Starting),
		string(learning.Running), string(learning.Completed), string(learning.Failed),
	}
}

func hasScore(list []learning.Score, s learning.Score) bool {
	return slices.ContainsFunc(list, func(o learning.Score) bool {
		o.Value = s.Value
		return o == s
	})
}

func containsModel(list []learning.ModelRef, m learning.ModelRef) bool {
	return slices.Contains(list, m)
}

// dropStage gives a new list without the items of a stage.
func dropStage[T any](list []T, stage uint8, of func(T) learning.Stage) []T {
	out := make([]T, 0, len(list)+1)
	for _, e := range list {
		if of(e) != StageName(stage) {
			out = append(out, e)
		}
	}
	return out
}
