// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

func lifelong(t testing.TB, kind string) *mapping.Mapping {
	t.Helper()
	set, err := mapping.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return set.Find(resource.Kind{Group: "sedna.io", Kind: kind})
}

func received() time.Time { return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC) }

// entry is one condition at a second of the first minute of the year.
func entry(second int, stage, typ string, more ...string) map[string]any {
	e := map[string]any{
		"stage": stage, "type": typ, "status": "True",
		"lastTransitionTime": time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC).Format(time.RFC3339),
	}
	for i := 0; i+1 < len(more); i += 2 {
		e[more[i]] = more[i+1]
	}
	return e
}

func decode(t testing.TB, entries ...map[string]any) []history.Condition {
	t.Helper()
	var list []any
	for _, e := range entries {
		list = append(list, e)
	}
	return history.Decode(map[string]any{"status": map[string]any{"conditions": list}}, lifelong(t, "LifelongLearningJob"), received(), 1000, history.Lost{})
}

// walk gives the order in which conditions happened, as stage/condition@second, with rounds.
func walk(t testing.TB, all []history.Condition) []string {
	t.Helper()
	var out []string
	for _, s := range history.Walk(all, lifelong(t, "LifelongLearningJob"), 0, 0).Spans {
		out = append(out, fmt.Sprintf("%d %s/%s@%d", s.Round, s.Stage, s.Condition, s.Start.Second()))
	}
	return out
}

// TestOrderIsTimeThenList covers equal seconds, late and vanished entries, whatever way the list was seen.
func TestOrderIsTimeThenList(t *testing.T) {
	a := entry(1, "Train", "Waiting")
	b := entry(2, "Train", "Ready")
	c := entry(2, "Train", "Starting")
	d := entry(2, "Train", "Running")
	e := entry(9, "Train", "Completed")
	want := []string{"1 Train/Waiting@1", "1 Train/Ready@2", "1 Train/Starting@2", "1 Train/Running@2", "1 Train/Completed@9"}
	for name, views := range map[string][][]map[string]any{
		"at once":             {{a, b, c, d, e}},
		"step by step":        {{a}, {a, b}, {a, b, c}, {a, b, c, d}, {a, b, c, d, e}},
		"one vanishes":        {{a, b}, {a, c}, {a, c, d, e}},
		"out of order":        {{e, a}, {e, a, b, c, d}},
		"in between":          {{a, b, d, e}, {a, b, c, d, e}},
		"all written twice":   {{a, a, b, c, d, d, e, e}},
		"list order is known": {{a, c}, {a, b, c, d, e}},
	} {
		var list history.List
		var all []history.Condition
		for _, view := range views {
			news, _ := list.Merge(decode(t, view...), 1000, history.Lost{})
			all = append(all, news...)
		}
		list.Sort(all)
		if diff := cmp.Diff(want, walk(t, all)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestLateDuplicatesAreFolded(t *testing.T) {
	data := `{"output":{"models":[{"url":"/m","metrics":{"f1":0.5}}]}}`
	all := decode(t,
		entry(1, "Train", "Waiting"), entry(2, "Train", "Completed"), entry(2, "Eval", "Waiting"),
		entry(3, "Train", "Completed", "message", "late report"), entry(3, "Eval", "Waiting"),
		entry(4, "Eval", "Completed"), entry(5, "Eval", "Completed", "data", data), entry(6, "Train", "Waiting"), entry(7, "Train", "Waiting"))
	want := []string{"1 Train/Waiting@1", "1 Train/Completed@2", "1 Eval/Waiting@2", "1 Eval/Completed@4", "2 Train/Waiting@6"}
	if diff := cmp.Diff(want, walk(t, all)); diff != "" {
		t.Error(diff)
	}
	rounds := history.Walk(all, lifelong(t, "LifelongLearningJob"), 0, 0).Rounds
	if diff := cmp.Diff([]learning.Score{{Metric: "f1", Model: "new", Value: 0.5}}, rounds[0].Scores); diff != "" {
		t.Error("the late report's scores are lost:", diff)
	}
}

func TestRetriesAreRounds(t *testing.T) {
	all := decode(t, entry(1, "Train", "Waiting"), entry(2, "Train", "Failed"), entry(3, "Train", "Waiting"), entry(4, "Train", "Failed"), entry(5, "Train", "Waiting"))
	if got := walk(t, all); got[len(got)-1] != "3 Train/Waiting@5" {
		t.Error(got)
	}
}

func TestFederatedRoundsComeFromMessages(t *testing.T) {
	m := lifelong(t, "FederatedLearningJob")
	var list []any
	for i, text := range []string{"Round 1 reaches at x", "Round 1 reaches at y", "Round 4 reaches at z", "Round 1 reaches at a", "Round 2 reaches at b", "no number"} {
		list = append(list, map[string]any{
			"type": "Training", "status": "True", "message": text, "lastProbeTime": received().Add(time.Duration(i) * time.Second).Format(time.RFC3339),
		})
	}
	all := history.Decode(map[string]any{"status": map[string]any{"conditions": list}}, m, received(), 100, history.Lost{})
	var got []int
	for _, r := range history.Walk(all, m, 0, 0).Rounds {
		got = append(got, r.Number)
	}
	if want := []int{1, 4, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: the aggregator began again after 4", got, want)
	}
}

func TestDocumentsOfAnyShape(t *testing.T) {
	m := lifelong(t, "LifelongLearningJob")
	for data, want := range map[string][]learning.Score{
		`{"output":{"models":[{"metrics":{"a":1,"b":[2],"c":[3,4],"d":"0.5","e":{"x":{"y":6}}}}]}}`: {
			{Metric: "a", Model: "new", Value: 1},
			{Metric: "b", Model: "new", Value: 2},
			{Metric: "c", Model: "new", Index: "0", Value: 3},
			{Metric: "c", Model: "new", Index: "1", Value: 4},
			{Metric: "d", Model: "new", Value: 0.5},
			{Metric: "e.x.y", Model: "new", Value: 6},
		},
		`{"output":{"models":[{"metrics":{"a":1}},{"metrics":{"a":2}},{"url":"/third","metrics":{"a":3}}]}}`: {
			{Metric: "a", Model: "new", Value: 1}, {Metric: "a", Model: "old", Value: 2}, {Metric: "a", Model: "/third", Value: 3},
		},
		`{"output":{"models":[{"current_metric":{"t1":{"m":1},"t2":{"m":2}},"history_metric":{"t1":{"m":0.5}}}]}}`: {
			{Metric: "m", Model: "new", Task: "t1", Value: 1}, {Metric: "m", Model: "new", Task: "t2", Value: 2}, {Metric: "m", Model: "old", Task: "t1", Value: 0.5},
		},
		`{"output":{"models":[{"history_metric":0.19}]}}`: {{Metric: "history_metric", Model: "old", Value: 0.19}},
	} {
		lost := history.Lost{}
		got := history.DecodePayload(&decode(t, entry(1, "Eval", "Completed", "data", data))[0], &m.Payload, lost)
		if diff := cmp.Diff(want, got.Scores); diff != "" || len(lost) > 0 {
			t.Error(data, diff, lost)
		}
	}
	for _, data := range []string{
		`{`, `[]`, `"x"`, `nonsense`, `{'output': {}}`, `{"output":{"models":[{"metrics":{"a":"NaN"}}]}}`, `{"output":{"models":[{"metrics":{"a":true}}]}}`,
		`{"output":{"models":[{"metrics":{"a":1e999}}]}}`, `{"output":{"models":[{"url":5}]}}`,
	} {
		lost := history.Lost{}
		got := history.DecodePayload(&decode(t, entry(1, "Eval", "Completed", "data", data))[0], &m.Payload, lost)
		if len(got.Scores) > 0 || lost["bad_data"] == 0 {
			t.Errorf("%s gave %v and counted %v", data, got.Scores, lost)
		}
	}
}

func TestMillionsOfEntriesAreBounded(t *testing.T) {
	list := make([]any, 200_000)
	for i := range list {
		list[i] = entry(i, "Train", "Running")
	}
	lost := history.Lost{}
	got := history.Decode(map[string]any{"status": map[string]any{"conditions": list}}, lifelong(t, "LifelongLearningJob"), received(), 1000, lost)
	if len(got) != 1000 || lost["conditions_limit"] != 199_000 {
		t.Errorf("%d entries, lost %v", len(got), lost)
	}
}

// FuzzDocument decodes any text as a condition's document.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"output":{"models":[{"url":"u","metrics":{"a":[1,"2",{"b":3}]},"current_metric":{"t":{"m":1}},"history_metric":1}]}}`, `{"input":{"model":{"url":"x"}}}`, `{`, `[[[[`} {
		f.Add(s)
	}
	m := lifelong(f, "LifelongLearningJob")
	f.Fuzz(func(t *testing.T, data string) {
		c := history.Condition{Stage: 1, Type: 4, Data: data}
		p := history.DecodePayload(&c, &m.Payload, history.Lost{})
		if _, err := json.Marshal(p); err != nil {
			t.Error(err)
		}
		seen := map[learning.Score]bool{}
		for _, s := range p.Scores {
			s.Value = 0
			if seen[s] || s.Metric == "" && len(data) < 3 {
				t.Errorf("score %+v twice", s)
			}
			seen[s] = true
		}
	})
}

// FuzzFold merges and walks any lists: what is seen in two steps is what is seen in one, and no value
// that the steps recorded differs from what the end says.
func FuzzFold(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 1, 1, 2, 2, 4, 16, 9, 9}, 3)
	f.Add([]byte{255, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19}, 0)
	m := lifelong(f, "LifelongLearningJob")
	f.Fuzz(func(t *testing.T, raw []byte, cut int) {
		raw = raw[:min(len(raw), 300)]
		var all []history.Condition
		for i := 0; i+1 < len(raw); i += 2 {
			c := history.Condition{Time: 1000 * int64(1+raw[i]%16), Stage: raw[i+1] % 3, Type: raw[i+1] / 3 % 6, Status: raw[i+1] / 18 % 3}
			if raw[i] > 128 {
				c.Data = fmt.Sprintf(`{"output":{"models":[{"url":"/%d","metrics":{"m%d":%d}}]}}`, raw[i]%3, raw[i]%2, raw[i])
			}
			c.Restore(0)
			all = append(all, c)
		}
		once, twice := history.List{}, history.List{}
		first, _ := once.Merge(slices.Clone(all), 1000, history.Lost{})
		cut = min(len(all), max(0, cut))
		part, _ := twice.Merge(slices.Clone(all[:cut]), 1000, history.Lost{})
		rest, appended := twice.Merge(slices.Clone(all), 1000, history.Lost{})
		second := append(slices.Clone(part), rest...)
		once.Sort(first)
		twice.Sort(second)
		if diff := cmp.Diff(walk(t, first), walk(t, second)); diff != "" {
			t.Error("seen in two steps:", diff)
		}
		if !appended && cut == len(all) {
			t.Error("nothing new, and yet to be walked anew")
		}
		checkSteps(t, m, first)
	})
}

// checkSteps compares the values that the steps recorded with those of the end.
func checkSteps(t *testing.T, m *mapping.Mapping, all []history.Condition) {
	t.Helper()
	values, times := map[string]float64{}, map[string]int64{}
	fold := history.New(0)
	for i := range all {
		fold.Step(&all[i], m, history.Lost{}, func(at int64, gone bool, series string, v float64, kv ...string) {
			key := fmt.Sprint(series, labelsOf(kv))
			if at < times[key] {
				t.Errorf("%s goes back in time", key)
			}
			times[key] = at
			if values[key] = v; gone {
				delete(values, key)
			}
		})
	}
	if len(all) == 0 {
		return
	}
	end := map[string]float64{}
	fold.Emit(0, m.Deploy, func(_ int64, _ bool, series string, v float64, kv ...string) {
		end[fmt.Sprint(series, labelsOf(kv))] = v
	})
	if diff := cmp.Diff(end, values); diff != "" {
		t.Error(diff)
	}
}

func labelsOf(kv []string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}
