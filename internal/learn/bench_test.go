// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

// counted is a sink that counts, so that a benchmark measures the model alone.
type counted struct{ current, earlier, past int }

func (c *counted) Set(_ string, _ time.Time, earlier, current []wire.Sample) {
	c.earlier += len(earlier)
	c.current += len(current)
}
func (*counted) Remove(string, time.Time) {}
func (c *counted) History(_ context.Context, s []wire.Sample) error {
	c.past += len(s)
	return nil
}

// benchJob is a job with thirteen conditions a round, as bench/ makes them.
func benchJob(i, round int, begin time.Time) resource.Object {
	var list []any
	for _, stage := range []string{"Train", "Eval", "Deploy"} {
		for _, typ := range []string{"Waiting", "Ready", "Starting", "Running", "Completed"} {
			if stage == "Deploy" && (typ == "Starting" || typ == "Running") {
				continue
			}
			c := at(begin.Add(time.Duration(round*600+37*len(list)+i%37)*time.Second), stage+"/"+typ)
			switch typ {
			case "Ready":
				c["data"] = fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/%s/%d/index.pkl"}],"dataURL":"/data/train/%d/data.txt","outputDir":"/output/%s/%d"}}`, stage, round-1, round, stage, round)
			case "Completed":
				c["data"] = fmt.Sprintf(`{"output":{"models":[{"format":"pkl","url":"/output/%s/%d/index.pkl","metrics":{"precision":[0.%d],"f1_score":"0.5"},"current_metric":{"task_a":{"mIoU":0.3}}}]}}`, stage, round, 100+i%800)
			}
			list = append(list, c)
		}
	}
	env := []any{map[string]any{"name": "learning_rate", "value": "0.001"}, map[string]any{"name": "epochs", "value": "40"}}
	worker := map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"env": env}}}}}
	return resource.Object{
		"metadata": map[string]any{"name": fmt.Sprintf("ll-%05d", i), "namespace": "default", "uid": fmt.Sprintf("5f0c3f0e-1b5e-4d5c-9f64-%012d", i), "creationTimestamp": begin.Format(time.RFC3339)},
		"spec":     map[string]any{"dataset": map[string]any{"name": fmt.Sprintf("dataset-%d", i%100), "trainProb": 0.8}, "outputDir": "/output", "trainSpec": worker, "evalSpec": worker},
		"status": map[string]any{"conditions": list, "knowledgeBase": map[string]any{
			"AIModels": map[string]any{"numberOfAIModels": int64(1), "listOfAIModels": []any{map[string]any{"modelID": "m1", "averagePrecision": 0.91}}},
		}},
	}
}

// BenchmarkTenThousandJobs takes 10,000 jobs with thirteen conditions in, writes their past, and then updates them.
func BenchmarkTenThousandJobs(b *testing.B) {
	const jobs = 10_000
	for b.Loop() {
		sink, dir := &counted{}, b.TempDir()
		before := heap()
		l, err := learn.Open(learn.Options{
			Dir: dir, Config: learn.DefaultConfig(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Sink: sink,
		})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		begin, began := time.Now().Add(-time.Hour), time.Now()
		for i := range jobs {
			l.Handle(ctx, resource.Event{Type: resource.Applied, Kind: ll(), Object: benchJob(i, 1, begin), Received: time.Now(), Initial: true})
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/jobs, "µs/job-first")
		for l.Status().BackfillPending > 0 {
			<-time.After(10 * time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-with-past")
		b.ReportMetric(float64(sink.past)/jobs, "past/job")
		b.ReportMetric(float64(sink.current)/jobs, "series/job")
		b.ReportMetric(float64(heap()-before)/jobs, "B/job")
		began = time.Now()
		const updates = 3000
		for i := range updates {
			l.Handle(ctx, resource.Event{Type: resource.Applied, Kind: ll(), Object: benchJob(i, 2, begin), Received: time.Now()})
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/updates, "µs/update")
		began = time.Now()
		if _, err := l.Jobs(learning.JobQuery{Sort: "-changed"}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/list")
		cancel()
		<-done
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		l, err = learn.Open(learn.Options{Dir: dir, Config: learn.DefaultConfig(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Sink: sink})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/reopen")
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
