// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/periplus-io/periplus/bench/load/internal/proc"
)

// crLoad creates and updates jobs in one namespace.
type crLoad struct {
	jobs    dynamic.ResourceInterface
	workers int
	begin   time.Time
}

func cr(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("cr", flag.ExitOnError)
	kubeconfig := f.String("kubeconfig", "", "kubeconfig file of a test API server that has Sedna's CRDs")
	namespace := f.String("namespace", "default", "namespace of the jobs; it must exist")
	n := f.Int("n", 10000, "jobs to have; those that exist are left as they are")
	create := f.Bool("create", true, "look which jobs are missing and create them")
	workers := f.Int("workers", 16, "parallel requests")
	updates := f.Int("updates", 0, "status updates to make after that")
	round := f.Int("round", 2, "round that the first n updates write; jobs are created with round 1, and a round is ten minutes")
	rate := f.Float64("rate", 100, "status updates a second")
	limit := f.Duration("max-time", 10*time.Minute, "give up after this")
	pid := f.Int("pid", 0, "process id of the watcher under test, to report what it used during the updates")
	settle := f.Duration("settle", 2*time.Second, "how long to go on watching it after the last update")
	_ = f.Parse(args)
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	l, err := newCRLoad(cfg, *namespace, *workers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	if *create {
		if err := l.createAll(ctx, *n); err != nil {
			return err
		}
	}
	if *updates == 0 {
		return nil
	}
	l.resume(ctx)
	w, err := proc.Watch(*pid)
	if err != nil {
		return err
	}
	took, err := l.each(ctx, *updates, *rate, func(i int) error { return l.setStatus(ctx, i%*n, *round + i / *n) })
	if err == nil {
		time.Sleep(*settle)
	}
	u := w.Stop()
	fmt.Printf("%d status updates in %.1f s: %.0f/s\n", *updates, took.Seconds(), float64(*updates)/took.Seconds())
	if *pid != 0 {
		fmt.Printf("watcher: %v, %.2f cpu s per 1,000 updates\n", u, u.CPUSeconds/float64(*updates)*1000)
	}
	return err
}

// createAll creates those of n jobs that are missing.
func (l *crLoad) createAll(ctx context.Context, n int) error {
	var created atomic.Int64
	took, err := l.each(ctx, n, 0, func(i int) error {
		made, err := l.create(ctx, i)
		if made {
			created.Add(1)
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("%d jobs created, %d there, in %.1f s\n", created.Load(), n, took.Seconds())
	return nil
}

func newCRLoad(cfg *rest.Config, namespace string, workers int) (*crLoad, error) {
	cfg.QPS = -1 // the API server sets the pace
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	resource := schema.GroupVersionResource{Group: "sedna.io", Version: "v1alpha1", Resource: "lifelonglearningjobs"}
	return &crLoad{
		jobs:    client.Resource(resource).Namespace(namespace),
		workers: workers,
		begin:   time.Now().UTC().Add(-time.Hour),
	}, nil
}

// resume takes over the time at which jobs of an earlier run began: an update then writes a later round
// of the same history, and not another past.
func (l *crLoad) resume(ctx context.Context) {
	o, err := l.jobs.Get(ctx, jobName(0), metav1.GetOptions{})
	if err != nil {
		return
	}
	text, _, _ := unstructured.NestedString(o.Object, "status", "startTime")
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		l.begin = t
	}
}

// each calls f for 0..n-1 from several goroutines, at most rate a second if rate is not 0, until
// one call fails.
func (l *crLoad) each(ctx context.Context, n int, rate float64, f func(int) error) (time.Duration, error) {
	var next atomic.Int64
	errs := make([]error, l.workers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	for w := range l.workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if rate > 0 {
					time.Sleep(time.Until(start.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
				}
				if errs[w] = f(i); errs[w] != nil {
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start), errors.Join(append(errs, context.Cause(ctx))...)
}

func jobName(i int) string { return fmt.Sprintf("ll-%05d", i) }

// create makes job i with its first round of conditions; false if it was there.
func (l *crLoad) create(ctx context.Context, i int) (bool, error) {
	_, err := l.jobs.Create(ctx, job(i), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, l.setStatus(ctx, i, 1)
}

func (l *crLoad) setStatus(ctx context.Context, i, round int) error {
	patch, err := json.Marshal(map[string]any{"status": status(i, round, l.begin)})
	if err != nil {
		return err
	}
	_, err = l.jobs.Patch(ctx, jobName(i), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func job(i int) *unstructured.Unstructured {
	worker := func(name string) map[string]any {
		return map[string]any{"template": map[string]any{"spec": map[string]any{
			"nodeName": fmt.Sprintf("edge-%03d", i%200),
			"containers": []any{map[string]any{
				"name": name, "image": "registry.example/lifelong:v1", "args": []any{name + ".py"},
				"env": []any{
					map[string]any{"name": "learning_rate", "value": "0.001"},
					map[string]any{"name": "epochs", "value": "40"},
					map[string]any{"name": "metric_name", "value": "mlogloss"},
				},
			}},
		}}}
	}
	train := worker("train-worker")
	train["trigger"] = map[string]any{
		"checkPeriodSeconds": int64(60),
		"timer":              map[string]any{"start": "02:00", "end": "24:00"},
		"condition":          map[string]any{"operator": ">", "threshold": int64(500), "metric": "num_of_samples"},
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "sedna.io/v1alpha1",
		"kind":       "LifelongLearningJob",
		"metadata":   map[string]any{"name": jobName(i), "labels": map[string]any{"site": fmt.Sprintf("site-%d", i%16)}},
		"spec": map[string]any{
			"dataset":    map[string]any{"name": fmt.Sprintf("dataset-%d", i%100), "trainProb": 0.8},
			"outputDir":  "/output",
			"trainSpec":  train,
			"evalSpec":   worker("eval-worker"),
			"deploySpec": worker("infer-worker"),
		},
	}}
}

// status is one whole round: thirteen conditions, oldest first.
func status(i, round int, begin time.Time) map[string]any {
	var conditions []any
	for _, stage := range []struct {
		name  string
		types []string
	}{
		{"Train", []string{"Waiting", "Ready", "Starting", "Running", "Completed"}},
		{"Eval", []string{"Waiting", "Ready", "Starting", "Running", "Completed"}},
		{"Deploy", []string{"Waiting", "Ready", "Completed"}},
	} {
		for _, kind := range stage.types {
			at := begin.Add(time.Duration(round*600+37*len(conditions)+i%37) * time.Second).Format(time.RFC3339)
			c := map[string]any{"stage": stage.name, "type": kind, "status": "True", "lastHeartbeatTime": at, "lastTransitionTime": at}
			switch kind {
			case "Ready":
				c["data"] = fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/%s/%d/index.pkl"}],"dataURL":"/data/train/%d/data.txt","dataIndexURL":"/data/train/%d/dataIndex.txt","outputDir":"/output/%s/%d"}}`, stage.name, round-1, round, round, stage.name, round)
			case "Completed":
				score := 0.5 + float64((i*7+round*13)%1000)/2100
				c["data"] = fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":"/output/%s/%d/index.pkl","metrics":{"precision":[%.4f],"f1_score":"%.4f"},"current_metric":{"task_a":{"mIoU":%.4f}},"classes":["road","car"],"number_of_labeled_unseen_sample":%d}]}}`, stage.name, round, score, score*0.97, score*0.6, i%50)
			}
			conditions = append(conditions, c)
		}
	}
	return map[string]any{
		"startTime":  begin.Format(time.RFC3339),
		"conditions": conditions,
		"knowledgeBase": map[string]any{
			"AIModels":  map[string]any{"numberOfAIModels": int64(1), "listOfAIModels": []any{map[string]any{"modelID": "m1", "averagePrecision": 0.91, "numberOfTrainSamples": int64(512)}}},
			"AIClasses": map[string]any{"numberOfAIClasses": int64(2), "listOfAIClasses": []any{"road", "car"}},
			"samples":   map[string]any{"numberOfLabeledUnseenSample": int64(i % 50), "numberOfUnseenSample": int64(round)},
		},
	}
}
