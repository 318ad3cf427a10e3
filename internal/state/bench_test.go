// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// benchSpec is the specification of about thirty series that other engines are measured with.
func benchSpec(b testing.TB) []*spec.Spec {
	b.Helper()
	data, err := os.ReadFile("testdata/thirty.yaml")
	if err != nil {
		b.Fatal(err)
	}
	s, err := spec.Parse("thirty.yaml", data, spec.Choices{Limit: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	return []*spec.Spec{s}
}

// job makes job i in its round-th round: thirteen conditions, about 6 kB as JSON.
func job(i, round int) resource.Object {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	worker := func(name string) map[string]any {
		return map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
			"name": name,
			"env":  []any{map[string]any{"name": "learning_rate", "value": "0.001"}},
		}}}}}
	}
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
			conditions = append(conditions, map[string]any{
				"stage": stage.name, "type": kind, "status": "True", "lastHeartbeatTime": at, "lastTransitionTime": at,
				"data": fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/%s/%d/index.pkl"}]}}`, stage.name, round),
			})
		}
	}
	return resource.Object{
		"apiVersion": "sedna.io/v1alpha1",
		"kind":       "LifelongLearningJob",
		"metadata": map[string]any{
			"name": fmt.Sprintf("ll-%05d", i), "namespace": "default", "uid": fmt.Sprintf("9e107d9d-372b-4b2c-8d4e-%012d", i),
			"creationTimestamp": "2026-01-01T00:00:00Z", "labels": map[string]any{"site": fmt.Sprintf("site-%d", i%16)},
		},
		"spec": map[string]any{
			"dataset":   map[string]any{"name": fmt.Sprintf("dataset-%d", i%100), "trainProb": 0.8},
			"outputDir": "/output", "trainSpec": worker("train"), "evalSpec": worker("eval"), "deploySpec": worker("infer"),
		},
		"status": map[string]any{
			"startTime":  "2026-01-01T00:00:00Z",
			"conditions": conditions,
			"knowledgeBase": map[string]any{
				"AIModels":  map[string]any{"numberOfAIModels": int64(1)},
				"AIClasses": map[string]any{"numberOfAIClasses": int64(2)},
				"samples":   map[string]any{"numberOfLabeledUnseenSample": int64(i % 50), "numberOfUnseenSample": int64(round)},
			},
		},
	}
}

// discard is a sink that costs nothing.
type discard struct{}

func (discard) Set(string, time.Time, []wire.Sample, []wire.Sample) {}
func (discard) Remove(string, time.Time)                            {}
func (discard) History(context.Context, []wire.Sample) error        { return nil }

func BenchmarkHandle(b *testing.B) {
	e := newEngine(b, prometheus.NewRegistry(), benchSpec(b), discard{})
	events := [2]resource.Event{applied(job(1, 1), time.Now()), applied(job(1, 2), time.Now())}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Handle(b.Context(), events[i%2])
	}
}

func BenchmarkHandleUnchanged(b *testing.B) {
	e := newEngine(b, prometheus.NewRegistry(), benchSpec(b), discard{})
	ev := applied(job(1, 1), time.Now())
	b.ReportAllocs()
	for b.Loop() {
		e.Handle(b.Context(), ev)
	}
}

// BenchmarkHandlePod is a pod of two containers through the shipped specification.
func BenchmarkHandlePod(b *testing.B) {
	a, err := txtar.ParseFile("testdata/kube-core.txtar")
	if err != nil {
		b.Fatal(err)
	}
	c := state.Default()
	c.Shipped = []string{"kube"}
	specs, err := c.Load()
	if err != nil {
		b.Fatal(err)
	}
	e := newEngine(b, prometheus.NewRegistry(), specs, discard{})
	ev := applied(objects(b, a.Files[0].Data)[1], time.Now())
	b.ReportAllocs()
	for b.Loop() {
		e.Handle(b.Context(), ev)
	}
}

func full(b testing.TB, n int) *state.Engine {
	b.Helper()
	e := newEngine(b, prometheus.NewRegistry(), benchSpec(b), discard{})
	for i := range n {
		e.Handle(b.Context(), applied(job(i, 1), time.Now()))
	}
	return e
}

// TestMemoryIsLinear: what the engine holds of an object is a little more than its text, however
// many there are.
func TestMemoryIsLinear(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, n := range []int{2_000, 20_000} {
		before := heap()
		e := full(t, n)
		per := (heap() - before) / uint64(n)
		t.Logf("%d objects: %d bytes each", n, per)
		if per > 8<<10 {
			t.Errorf("%d objects: %d bytes each", n, per)
		}
		runtime.KeepAlive(e)
	}
}

// BenchmarkScrape is a full scrape of ten thousand jobs over a loopback connection.
func BenchmarkScrape(b *testing.B) {
	for _, coding := range []string{"identity", "gzip", "zstd"} {
		b.Run(coding, func(b *testing.B) {
			e := full(b, 10_000)
			l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: e.Handler(), ReadHeaderTimeout: time.Second}
			go func() { _ = srv.Serve(l) }()
			defer func() { _ = srv.Close() }()
			var times []time.Duration
			for b.Loop() {
				start := time.Now()
				b.SetBytes(fetch(b, "http://"+l.Addr().String(), coding))
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms-median")
		})
	}
}

func fetch(b *testing.B, url, coding string) int64 {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", coding)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func BenchmarkRender(b *testing.B) {
	e := full(b, 10_000)
	for b.Loop() {
		if err := e.Text(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
