// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/internal/wire"
)

// nowhere is a store that takes everything and holds nothing: what is measured is the rooms' own memory.
type nowhere struct{ series uint64 }

func (n *nowhere) Append(ref uint64, _ labels.Labels, _ int64, _ float64) (uint64, error) {
	if ref == 0 {
		n.series++
		ref = n.series
	}
	return ref, nil
}
func (*nowhere) Intern(l labels.Labels) labels.Labels          { return l }
func (*nowhere) Seen(labels.Labels) int64                      { return math.MinInt64 }
func (*nowhere) Cut() func() error                             { return func() error { return nil } }
func (*nowhere) Backfill(context.Context, []wire.Sample) error { return nil }

// BenchmarkMemoryPerObject feeds up to 100,000 jobs of thirteen conditions through watch, state, keep and learn, and reports
// what one of them takes in memory. Run it with -benchtime 1x.
func BenchmarkMemoryPerObject(b *testing.B) {
	for _, c := range []struct {
		name           string
		stored, learnt bool
	}{{"text", false, false}, {"stored", true, false}, {"learn", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				feedJobs(b, c.stored, c.learnt, 25_000, 50_000, 100_000)
			}
		})
	}
}

// feedJobs runs the rooms against an API server that has as many jobs as it is asked for, and reports at each number.
func feedJobs(b *testing.B, stored, learnt bool, numbers ...int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	log := slog.New(slog.DiscardHandler)
	reg := prometheus.NewRegistry()
	check := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	config := state.Default()
	config.Shipped, config.SeriesLimit = nil, 1<<30
	config.Files = []state.File{{Path: "../../../bench/load/testdata/thirty-series.yaml"}}
	specs, err := config.Load()
	check(err)
	before := heap()
	keeper, err := keep.New(keep.Options{Store: &nowhere{}, Log: log, Registry: reg})
	check(err)
	var sink state.Sink
	if stored {
		sink = keeper
	}
	engine, err := state.New(state.Options{Log: log, Registry: reg, Sink: sink, Specs: specs, Config: config})
	check(err)
	learning := learn.DefaultConfig()
	learning.Disabled = !learnt
	model, err := learn.Open(learn.Options{Dir: b.TempDir(), Config: learning, Log: log, Registry: reg, Sink: keeper})
	check(err)
	watcher, err := watch.New(watch.Options{Log: log, Registry: reg, Handler: func(ctx context.Context, e resource.Event) {
		engine.Handle(ctx, e)
		model.Handle(ctx, e)
	}})
	check(err)
	upTo := make(chan int, 1)
	server := httptest.NewServer(jobServer(upTo))
	defer server.Close()
	sources := watch.DefaultConfig()
	sources.Kubeconfig = kubeconfig(b, server.URL)
	check(watcher.Apply(sources, wants(engine, model)))
	done := make(chan error)
	for _, run := range []func(context.Context) error{keeper.Run, engine.Run, model.Run, watcher.Run} {
		go func() { done <- run(ctx) }()
	}
	for _, n := range numbers {
		start := time.Now()
		upTo <- n
		for watched(watcher) < n || model.Status().BackfillPending > 0 {
			select {
			case <-ctx.Done():
				b.Fatal(ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
		b.Logf("%d jobs, the last ones in %.1f s", n, time.Since(start).Seconds())
		b.ReportMetric(float64(heap()-before)/float64(n)/1024, fmt.Sprintf("KiB/object-at-%d", n))
	}
	cancel()
	for range 4 {
		check(<-done)
	}
	check(model.Close())
	runtime.KeepAlive(watcher)
}

// watched is how many objects the watcher has.
func watched(w *watch.Watcher) (n int) {
	for _, k := range w.Status().Kinds {
		n += k.Objects
	}
	return n
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// jobServer answers as an API server with one kind does, and streams jobs up to the number it is told.
func jobServer(upTo <-chan int) http.Handler {
	mux := http.NewServeMux()
	text := func(pattern, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) })
	}
	text("GET /apis/sedna.io", `{"kind":"APIGroup","name":"sedna.io","versions":[{"groupVersion":"sedna.io/v1alpha1","version":"v1alpha1"}],
		"preferredVersion":{"groupVersion":"sedna.io/v1alpha1","version":"v1alpha1"}}`)
	text("GET /apis/sedna.io/v1alpha1", `{"kind":"APIResourceList","groupVersion":"sedna.io/v1alpha1","resources":[
		{"name":"lifelonglearningjobs","kind":"LifelongLearningJob","namespaced":true,"verbs":["get","list","watch"]}]}`)
	text("GET /api/v1", `{"kind":"APIResourceList","groupVersion":"v1","resources":[]}`)
	mux.HandleFunc("GET /apis/sedna.io/v1alpha1/lifelonglearningjobs", func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now().Add(-time.Hour)
		for i := 0; ; {
			select {
			case <-r.Context().Done():
				return
			case n := <-upTo:
				for ; i < n; i++ {
					event, err := json.Marshal(map[string]any{"type": "ADDED", "object": wholeJob(i, begin)})
					if err != nil {
						return
					}
					_, _ = w.Write(append(event, '\n'))
				}
				w.(http.Flusher).Flush()
			}
		}
	})
	return mux
}

// wholeJob is a job as bench/load makes them.
func wholeJob(i int, begin time.Time) resource.Object {
	worker := map[string]any{"template": map[string]any{"spec": map[string]any{
		"nodeName": fmt.Sprintf("edge-%03d", i%200),
		"containers": []any{map[string]any{"name": "worker", "image": "registry.example/lifelong:v1", "env": []any{
			map[string]any{"name": "learning_rate", "value": "0.001"}, map[string]any{"name": "epochs", "value": "40"},
		}}},
	}}}
	var conditions []any
	for _, stage := range []string{"Train", "Eval", "Deploy"} {
		for _, kind := range []string{"Waiting", "Ready", "Starting", "Running", "Completed"} {
			if stage == "Deploy" && (kind == "Starting" || kind == "Running") {
				continue
			}
			at := begin.Add(time.Duration(37*len(conditions)+i%37) * time.Second).UTC().Format(time.RFC3339)
			c := map[string]any{"stage": stage, "type": kind, "status": "True", "lastHeartbeatTime": at, "lastTransitionTime": at}
			switch kind {
			case "Ready":
				c["data"] = fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/%s/0/index.pkl"}],"dataURL":"/data/train/1/data.txt"}}`, stage)
			case "Completed":
				c["data"] = fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":"/output/%s/1/index.pkl","metrics":{"precision":[0.%d],"f1_score":"0.5"}}]}}`, stage, 100+i%800)
			}
			conditions = append(conditions, c)
		}
	}
	return resource.Object{
		"apiVersion": "sedna.io/v1alpha1", "kind": "LifelongLearningJob",
		"metadata": map[string]any{
			"name": fmt.Sprintf("ll-%06d", i), "namespace": "default", "uid": fmt.Sprintf("7c9e6679-7425-40de-944b-%012d", i),
			"resourceVersion": fmt.Sprint(i + 1), "creationTimestamp": begin.UTC().Format(time.RFC3339), "labels": map[string]any{"site": fmt.Sprintf("site-%d", i%16)},
		},
		"spec": map[string]any{
			"dataset":   map[string]any{"name": fmt.Sprintf("dataset-%d", i%100), "trainProb": 0.8},
			"outputDir": "/output", "trainSpec": worker, "evalSpec": worker, "deploySpec": worker,
		},
		"status": map[string]any{
			"startTime": begin.UTC().Format(time.RFC3339), "conditions": conditions,
			"knowledgeBase": map[string]any{
				"AIModels":  map[string]any{"numberOfAIModels": 1, "listOfAIModels": []any{map[string]any{"modelID": "m1", "averagePrecision": 0.91}}},
				"AIClasses": map[string]any{"numberOfAIClasses": 2, "listOfAIClasses": []any{"road", "car"}},
				"samples":   map[string]any{"numberOfLabeledUnseenSample": i % 50, "numberOfUnseenSample": 1},
			},
		},
	}
}

func kubeconfig(b *testing.B, url string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: bench, clusters: [{name: bench, cluster: {server: %q}}],
		users: [{name: bench}], contexts: [{name: bench, context: {cluster: bench, user: bench}}]}`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}
