// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/value"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// recorder is a sink that writes down what it is given, states of value 0 left out.
type recorder struct {
	mu    sync.Mutex
	lines []string
	past  []wire.Sample
}

func (r *recorder) Set(owner string, at time.Time, earlier, current []wire.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("set %s %s", owner, clock(at.UnixMilli())))
	for _, s := range earlier {
		r.add("  earlier", s)
	}
	for _, s := range current {
		r.add("  now", s)
	}
}

func (r *recorder) add(what string, s wire.Sample) {
	if s.Value == 0 {
		return
	}
	v := fmt.Sprint(s.Value)
	if value.IsStaleNaN(s.Value) {
		v = "stale"
	}
	r.lines = append(r.lines, fmt.Sprintf("%s %s %s %s", what, clock(s.Time), s.Labels, v))
}

func (r *recorder) Remove(owner string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("remove %s %s", owner, clock(at.UnixMilli())))
}

func (r *recorder) History(_ context.Context, samples []wire.Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.past = append(r.past, samples...)
	return nil
}

func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.lines, "\n") + "\n"
	r.lines = nil
	return out
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05.000") }

const stages = `
naming: legacy
spec:
  resources:
    - groupVersionKind: {group: sedna.io, version: v1alpha1, kind: LifelongLearningJob}
      metricNamePrefix: ""
      metrics:
        - name: step
          each:
            type: StateSet
            stateSet:
              path: [status, conditions, "-1"]
              labelName: condition
              labelsFromPath: {stage: [stage]}
              valueFrom: [type]
              list: [Waiting, Ready, Running, Completed]
`

func parse(t testing.TB, text string, o spec.Choices) []*spec.Spec {
	t.Helper()
	s, err := spec.Parse("spec.yaml", []byte(text), o)
	if err != nil {
		t.Fatal(err)
	}
	return []*spec.Spec{s}
}

var day = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

func at(clock string) time.Time {
	t, err := time.Parse("15:04:05", clock)
	if err != nil {
		panic(err)
	}
	return day.Add(time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute +
		time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond()))
}

// learning makes a job whose conditions are given as "Train/Waiting 10:00:00".
func learning(uid string, conditions ...string) resource.Object {
	list := []any{}
	for _, c := range conditions {
		what, when, _ := strings.Cut(c, " ")
		stage, kind, _ := strings.Cut(what, "/")
		m := map[string]any{"stage": stage, "type": kind, "status": "True"}
		if when != "" {
			m["lastTransitionTime"] = at(when).Format(time.RFC3339)
		}
		list = append(list, m)
	}
	return resource.Object{
		"apiVersion": "sedna.io/v1alpha1", "kind": "LifelongLearningJob",
		"metadata": map[string]any{"name": "job", "namespace": "ns", "uid": uid},
		"status":   map[string]any{"conditions": list},
	}
}

func TestEventTimes(t *testing.T) {
	t.Parallel()
	const owner = "state/LifelongLearningJob.v1alpha1.sedna.io/u1 "
	tests := []struct {
		name   string
		events []resource.Event
		want   string
	}{
		{
			name: "a change is at its condition's time",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Ready 10:00:07"), at("10:00:09")),
			},
			want: "set " + owner + "10:00:00.000\n" +
				"  now 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:07.000\n" +
				"  now 10:00:07.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n",
		},
		{
			name: "conditions that came together all appear, those of one second a millisecond apart",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Ready 10:00:07", "Train/Running 10:00:07",
					"Train/Completed 10:00:07"), at("10:00:09")),
			},
			want: "set " + owner + "10:00:00.000\n" +
				"  now 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:07.002\n" +
				"  earlier 10:00:07.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n" +
				"  earlier 10:00:07.001 {__name__=\"step\", condition=\"Running\", stage=\"Train\"} 1\n" +
				"  now 10:00:07.002 {__name__=\"step\", condition=\"Completed\", stage=\"Train\"} 1\n",
		},
		{
			name: "what follows within the second goes after it",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Ready 10:00:00"), at("10:00:00.4")),
			},
			want: "set " + owner + "10:00:00.000\n" +
				"  now 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:00.001\n" +
				"  now 10:00:00.001 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n",
		},
		{
			name: "a vanished condition is a change at the time it was noticed",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Ready 10:00:07"), at("10:00:09")),
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:20")),
			},
			want: "set " + owner + "10:00:07.000\n" +
				"  earlier 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"  now 10:00:07.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:20.000\n" +
				"  now 10:00:20.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n",
		},
		{
			name: "a duplicate is nothing",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Waiting 10:00:00"), at("10:00:05")),
			},
			want: "set " + owner + "10:00:00.000\n" +
				"  now 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n",
		},
		{
			name: "a condition from the future is now, a stage that changes ends the other's series",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting 10:00:00"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting 10:00:00", "Train/Ready 11:00:00", "Eval/Ready 11:00:00"), at("10:00:09")),
			},
			want: "set " + owner + "10:00:00.000\n" +
				"  now 10:00:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:09.001\n" +
				"  earlier 10:00:09.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n" +
				"  earlier 10:00:09.001 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} stale\n" +
				"  earlier 10:00:09.001 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} stale\n" +
				"  earlier 10:00:09.001 {__name__=\"step\", condition=\"Running\", stage=\"Train\"} stale\n" +
				"  earlier 10:00:09.001 {__name__=\"step\", condition=\"Completed\", stage=\"Train\"} stale\n" +
				"  now 10:00:09.001 {__name__=\"step\", condition=\"Ready\", stage=\"Eval\"} 1\n",
		},
		{
			name: "the first full list says nothing about when, and a new UID is a new object",
			events: []resource.Event{
				initial(learning("u0", "Train/Waiting 10:00:00"), at("10:30:00")),
				applied(learning("u1", "Train/Ready 10:31:00"), at("10:31:01")),
				{Type: resource.Deleted, Kind: state.KindOf(learning("u1")), Object: learning("u1"), Received: at("10:32:00")},
			},
			want: "set state/LifelongLearningJob.v1alpha1.sedna.io/u0 10:30:00.000\n" +
				"  now 10:30:00.000 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"remove state/LifelongLearningJob.v1alpha1.sedna.io/u0 10:31:01.000\n" +
				"set " + owner + "10:31:00.000\n" +
				"  now 10:31:00.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n" +
				"remove " + owner + "10:32:00.000\n",
		},
		{
			name: "conditions without times are at the time they were noticed",
			events: []resource.Event{
				applied(learning("u1", "Train/Waiting"), at("10:00:00.3")),
				applied(learning("u1", "Train/Waiting", "Train/Ready"), at("10:00:09")),
			},
			want: "set " + owner + "10:00:00.300\n" +
				"  now 10:00:00.300 {__name__=\"step\", condition=\"Waiting\", stage=\"Train\"} 1\n" +
				"set " + owner + "10:00:09.000\n" +
				"  now 10:00:09.000 {__name__=\"step\", condition=\"Ready\", stage=\"Train\"} 1\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r recorder
			e := newEngine(t, prometheus.NewRegistry(), parse(t, stages, spec.Choices{}), &r)
			for _, ev := range tt.events {
				e.Handle(t.Context(), ev)
			}
			if diff := cmp.Diff(sortStale(tt.want), sortStale(r.take())); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// sortStale puts staleness markers of one time in order; they come from a map.
func sortStale(s string) string {
	lines := strings.Split(s, "\n")
	for i := 0; i < len(lines); i++ {
		j := i
		for j < len(lines) && strings.HasSuffix(lines[j], " stale") {
			j++
		}
		slices.Sort(lines[i:j])
		i = j
	}
	return strings.Join(lines, "\n")
}

func initial(o resource.Object, at time.Time) resource.Event {
	ev := applied(o, at)
	ev.Initial = true
	return ev
}

func TestPastIsWrittenOnceWithRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		e := newEngine(t, prometheus.NewRegistry(), parse(t, stages, spec.Choices{History: true}), &r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		o := learning("u1", "Train/Waiting 10:00:00", "Train/Ready 10:00:00", "Train/Running 10:01:00", "Eval/Ready 10:10:30")
		e.Handle(ctx, initial(o, at("10:15:00")))
		e.Handle(ctx, initial(o, at("10:15:00")))
		synctest.Wait()
		cancel()
		wg.Wait()
		var got []string
		for _, s := range r.past {
			if s.Value == 1 || math.IsNaN(s.Value) && s.Labels.Get("condition") == "Running" {
				got = append(got, fmt.Sprintf("%s %s/%s %v", clock(s.Time), s.Labels.Get("stage"), s.Labels.Get("condition"), s.Value))
			}
		}
		want := []string{
			"10:00:00.000 Train/Waiting 1",
			"10:00:00.001 Train/Ready 1",
			"10:01:00.000 Train/Running 1",
			"10:05:00.000 Train/Running 1",
			"10:09:00.000 Train/Running 1",
			"10:10:30.000 Eval/Ready 1",
			"10:10:30.000 Train/Running NaN",
			"10:14:30.000 Eval/Ready 1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestPastOfManyObjectsIsWrittenInFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		e := newEngine(t, prometheus.NewRegistry(), parse(t, strings.Replace(stages, `metricNamePrefix: ""`,
			"metricNamePrefix: \"\"\n      labelsFromPath: {name: [metadata, name]}", 1), spec.Choices{History: true}), &r)
		ctx, cancel := context.WithCancel(t.Context())
		const objects = 500
		for i := range objects {
			o := learning(fmt.Sprint(i), "Train/Waiting 01:00:00", "Train/Ready 08:00:00")
			o["metadata"] = map[string]any{"name": fmt.Sprint(i), "namespace": "ns", "uid": fmt.Sprint(i)}
			e.Handle(ctx, initial(o, at("15:00:00")))
		}
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		synctest.Wait()
		cancel()
		wg.Wait()
		samples := map[string]int{}
		for _, s := range r.past {
			samples[s.Labels.Get("name")]++
		}
		// Four states, two of them change; a repeat every four minutes of fourteen hours.
		if len(samples) != objects || samples["0"] < 200 || samples["0"] != samples["499"] {
			t.Errorf("%d objects, %d samples of the first, %d of the last", len(samples), samples["0"], samples["499"])
		}
	})
}

func TestPastOfALongListIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		e := newEngine(t, prometheus.NewRegistry(), parse(t, stages, spec.Choices{History: true}), &r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		var conditions []any
		for i := range 100_000 {
			conditions = append(conditions, map[string]any{
				"stage": "Train", "type": [...]string{"Waiting", "Ready", "Running", "Completed"}[i%4],
				"lastTransitionTime": day.Add(time.Duration(i) * time.Minute).Format(time.RFC3339),
			})
		}
		o := learning("u1")
		o["status"] = map[string]any{"conditions": conditions}
		e.Handle(ctx, initial(o, day.AddDate(1, 0, 0)))
		synctest.Wait()
		cancel()
		wg.Wait()
		if len(r.past) == 0 || len(r.past) > 100_000 {
			t.Errorf("%d samples of the past", len(r.past))
		}
		if !slices.IsSortedFunc(r.past, func(a, b wire.Sample) int { return int(a.Time - b.Time) }) {
			t.Error("samples of the past are not in order")
		}
	})
}

// unwilling refuses what it is given a few times, then for good if final.
type unwilling struct {
	recorder

	mu       sync.Mutex
	refusals []refusal
}

// left is how often it will refuse.
func (u *unwilling) left() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.refusals)
}

type refusal bool

func (refusal) Error() string     { return "refused" }
func (r refusal) Temporary() bool { return bool(r) }

func (u *unwilling) History(ctx context.Context, samples []wire.Sample) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.refusals) > 0 {
		r := u.refusals[0]
		u.refusals = u.refusals[1:]
		return fmt.Errorf("sink: %w", r)
	}
	return u.recorder.History(ctx, samples)
}

func TestThePastIsTriedAgainWhereThatHelps(t *testing.T) {
	for _, c := range []struct {
		refusals []refusal
		written  bool
		took     time.Duration
	}{
		{[]refusal{true, true, true}, true, 7 * time.Second},
		{[]refusal{false}, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := unwilling{refusals: c.refusals}
			begin := time.Now()
			e := newEngine(t, prometheus.NewRegistry(), parse(t, stages, spec.Choices{History: true}), &u)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = e.Run(ctx) })
			o := learning("u1")
			o["status"] = map[string]any{"conditions": []any{map[string]any{"stage": "Train", "type": "Waiting", "lastTransitionTime": day.Format(time.RFC3339)}}}
			e.Handle(ctx, initial(o, day.Add(time.Hour)))
			synctest.Wait()
			for u.left() > 0 {
				<-time.After(time.Second)
				synctest.Wait()
			}
			<-time.After(4 * time.Second)
			synctest.Wait()
			if took := time.Since(begin); c.written != (len(u.past) > 0) || c.written && took > c.took+time.Second {
				t.Errorf("%v: %d samples after %v", c.refusals, len(u.past), took)
			}
			cancel()
			wg.Wait()
		})
	}
}

func TestThePastEndsAtTheRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		e, err := state.New(state.Options{
			Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Sink: &r, Config: state.Default(),
			Specs: parse(t, stages, spec.Choices{History: true}), Retention: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		now := time.Now()
		o := learning("u1")
		o["status"] = map[string]any{"conditions": []any{map[string]any{
			"stage": "Train", "type": "Waiting", "lastTransitionTime": now.AddDate(0, -6, 0).Format(time.RFC3339),
		}}}
		e.Handle(ctx, initial(o, now))
		synctest.Wait()
		cancel()
		wg.Wait()
		if len(r.past) == 0 {
			t.Error("a stage that began long ago is not told of")
		}
		for _, s := range r.past {
			if s.Time < now.Add(-time.Hour).UnixMilli() {
				t.Errorf("a sample of %v", time.UnixMilli(s.Time))
			}
		}
	})
}
