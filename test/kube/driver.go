// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
)

// Condition is one entry of the list that Sedna's controller appends to.
type Condition struct {
	Stage, Type string
	At          time.Time
	Message     string
	Data        string
}

// object is the condition as it stands in a custom resource.
func (c Condition) object() map[string]any {
	at := c.At.UTC().Format(time.RFC3339)
	o := map[string]any{
		"type": c.Type, "status": "True", "stage": c.Stage,
		"lastHeartbeatTime": at, "lastTransitionTime": at,
	}
	if c.Message != "" {
		o["message"] = c.Message
	}
	if c.Data != "" {
		o["data"] = c.Data
	}
	return o
}

// Outcome is how a round ends.
type Outcome int

// The ways a round can end.
const (
	// Deployed means that the new model was better and has been deployed.
	Deployed Outcome = iota
	// NotDeployed means that nothing was good enough.
	NotDeployed
	// TrainFailed and EvalFailed mean that the stage's worker failed.
	TrainFailed
	EvalFailed
)

// Round gives the conditions of round n (from 1) of a lifelong job, step apart, from start on.
func Round(n int, start time.Time, step time.Duration, outcome Outcome) []Condition {
	var list []Condition
	add := func(stage, kind, data string) {
		list = append(list, Condition{Stage: stage, Type: kind, At: start, Data: data})
		start = start.Add(step)
	}
	fail := func(stage, message string) {
		add(stage, "Failed", "")
		list[len(list)-1].Message = message
	}
	model := fmt.Sprintf("/output/train/%d/index.pkl", n)
	add("Train", "Waiting", "")
	add("Train", "Ready", fmt.Sprintf(`{"input":{"dataURL":"/data/train/%[1]d/data.txt","dataIndexURL":"/data/train/%[1]d/dataIndex.txt","outputDir":"/output/train/%[1]d"}}`, n))
	add("Train", "Starting", "")
	add("Train", "Running", "")
	if outcome == TrainFailed {
		fail("Train", "the worker has failed: exit code 137")
		return list
	}
	add("Train", "Completed", fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":%q,"metrics":{"accuracy":[%.3f]}}]}}`, model, score(n)))
	add("Eval", "Waiting", "")
	add("Eval", "Ready", fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":%q}],"dataURL":"/data/eval/%d/data.txt"}}`, model, n))
	add("Eval", "Starting", "")
	add("Eval", "Running", "")
	if outcome == EvalFailed {
		fail("Eval", "the worker has failed: exit code 1")
		return list
	}
	add("Eval", "Completed", fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":"/output/eval/%d/index.pkl","metrics":{"accuracy":[%.3f]}},{"format":"pkl","url":"/output/deploy/index.pkl","metrics":{"accuracy":[%.3f]}}]}}`, n, score(n), score(n-1)))
	add("Deploy", "Waiting", "")
	if outcome == Deployed {
		add("Deploy", "Ready", fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/eval/%d/index.pkl"}]}}`, n))
	}
	add("Deploy", "Completed", "")
	return list
}

// score rises towards 1.
func score(round int) float64 { return 1 - 1/float64(round+2) }

// Driver plays lifelong learning jobs in one namespace as Sedna's controller would.
type Driver struct {
	namespace string
	jobs      dynamic.ResourceInterface
}

// Driver makes a driver for a namespace, which must exist.
func (c *Cluster) Driver(namespace string) *Driver {
	return &Driver{namespace, c.Dynamic.Resource(Sedna("lifelonglearningjobs")).Namespace(namespace)}
}

// Create makes a job without conditions.
func (d *Driver) Create(ctx context.Context, name string) error {
	_, err := d.jobs.Create(ctx, &unstructured.Unstructured{Object: LifelongJob(d.namespace, name)}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create job %s: %w", name, err)
	}
	return nil
}

// Append adds conditions to a job's status, in one update.
func (d *Driver) Append(ctx context.Context, name string, conditions ...Condition) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		job, err := d.jobs.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		AppendConditions(job.Object, conditions...)
		_, err = d.jobs.UpdateStatus(ctx, job, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("append to job %s: %w", name, err)
	}
	return nil
}

// Play creates a job and plays one round for each outcome, one status update for each condition. The
// conditions' times are step apart from start on; nothing waits.
func (d *Driver) Play(ctx context.Context, name string, start time.Time, step time.Duration, outcomes ...Outcome) error {
	if err := d.Create(ctx, name); err != nil {
		return err
	}
	for i, outcome := range outcomes {
		for _, condition := range Round(i+1, start, step, outcome) {
			if err := d.Append(ctx, name, condition); err != nil {
				return err
			}
			start = condition.At.Add(step)
		}
	}
	return nil
}

// Delete removes a job.
func (d *Driver) Delete(ctx context.Context, name string) error {
	return d.jobs.Delete(ctx, name, metav1.DeleteOptions{})
}

// AppendConditions adds conditions to a job as read from the API or from a manifest.
func AppendConditions(job map[string]any, conditions ...Condition) {
	status, _ := job["status"].(map[string]any)
	if status == nil {
		status = map[string]any{}
		job["status"] = status
	}
	list, _ := status["conditions"].([]any)
	for _, c := range conditions {
		if status["startTime"] == nil {
			status["startTime"] = c.At.UTC().Format(time.RFC3339)
		}
		list = append(list, c.object())
	}
	status["conditions"] = list
}

// LifelongJob is a job as people write it, about 6 kB with a round of conditions and managed fields.
func LifelongJob(namespace, name string) map[string]any {
	env := func(pairs ...string) (list []any) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, map[string]any{"name": pairs[i], "value": pairs[i+1]})
		}
		return list
	}
	template := func(script string, env []any) map[string]any {
		return map[string]any{"template": map[string]any{"spec": map[string]any{
			"nodeName": "edge-000", "dnsPolicy": "ClusterFirstWithHostNet",
			"containers": []any{map[string]any{
				"name": script, "image": "registry.example/lifelong:v1", "imagePullPolicy": "IfNotPresent",
				"args": []any{script + ".py"}, "env": env,
				"resources": map[string]any{"limits": map[string]any{"cpu": "4", "memory": "6Gi"}, "requests": map[string]any{"cpu": "1", "memory": "2Gi"}},
			}},
		}}}
	}
	train := template("train", env("learning_rate", "0.001", "epochs", "40", "batch_size", "32", "early_stopping_rounds", "100", "metric_name", "mlogloss"))
	train["trigger"] = map[string]any{
		"checkPeriodSeconds": int64(60), "timer": map[string]any{"start": "02:00", "end": "20:00"},
		"condition": map[string]any{"operator": ">", "threshold": int64(500), "metric": "num_of_samples"},
	}
	return map[string]any{
		"apiVersion": "sedna.io/v1alpha1", "kind": "LifelongLearningJob",
		"metadata": map[string]any{"namespace": namespace, "name": name},
		"spec": map[string]any{
			"dataset":    map[string]any{"name": "atcii-dataset", "trainProb": 0.8},
			"trainSpec":  train,
			"evalSpec":   template("eval", env("metrics", "precision_score", "metric_param", `{"average": "micro"}`, "model_threshold", "0.5", "operator", "<")),
			"deploySpec": template("inference", env("UNSEEN_SAVE_URL", "/data/unseen", "infer_dataset_url", "/data/test.csv")),
			"outputDir":  "/output",
		},
	}
}
