// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// advance lets the bubble's clock run.
func advance(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
}

// plan is a job's life: conditions with the seconds after the beginning at which they happen.
type plan struct {
	at         []int
	conditions []any
	end        int
}

func (p *plan) add(r *rand.Rand, begin time.Time, stage, typ, data string) {
	gaps := []int{0, 0, 0, 1, 2, 7, 50, 200, 900}
	t := 10
	if n := len(p.at); n > 0 {
		t = p.at[n-1] + gaps[r.IntN(len(gaps))]
	}
	c := map[string]any{
		"stage": stage, "type": typ, "status": "True", "message": fmt.Sprint("step ", len(p.at)),
		"lastTransitionTime": begin.Add(time.Duration(t) * time.Second).Format(time.RFC3339),
	}
	if data != "" {
		c["data"] = data
	}
	p.at, p.conditions, p.end = append(p.at, t), append(p.conditions, c), t+700
}

// life makes a random job of several rounds, with failures, missing stages and scores.
func life(seed uint64, begin time.Time) *plan {
	r := rand.New(rand.NewPCG(seed, 7))
	p := &plan{}
	for round := range 2 + r.IntN(4) {
	stages:
		for _, stage := range []string{"Train", "Eval", "Deploy"} {
			p.add(r, begin, stage, "Waiting", "")
			for _, typ := range []string{"Ready", "Starting", "Running"} {
				switch {
				case r.IntN(12) == 0:
					p.add(r, begin, stage, "Failed", "")
					break stages
				case r.IntN(5) > 0:
					data := ""
					if typ == "Ready" {
						data = fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/m/%s/%d"}]}}`, stage, r.IntN(4))
					}
					p.add(r, begin, stage, typ, data)
				}
			}
			data := fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":"/m/%s/%d","metrics":{"m%d":[0.%d]}},{"url":"/old","metrics":{"m":%d}}]}}`,
				stage, round, r.IntN(2), r.IntN(100), r.IntN(3))
			p.add(r, begin, stage, "Completed", data)
		}
	}
	return p
}

func (p *plan) object(begin time.Time, n int) resource.Object {
	return resource.Object{
		"metadata": map[string]any{"name": "job", "namespace": "ns", "uid": "u1", "creationTimestamp": begin.Format(time.RFC3339)},
		"spec":     map[string]any{"dataset": map[string]any{"name": "d", "trainProb": 0.8}, "evalSpec": map[string]any{}},
		"status":   map[string]any{"conditions": p.conditions[:n:n]},
	}
}

// outcome is everything that must not depend on how a job was watched.
type outcome struct {
	Changes map[string][]string
	Now     string
	Spans   []learning.Span
	Rounds  []learning.Round
}

func (h *hub) outcome() outcome {
	h.t.Helper()
	h.settled()
	out := outcome{Changes: map[string][]string{}, Now: h.sink.now()}
	for key := range h.sink.series {
		// What the object says now has no past; only what conditions say has.
		for _, prefix := range []string{"job_status", "job_stage", "job_round", "job_conditions", "deploy_", "train_model", "eval_model", "eval_score"} {
			if strings.HasPrefix(key, `{__name__="learning_`+prefix) {
				out.Changes[key] = h.sink.changes(key)
			}
		}
	}
	d, err := h.Job("ns", "", "job", "")
	if err != nil {
		h.t.Fatal(err)
	}
	out.Spans, out.Rounds = d.Spans, d.Rounds
	return out
}

// late starts a hub when all has happened.
func late(t *testing.T, seed uint64, breakFirst bool) outcome {
	begin := time.Now()
	p := life(seed, begin)
	advance(time.Duration(p.end) * time.Second)
	sink, dir := newRecorded(), t.TempDir()
	if breakFirst { // killed in the middle of writing the past
		sink.hold = true
		h := start(t, dir, sink)
		h.apply(kind("LifelongLearningJob"), p.object(begin, len(p.conditions)), time.Now(), true)
		advance(time.Second)
		h.kill()
		sink.restart()
		sink.hold = false
	}
	h := start(t, dir, sink)
	defer h.close()
	h.apply(kind("LifelongLearningJob"), p.object(begin, len(p.conditions)), time.Now(), true)
	return h.outcome()
}

// live watches from the beginning; restarts at random.
func live(t *testing.T, seed uint64, restarts bool) outcome {
	begin := time.Now()
	p := life(seed, begin)
	r := rand.New(rand.NewPCG(seed, 11))
	sink, dir := newRecorded(), t.TempDir()
	h := start(t, dir, sink)
	h.apply(kind("LifelongLearningJob"), p.object(begin, 0), time.Now(), true)
	for i, at := range p.at {
		if i+1 < len(p.at) && p.at[i+1] == at && r.IntN(2) == 0 {
			continue // two changes come as one
		}
		advance(time.Until(begin.Add(time.Duration(at)*time.Second + 200*time.Millisecond)))
		h.apply(kind("LifelongLearningJob"), p.object(begin, i+1), time.Now(), false)
		if !restarts || r.IntN(4) > 0 {
			continue
		}
		if r.IntN(2) == 0 {
			h.kill()
		} else {
			h.close()
		}
		sink.restart()
		advance(time.Duration(r.IntN(900)) * time.Second)
		h = start(t, dir, sink)
		n := 0
		for n < len(p.at) && !begin.Add(time.Duration(p.at[n])*time.Second).After(time.Now()) {
			n++
		}
		h.apply(kind("LifelongLearningJob"), p.object(begin, n), time.Now(), true)
	}
	advance(time.Until(begin.Add(time.Duration(p.end) * time.Second)))
	defer h.close()
	return h.outcome()
}

// TestHistoryDoesNotDependOnHowItWasWatched compares hubs that watched live, were restarted or killed at
// random, started late, and were killed while they wrote the past.
func TestHistoryDoesNotDependOnHowItWasWatched(t *testing.T) {
	for seed := range uint64(5) {
		ways := map[string]func(*testing.T) outcome{
			"live":      func(t *testing.T) outcome { return live(t, seed, false) },
			"restarted": func(t *testing.T) outcome { return live(t, seed, true) },
			"broken":    func(t *testing.T) outcome { return late(t, seed, true) },
		}
		var want outcome
		synctest.Test(t, func(t *testing.T) { want = late(t, seed, false) })
		for name, way := range ways {
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(want, way(t)); diff != "" {
					t.Errorf("seed %d: %s differs from late: %s", seed, name, diff)
				}
			})
		}
	}
}
