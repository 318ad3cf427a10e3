// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

func kind(t *testing.T, name string) *mapping.Mapping {
	t.Helper()
	set, err := mapping.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return set.Find(resource.Kind{Group: "sedna.io", Kind: name})
}

func env(kv ...string) map[string]any {
	var list []any
	for i := 0; i < len(kv); i += 2 {
		list = append(list, map[string]any{"name": kv[i], "value": kv[i+1]})
	}
	return map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"env": list}}}}}
}

// TestLifelongThresholdsDrop covers what a lifelong worker does with its environment, its defaults included.
func TestLifelongThresholdsDrop(t *testing.T) {
	drop := func(metric, operator string, value float64) []learning.Threshold {
		return []learning.Threshold{{Metric: metric, Operator: operator, Effect: "drop", Value: value}}
	}
	for name, c := range map[string]struct {
		eval any
		want []learning.Threshold
	}{
		"no evaluation":     {nil, nil},
		"defaults":          {map[string]any{}, drop("", ">", 0.1)},
		"all given":         {env("operator", "<", "model_threshold", "0.5", "metrics", "f1"), drop("f1", "<", 0.5)},
		"word":              {env("operator", "ge", "model_threshold", "1"), drop("", ">=", 1)},
		"upper case":        {env("MODEL_THRESHOLD", "2", "OPERATOR", "EQ"), drop("", "=", 2)},
		"unknown operator":  {env("operator", "almost"), drop("", "<", 0.1)},
		"garbage threshold": {env("model_threshold", "high"), drop("", ">", 0.1)},
	} {
		spec := map[string]any{}
		if c.eval != nil {
			spec["evalSpec"] = c.eval
		}
		got := facts.Read(kind(t, "LifelongLearningJob"), resource.Object{"spec": spec})
		if diff := cmp.Diff(c.want, got.Thresholds); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestIncrementalThresholdsDeploy(t *testing.T) {
	for name, c := range map[string]struct {
		condition map[string]any
		want      []learning.Threshold
	}{
		"all given":    {map[string]any{"operator": "gt", "threshold": 0.1, "metric": "f1_delta"}, []learning.Threshold{{Metric: "f1_delta", Operator: ">", Effect: "deploy", Value: 0.1}}},
		"no operator":  {map[string]any{"threshold": int64(1), "metric": "m"}, []learning.Threshold{{Metric: "m", Effect: "deploy", Value: 1}}},
		"no threshold": {map[string]any{"operator": "<="}, nil},
	} {
		o := resource.Object{"spec": map[string]any{"deploySpec": map[string]any{"trigger": map[string]any{"condition": c.condition}}}}
		if diff := cmp.Diff(c.want, facts.Read(kind(t, "IncrementalLearningJob"), o).Thresholds); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestInferenceIsNeverInvented(t *testing.T) {
	metric := func(kv ...string) resource.Object {
		var list []any
		for i := 0; i < len(kv); i += 2 {
			list = append(list, map[string]any{"key": kv[i], "value": kv[i+1]})
		}
		return resource.Object{"status": map[string]any{"metrics": list}}
	}
	n := func(v float64) *float64 { return &v }
	for name, c := range map[string]struct {
		object resource.Object
		want   *learning.Inference
	}{
		"nothing":  {resource.Object{}, nil},
		"all":      {metric("inferenceNumber", "200", "hardExampleNumber", "30", "uploadCloudRatio", "0.15"), &learning.Inference{Edge: n(170), Cloud: n(30), Hard: n(30), UploadRatio: n(0.15)}},
		"no ratio": {metric("hardExampleNumber", "30"), &learning.Inference{Hard: n(30)}},
		"garbage":  {metric("inferenceNumber", "many"), nil},
	} {
		if diff := cmp.Diff(c.want, facts.Read(kind(t, "JointInferenceService"), c.object).Inference); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
