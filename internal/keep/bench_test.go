// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep_test

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/wire"
)

// nowhere is a store that costs nothing.
type nowhere struct{ n uint64 }

func (s *nowhere) Append(ref uint64, _ labels.Labels, _ int64, _ float64) (uint64, error) {
	s.n++
	if ref == 0 {
		ref = s.n
	}
	return ref, nil
}
func (*nowhere) Intern(l labels.Labels) labels.Labels          { return l }
func (*nowhere) Seen(labels.Labels) int64                      { return math.MinInt64 }
func (*nowhere) Cut() func() error                             { return func() error { return nil } }
func (*nowhere) Backfill(context.Context, []wire.Sample) error { return nil }

const benchSeries = 30

func ownerSet(owner int) []wire.Sample {
	set := make([]wire.Sample, benchSeries)
	for i := range set {
		set[i].Labels = labels.FromStrings("__name__", "learning_job_stage_condition", "namespace", "edge-site-"+strconv.Itoa(owner/100),
			"job_kind", "LifelongLearningJob", "job_name", "job-"+strconv.Itoa(owner), "stage", "Train", "condition", "c"+strconv.Itoa(i))
	}
	return set
}

func newBench(b *testing.B, repeat time.Duration) *keep.Keep {
	b.Helper()
	k, err := keep.New(keep.Options{Store: &nowhere{}, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Repeat: repeat})
	if err != nil {
		b.Fatal(err)
	}
	return k
}

// BenchmarkSet is one status update of an object with 30 series of which 3 changed.
func BenchmarkSet(b *testing.B) {
	k := newBench(b, time.Minute)
	set := ownerSet(1)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		now := time.Now()
		for i := range 3 {
			set[(n+i)%benchSeries].Value = float64(n)
			set[(n+i)%benchSeries].Time = now.UnixMilli()
		}
		k.Set("job", now, nil, set)
	}
	cancel()
	<-done
}

// BenchmarkKept reports the memory of 300,000 series of 10,000 owners, their labels not counted.
func BenchmarkKept(b *testing.B) {
	const owners = 10_000
	for b.Loop() {
		sets := make([][]wire.Sample, owners)
		names := make([]string, owners)
		for o := range sets {
			sets[o], names[o] = ownerSet(o), strconv.Itoa(o)
		}
		before := heap()
		k := newBench(b, time.Minute)
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		start := time.Now()
		for o, set := range sets {
			k.Set(names[o], start, nil, set)
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/(owners*benchSeries), "ns/new-series")
		cancel()
		<-done
		b.ReportMetric(float64(heap()-before)/(owners*benchSeries), "B/series")
		runtime.KeepAlive(sets)
		runtime.KeepAlive(k)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
