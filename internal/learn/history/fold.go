// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"strconv"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
)

// Record takes one value of one series from time t in ms on. labels are names and values in turn, those that
// name the job excepted; empty values are no labels. gone ends the series instead.
type Record func(t int64, gone bool, series string, value float64, labels ...string)

// DeployState says whether the current round led to a deployed model.
type DeployState uint8

// The deploy states.
const (
	DeployWaiting DeployState = iota
	DeployOk
	DeployNotOk
)

func deployStates() []string { return []string{"Waiting", "Ok", "NotOk"} }

// String gives the state's name in series and in the API.
func (d DeployState) String() string { return deployStates()[d] }

// stageFold is where one stage is.
type stageFold struct {
	seen     bool
	finished bool // some pass has a duration
	timed    bool // the newest pass has ended and has one
	ready    bool // the deploy stage was Ready in this round
	cond     uint8
	// began is when the pass under way was Ready or, better, Starting; zero if neither.
	began       int64
	starting    bool
	since       int64
	duration    float64
	transitions [types]uint32
}

// Fold is the state of a job after some of its conditions. The zero value is a job without any.
type Fold struct {
	stages [stages]stageFold
	any    bool
	stage  uint8
	status uint8
	deploy DeployState
	number int // the newest number of rounds counted by number
	round  int
	count  int
	last   int64 // the newest time given to a step
	exact  int64 // the newest condition's own time

	Scores []learning.Score
	Models []learning.ModelRef
	Inputs []learning.Input
	Reason string
	// Message is the newest condition's text.
	Message string
}

// Step takes the next condition. It gives false for a condition that repeats its stage's newest one; such a
// duplicate still adds what its document says.
func (f *Fold) Step(c *Condition, m *mapping.Mapping, lost Lost, rec Record) bool {
	p := DecodePayload(c, &m.Payload, lost)
	st := &f.stages[c.Stage]
	round := f.nextRound(c, m)
	if st.seen && st.cond == c.Type && round == f.round {
		f.payload(c, &p, max(c.Happened(), f.last), rec)
		return false
	}
	t := max(c.Happened(), f.last+1)
	f.last, f.exact = t, c.Time
	f.count++
	rec(t, false, "learning_job_conditions", float64(f.count))
	if round != f.round {
		f.round = round
		f.stages[deploy].ready = false
		rec(t, false, "learning_job_round", float64(round))
	}
	f.Reason, f.Message = c.Reason, c.Message
	f.setStage(c, st, t, rec)
	f.setPass(c, st, t, rec)
	if m.Deploy {
		f.setDeploy(c, m, t, rec)
	}
	if c.Type == waiting && c.Stage < stages {
		f.Inputs = dropStage(f.Inputs, c.Stage, func(i learning.Input) learning.Stage { return i.Stage })
	}
	f.payload(c, &p, t, rec)
	return true
}

// nextRound gives the round that the condition belongs to.
func (f *Fold) nextRound(c *Condition, m *mapping.Mapping) int {
	r := &m.Rounds
	if r.Number != nil {
		found := r.Number.FindStringSubmatch(c.Message)
		if found == nil {
			return f.round
		}
		n, err := strconv.Atoi(found[1])
		if err != nil || n <= 0 || n > 1<<30 {
			return f.round
		}
		before := f.number
		f.number = n
		if n < before { // the aggregator began again
			return f.round + n
		}
		return f.round + n - before
	}
	st := &f.stages[c.Stage]
	if r.Condition != "" && StageName(c.Stage) == r.Stage && TypeName(c.Type) == r.Condition && (!st.seen || st.cond != c.Type) {
		return f.round + 1
	}
	return f.round
}

// setStage moves the state sets and counters of the condition itself.
func (f *Fold) setStage(c *Condition, st *stageFold, t int64, rec Record) {
	name := string(StageName(c.Stage))
	if !f.any || f.status != c.Status {
		change(rec, t, f.any, int(f.status), int(c.Status), statuses(), "learning_job_status", "status")
	}
	if !f.any || f.stage != c.Stage {
		change(rec, t, f.any, int(f.stage), int(c.Stage), stageNames(), "learning_job_stage", "stage")
	}
	if !st.seen || st.cond != c.Type {
		change(rec, t, st.seen, int(st.cond), int(c.Type), typeNames(), "learning_job_stage_condition", "condition", "stage", name)
	}
	n := &st.transitions[c.Type]
	if *n == 0 {
		rec(t-1, false, "learning_job_stage_transitions_total", 0, "stage", name, "condition", string(TypeName(c.Type)))
	}
	*n++
	rec(t, false, "learning_job_stage_transitions_total", float64(*n), "stage", name, "condition", string(TypeName(c.Type)))
	rec(t, false, "learning_job_stage_since_seconds", seconds(c.Time), "stage", name)
	f.any, f.stage, f.status = true, c.Stage, c.Status
	st.seen, st.cond, st.since = true, c.Type, c.Time
}

// setPass measures how long a pass of the stage takes: from Starting, else Ready, to Completed or Failed.
func (f *Fold) setPass(c *Condition, st *stageFold, t int64, rec Record) {
	st.timed = (c.Type == completed || c.Type == failed) && st.began != 0
	switch c.Type {
	case waiting:
		st.began, st.starting = 0, false
	case ready:
		if !st.starting {
			st.began = c.Time
		}
	case starting:
		if !st.starting {
			st.began, st.starting = c.Time, true
		}
	case completed, failed:
		if st.timed {
			st.duration, st.finished = max(0, float64(c.Time-st.began)/1000), true
			rec(t, false, "learning_job_stage_duration_seconds", st.duration, "stage", string(StageName(c.Stage)))
		}
		st.began, st.starting = 0, false
	}
}

func (f *Fold) setDeploy(c *Condition, m *mapping.Mapping, t int64, rec Record) {
	state := f.deploy
	switch {
	case StageName(c.Stage) == m.Rounds.Stage && TypeName(c.Type) == m.Rounds.Condition:
		state = DeployWaiting
	case c.Stage != deploy:
	case c.Type == ready:
		state, f.stages[deploy].ready = DeployWaiting, true
	case c.Type == completed && f.stages[deploy].ready:
		state = DeployOk
	case c.Type == completed, c.Type == failed:
		state = DeployNotOk
	default:
		state = DeployWaiting
	}
	if f.count == 1 || state != f.deploy {
		change(rec, t, f.count > 1, int(f.deploy), int(state), deployStates(), "learning_deploy_status", "status")
		f.deploy = state
	}
}

// payload replaces scores and models by those of a document that has some.
func (f *Fold) payload(c *Condition, p *Payload, t int64, rec Record) {
	if len(p.Scores) > 0 {
		for _, old := range f.Scores {
			if !hasScore(p.Scores, old) {
				emitScore(rec, t, true, old)
			}
		}
		for _, s := range p.Scores {
			emitScore(rec, t, false, s)
		}
		f.Scores = p.Scores
	}
	if len(p.Models) > 0 {
		f.replaceModels(c, p.Models, t, rec)
	}
	if p.Input.DataURL != "" || p.Input.OutputDir != "" {
		f.Inputs = append(dropStage(f.Inputs, c.Stage, func(i learning.Input) learning.Stage { return i.Stage }), p.Input)
	}
}

func (f *Fold) replaceModels(c *Condition, fresh []learning.ModelRef, t int64, rec Record) {
	stage := StageName(c.Stage)
	kept := fresh
	for _, old := range f.Models {
		switch {
		case old.Stage != stage:
			kept = append(kept, old)
		case !containsModel(fresh, old):
			emitModel(rec, t, true, old)
		}
	}
	for _, ref := range fresh {
		if !containsModel(f.Models, ref) {
			emitModel(rec, t, false, ref)
		}
	}
	f.Models = kept
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// New gives the fold of a job whose series begin after floor, in ms; 0 for none.
func New(floor int64) Fold {
	if floor == 0 {
		return Fold{}
	}
	return Fold{last: floor + 1} // a counter's first 0 lies before its first step
}
