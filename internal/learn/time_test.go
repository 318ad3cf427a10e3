// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

func ll() resource.Kind { return kind("LifelongLearningJob") }

// job makes an object of a lifelong job; conditions are "Stage/Type" with a time each.
func job(uid string, created time.Time, conditions ...any) resource.Object {
	return resource.Object{
		"metadata": map[string]any{"name": "job", "namespace": "ns", "uid": uid, "creationTimestamp": created.Format(time.RFC3339)},
		"status":   map[string]any{"conditions": conditions},
	}
}

func at(when time.Time, what string) map[string]any {
	stage, typ, _ := strings.Cut(what, "/")
	return map[string]any{"stage": stage, "type": typ, "status": "True", "lastTransitionTime": when.UTC().Format(time.RFC3339)}
}

func series(name string, kv ...string) string {
	all := []string{`__name__="` + name + `"`, `job_kind="LifelongLearningJob"`, `job_name="job"`, `namespace="ns"`}
	for i := 0; i < len(kv); i += 2 {
		all = append(all, kv[i]+`="`+kv[i+1]+`"`)
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ", ") + "}"
}

// TestStagesSecondsDaysAndMonthsOldAnswerInTheMiddle asks in the middle of long stages of jobs of several ages.
func TestStagesSecondsDaysAndMonthsOldAnswerInTheMiddle(t *testing.T) {
	for name, age := range map[string]time.Duration{"minutes": 10 * time.Minute, "a day": 24 * time.Hour, "months": 90 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			advance(100 * 24 * time.Hour)
			now := time.Now()
			sink := newRecorded()
			h := startWith(t, t.TempDir(), sink, func(o *learn.Options) { o.Retention = 60 * 24 * time.Hour })
			begin := now.Add(-age).Truncate(time.Second)
			h.apply(ll(), job("u", begin, at(begin, "Train/Waiting"), at(begin.Add(time.Second), "Train/Running")), now, true)
			h.settled()
			running := series("learning_job_stage_condition", "stage", "Train", "condition", "Running")
			middle := now.Add(-age / 2).UnixMilli()
			v, ok := sink.value(running, middle)
			if name == "months" { // more repeats than a job may have: only the newest days have them
				if ok || sink.history > 10_000 {
					t.Errorf("%s: %v %v, %d samples of the past", name, v, ok, sink.history)
				}
			} else if !ok || v != 1 {
				t.Errorf("%s: in the middle of a stage the answer is %v, %v", name, v, ok)
			}
			if v, ok := sink.value(running, now.UnixMilli()); !ok || v != 1 {
				t.Errorf("%s: now the answer is %v, %v", name, v, ok)
			}
			h.close()
		})
	}
}

func TestNoJobHasMoreThanTenThousandSamplesUnlessItChangedSoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance(30 * 24 * time.Hour)
		now := time.Now()
		sink := newRecorded()
		h := start(t, t.TempDir(), sink)
		begin := now.Add(-14*24*time.Hour + 2*time.Hour)
		h.apply(ll(), job("u", begin, at(begin, "Train/Waiting"), at(begin.Add(time.Hour), "Train/Running")), now, true)
		h.settled()
		if sink.history > 10_000 {
			t.Errorf("%d samples", sink.history)
		}
		running := series("learning_job_stage_condition", "stage", "Train", "condition", "Running")
		if got := sink.changes(running); len(got) != 2 {
			t.Errorf("the transitions are %v", got)
		}
		if v, ok := sink.value(running, now.Add(-5*24*time.Hour).UnixMilli()); !ok || v != 1 {
			t.Errorf("the repeats that fit are not the newest: %v %v", v, ok)
		}
		h.close()
	})
}

// TestAHubWhoseClockIsOff watches live with a clock five minutes behind and ahead of the controller's.
func TestAHubWhoseClockIsOff(t *testing.T) {
	for _, off := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			advance(time.Hour)
			sink := newRecorded()
			h := start(t, t.TempDir(), sink)
			controller := func() time.Time { return time.Now().Add(-off).Truncate(time.Second) }
			begin := controller()
			var list []any
			h.apply(ll(), job("u", begin), time.Now(), false)
			for _, what := range []string{"Train/Waiting", "Train/Ready", "Train/Running", "Train/Completed"} {
				advance(30 * time.Second)
				list = append(list, at(controller(), what))
				h.apply(ll(), job("u", begin, list...), time.Now(), false)
			}
			h.settled()
			d, err := h.Job("ns", "", "job", "")
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Spans) != 4 || !d.Spans[0].Start.Equal(begin.Add(30*time.Second)) {
				t.Errorf("off %v: the exact times are lost: %+v", off, d.Spans)
			}
			if v, ok := sink.value(series("learning_job_stage_condition", "stage", "Train", "condition", "Completed"), time.Now().UnixMilli()); off < 0 && (!ok || v != 1) {
				t.Errorf("off %v: %v %v", off, v, ok)
			}
			h.close()
		})
	}
}

// TestOneTimeFromTheFarFutureStopsNothing gives a job one condition of the year 2100.
func TestOneTimeFromTheFarFutureStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance(time.Hour)
		h := start(t, t.TempDir(), newRecorded())
		begin := time.Now()
		list := []any{at(begin, "Train/Waiting"), at(begin.AddDate(100, 0, 0), "Train/Ready")}
		h.apply(ll(), job("u", begin, list...), time.Now(), false)
		for _, what := range []string{"Train/Starting", "Train/Running", "Train/Completed", "Eval/Waiting"} {
			advance(10 * time.Second)
			list = append(list, at(time.Now(), what))
			h.apply(ll(), job("u", begin, list...), time.Now(), false)
		}
		d, err := h.Job("ns", "", "job", "")
		if err != nil || d.Stage != learning.Eval || len(d.Spans) != 6 || d.Spans[1].Start.Year() != 2100 {
			t.Errorf("%+v %v", d.Spans, err)
		}
		h.close()
	})
}

func TestANewUIDUnderAnOldNameStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance(time.Hour)
		sink, dir := newRecorded(), t.TempDir()
		h := start(t, dir, sink)
		begin := time.Now()
		h.apply(ll(), job("old", begin, at(begin, "Train/Waiting"), at(begin.Add(time.Second), "Train/Failed"), at(begin.Add(2*time.Second), "Train/Waiting")), begin, false)
		advance(time.Minute)
		h.apply(ll(), job("new", time.Now(), at(time.Now(), "Train/Waiting")), time.Now(), false)
		round := series("learning_job_round")
		got := sink.changes(round)
		if len(got) != 4 || !strings.HasPrefix(got[2], "NaN@") || !strings.HasPrefix(got[3], "1@") {
			t.Errorf("live: %v", got)
		}
		h.close()
		sink.restart()
		advance(10 * time.Minute)
		h = start(t, dir, sink) // replaced once more while the hub was away
		third := time.Now().Add(-5 * time.Minute).Truncate(time.Second)
		h.apply(ll(), job("third", third, at(third, "Train/Waiting")), time.Now(), true)
		h.settled()
		if got := sink.changes(round); len(got) != 6 || !strings.HasPrefix(got[4], "NaN@") || !strings.HasPrefix(got[5], "1@") {
			t.Errorf("over a restart: %v", got)
		}
		page, err := h.Jobs(learning.JobQuery{Deleted: true, Sort: "created"})
		if err != nil || page.Total != 3 || page.Jobs[0].Deleted == nil || page.Jobs[1].Deleted == nil || page.Jobs[2].Deleted != nil {
			t.Errorf("%+v %v", page, err)
		}
		if d, err := h.Job("ns", "", "job", "old"); err != nil || len(d.Spans) != 3 || d.Round != 2 {
			t.Errorf("the first job of the name is lost: %+v %v", d, err)
		}
		h.close()
	})
}

func TestAJobDeletedWhileTheHubWasAwayIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, dir := newRecorded(), t.TempDir()
		brief := func(o *learn.Options) { o.Config.KeepDeleted = learn.Duration(10 * time.Minute) }
		h := startWith(t, dir, sink, brief)
		begin := time.Now()
		h.apply(ll(), job("u", begin, at(begin, "Train/Waiting")), begin, false)
		advance(time.Minute)
		h.close()
		sink.restart()
		advance(time.Hour)
		h = startWith(t, dir, sink, brief)
		h.Handle(t.Context(), resource.Event{Type: resource.Listed, Kind: ll(), Received: time.Now()})
		if page, err := h.Jobs(learning.JobQuery{}); err != nil || page.Total != 0 {
			t.Errorf("%+v %v", page, err)
		}
		d, err := h.Job("ns", "lifelonglearningjob", "job", "")
		if err != nil || d.Deleted == nil || len(d.Spans) != 1 {
			t.Errorf("%+v %v", d, err)
		}
		advance(12 * time.Minute)
		if _, err := h.Job("ns", "", "job", ""); err == nil {
			t.Error("it is kept for ever")
		}
		h.close()
	})
}

// TestAHundredRestartsWriteThePastOnce restarts a hub that has nothing to add.
func TestAHundredRestartsWriteThePastOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance(time.Hour)
		sink, dir := newRecorded(), t.TempDir()
		begin := time.Now().Add(-30 * time.Minute).Truncate(time.Second)
		o := job("u", begin, at(begin, "Train/Waiting"), at(begin.Add(time.Minute), "Train/Running"))
		var before outcome
		for i := range 100 {
			h := start(t, dir, sink)
			h.apply(ll(), o, time.Now(), true)
			got := h.outcome()
			if i == 0 {
				before, sink.history = got, 0
			} else if diff := cmp.Diff(before, got); diff != "" {
				t.Fatalf("restart %d: %s", i, diff)
			}
			advance(time.Second)
			if i%3 == 0 {
				h.kill()
			} else {
				h.close()
			}
			sink.restart()
		}
		if sink.history != 0 {
			t.Errorf("%d samples of the past were written again", sink.history)
		}
	})
}

func TestHistoryIsTriedAgainUntilTheStoreTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance(time.Hour)
		sink := newRecorded()
		sink.refuse = 4
		h := start(t, t.TempDir(), sink)
		begin := time.Now().Add(-30 * time.Minute).Truncate(time.Second)
		h.apply(ll(), job("u", begin, at(begin, "Train/Waiting")), time.Now(), true)
		h.settled()
		if sink.history == 0 {
			t.Error("nothing was written")
		}
		h.close()
	})
}

// TestTasksOutliveTheirPods deletes pods and restarts the hub: tasks seen stay counted.
func TestTasksOutliveTheirPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, dir := newRecorded(), t.TempDir()
		h := start(t, dir, sink)
		begin := time.Now()
		pod := func(i int, phase string) resource.Object {
			return resource.Object{
				"metadata": map[string]any{"name": fmt.Sprint("p", i), "namespace": "ns", "uid": fmt.Sprint("p", i), "labels": map[string]any{
					"lifelonglearningjob.sedna.io/name": "job", "lifelonglearningjob.sedna.io/uid": "u", "lifelonglearningjob.sedna.io/worker-type": "train",
				}},
				"spec":   map[string]any{"nodeName": "n"},
				"status": map[string]any{"phase": phase, "startTime": begin.Add(time.Duration(i) * time.Second).Format(time.RFC3339)},
			}
		}
		list := func() {
			h.apply(kind("Node"), resource.Object{"metadata": map[string]any{"name": "n", "uid": "n"}}, time.Now(), true)
			for _, k := range []string{"Node", "Pod"} {
				h.Handle(t.Context(), resource.Event{Type: resource.Listed, Kind: kind(k), Received: time.Now()})
			}
		}
		h.apply(ll(), job("u", begin, at(begin, "Train/Waiting")), begin, false)
		list()
		for i := range 60 {
			h.apply(kind("Pod"), pod(i, "Running"), time.Now(), false)
		}
		advance(time.Second)
		counts := func() string {
			return sink.now("learning_job_tasks", "learning_job_workers")
		}
		if got := counts(); !strings.Contains(got, `learning_job_tasks", job_kind="LifelongLearningJob", job_name="job", namespace="ns"} 60`) || strings.Count(got, "} 60") != 4 {
			t.Error(got)
		}
		advance(time.Minute)
		for i := range 59 {
			h.Handle(t.Context(), resource.Event{Type: resource.Deleted, Kind: kind("Pod"), Object: pod(i, "Running"), Received: time.Now()})
		}
		advance(time.Second)
		h.close()
		sink.restart()
		h = start(t, dir, sink)
		h.apply(ll(), job("u", begin, at(begin, "Train/Waiting")), time.Now(), true)
		h.apply(kind("Pod"), pod(59, "Succeeded"), time.Now(), true)
		list()
		advance(time.Second)
		want := strings.Join([]string{
			series("learning_job_tasks") + " 60", series("learning_job_tasks_active") + " 0",
			series("learning_job_workers", "location", "cloud", "worker_type", "train") + " 1",
			series("learning_job_workers_active", "location", "cloud", "worker_type", "train") + " 0",
		}, "\n")
		if diff := cmp.Diff(want, counts()); diff != "" {
			t.Error(diff)
		}
		h.close()
	})
}

func TestGarbageCostsCountersOnly(t *testing.T) {
	h := start(t, t.TempDir(), newRecorded())
	now := time.Now()
	good := at(now.Add(-time.Second), "Train/Waiting")
	h.apply(ll(), resource.Object{}, now, false)
	h.apply(ll(), resource.Object{"metadata": "no map", "status": 5}, now, false)
	h.apply(ll(), job("u", now, nil, 5, "text", map[string]any{}, map[string]any{"stage": "Sleep", "type": "Waiting"}, []any{}, good,
		map[string]any{"stage": "Train", "type": "Ready", "status": 7, "lastTransitionTime": "yesterday", "message": strings.Repeat("ü", 10<<20), "data": "{{{"}), now, false)
	h.apply(kind("Dataset"), resource.Object{"metadata": map[string]any{"name": "\xff\xfe", "namespace": "ns", "uid": "d"}, "spec": []any{1}}, now, false)
	h.apply(kind("Model"), resource.Object{"metadata": map[string]any{"name": "m", "namespace": "ns", "uid": "m"}, "status": map[string]any{"metrics": []any{1, map[string]any{"key": 1}, map[string]any{"key": "a", "value": map[string]any{"x": "\xff"}}}}}, now, false)
	d, err := h.Job("ns", "", "job", "")
	if err != nil || len(d.Spans) != 2 || len(d.Message) > 5000 {
		t.Errorf("%d spans, message of %d bytes, %v", len(d.Spans), len(d.Message), err)
	}
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	lost := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "periplus_learn_lost_total" {
				lost[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if lost["bad_condition"] != 6 || lost["bad_object"] != 2 || lost["bad_data"] != 1 {
		t.Errorf("lost %v", lost)
	}
}
