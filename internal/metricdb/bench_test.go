// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

func benchLabels(n int) []labels.Labels {
	out := make([]labels.Labels, n)
	for i := range out {
		out[i] = labels.FromStrings("__name__", "learning_job_stage_condition", "namespace", "edge-site-"+strconv.Itoa(i/3000),
			"job_kind", "LifelongLearningJob", "job_name", "job-"+strconv.Itoa(i/30), "stage", "Train", "condition", "c"+strconv.Itoa(i%30))
	}
	return out
}

// BenchmarkAppend appends batches of 10,000 samples of as many series: through the gate, through the
// gate with a cluster label, and straight into an engine with the same options but no gate.
func BenchmarkAppend(b *testing.B) {
	series := benchLabels(10_000)
	run := func(b *testing.B, app storage.Appendable, cached bool) {
		refs := make([]storage.SeriesRef, len(series))
		start := time.Now().Add(-time.Hour).UnixMilli()
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; n < b.N; n++ {
			a := app.Appender(b.Context())
			for i, l := range series {
				ref, err := a.Append(refs[i], l, start+int64(n), float64(n))
				if err != nil {
					b.Fatal(err)
				}
				if cached {
					refs[i] = ref
				}
			}
			if err := a.Commit(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(series))/b.Elapsed().Seconds(), "samples/s")
	}
	for _, cached := range []bool{true, false} {
		name := fmt.Sprintf("refs=%t", cached)
		b.Run("engine/"+name, func(b *testing.B) {
			o := tsdb.DefaultOptions()
			o.OutOfOrderTimeWindow, o.IsolationDisabled = 8*24*3600*1000, true
			raw, err := tsdb.Open(b.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			run(b, raw, cached)
		})
		b.Run("gate/"+name, func(b *testing.B) { run(b, open(b, b.TempDir()).Appendable("bench"), cached) })
		b.Run("cluster/"+name, func(b *testing.B) {
			s := metricdb.DefaultSettings()
			s.Cluster = "north"
			run(b, open(b, b.TempDir(), func(o *metricdb.Options) { o.Settings = s }).Appendable("bench"), cached)
		})
	}
}

// BenchmarkLiveSeries keeps 300,000 series of 10,000 owners and reports what the process holds: the
// heap and the resident set after the first set and a repeat of all.
func BenchmarkLiveSeries(b *testing.B) {
	b.Run("event=now", func(b *testing.B) { liveSeries(b, 0) })
	b.Run("event=3d", func(b *testing.B) { liveSeries(b, 3*24*time.Hour) })
}

func liveSeries(b *testing.B, age time.Duration) {
	const owners, per = 10_000, 30
	for b.Loop() {
		before := rss(b)
		d := open(b, b.TempDir())
		k, err := keep.New(keep.Options{Store: d.KeepStore(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Repeat: 15 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- k.Run(ctx) }()
		idle := rss(b)
		start, cpu := time.Now(), cpuTime(b)
		for o := range owners {
			set := make([]wire.Sample, 0, per)
			for _, l := range ownerLabels(o, per) {
				set = append(set, wire.Sample{Labels: l, Time: start.Add(-age).UnixMilli(), Value: 1})
			}
			k.Set(strconv.Itoa(o), start, nil, set)
		}
		eventually(b, "all series", func() bool {
			return d.Status().Series == owners*per && d.value(b, "count(learning_job_stage_condition)", time.Now()) == strconv.Itoa(owners*per)
		})
		b.ReportMetric(time.Since(start).Seconds(), "s-to-queryable")
		b.ReportMetric((cpuTime(b) - cpu).Seconds(), "cpu-s-to-queryable")
		eventually(b, "repeats", func() bool { return time.Since(start) > 9*time.Second })
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(before)/(1<<20), "MiB-before")
		b.ReportMetric(float64(idle)/(1<<20), "MiB-idle")
		b.ReportMetric(float64(rss(b))/(1<<20), "MiB-rss")
		b.ReportMetric(float64(m.HeapAlloc)/(owners*per), "heap-B/series")
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		d.stop()
	}
}

func ownerLabels(o, per int) []labels.Labels {
	out := make([]labels.Labels, per)
	for i := range out {
		out[i] = labels.FromStrings("__name__", "learning_job_stage_condition", "namespace", "edge-site-"+strconv.Itoa(o/100),
			"job_kind", "LifelongLearningJob", "job_name", "job-"+strconv.Itoa(o), "stage", "Train", "condition", "c"+strconv.Itoa(i))
	}
	return out
}

// rss is the resident set of this process in bytes.
func rss(b *testing.B) int64 {
	b.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// BenchmarkUpdate is a status update of one of 10,000 objects with 30 series, 3 of them changed, until
// it is in the store; it reports the whole process' CPU time for 1,000 of them.
func BenchmarkUpdate(b *testing.B) {
	const owners, per = 10_000, 30
	d := open(b, b.TempDir())
	k, _ := keeper(b, d, time.Minute)
	sets := make([][]wire.Sample, owners)
	start := time.Now()
	for o := range sets {
		for _, l := range ownerLabels(o, per) {
			sets[o] = append(sets[o], wire.Sample{Labels: l, Time: start.UnixMilli()})
		}
		k.Set(strconv.Itoa(o), start, nil, sets[o])
	}
	eventually(b, "all series", func() bool {
		return d.value(b, "count(learning_job_stage_condition)", time.Now()) == strconv.Itoa(owners*per)
	})
	cpu := cpuTime(b)
	b.ResetTimer()
	for n := 0; n < b.N; n++ {
		o := n * 7919 % owners
		now := time.Now()
		for i := range 3 {
			s := &sets[o][(n+i)%per]
			s.Time, s.Value = now.UnixMilli(), s.Value+1
		}
		k.Set(strconv.Itoa(o), now, nil, sets[o])
	}
	b.ReportMetric((cpuTime(b)-cpu).Seconds()/float64(b.N)*1000, "cpu-s/1000-updates")
}

// BenchmarkVisible is the time from a Set until PromQL answers with it, on 300,000 live series.
func BenchmarkVisible(b *testing.B) {
	d := open(b, b.TempDir())
	k, _ := keeper(b, d, time.Minute)
	for o := range 10_000 {
		var set []wire.Sample
		for _, l := range ownerLabels(o, 30) {
			set = append(set, wire.Sample{Labels: l, Time: time.Now().UnixMilli()})
		}
		k.Set(strconv.Itoa(o), time.Now(), nil, set)
	}
	var took []time.Duration
	for n := 0; n < b.N; n++ {
		at := time.Now()
		k.Set("one", at, nil, []wire.Sample{{Labels: named("visible"), Time: at.UnixMilli(), Value: float64(n)}})
		want := strconv.Itoa(n)
		for d.value(b, "visible", time.Now().Add(time.Second)) != want {
			runtime.Gosched()
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Milliseconds()), "p99-ms")
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBackfill writes a million samples of 1,000 jobs from three weeks, in one call per job, until
// they can be queried.
func BenchmarkBackfill(b *testing.B) {
	const jobs, per = 1000, 1000
	for b.Loop() {
		d := open(b, b.TempDir(), func(o *metricdb.Options) { o.BackfillDelay = 200 * time.Millisecond })
		store, now := d.KeepStore(), time.Now()
		cpu := cpuTime(b)
		for job, l := range benchLabels(jobs) {
			samples := make([]wire.Sample, per)
			for i := range samples {
				at := now.Add(-21*24*time.Hour + time.Duration(i)*30*time.Minute + time.Duration(job)*time.Second)
				samples[i] = wire.Sample{Labels: l, Time: at.UnixMilli(), Value: float64(i % 2)}
			}
			if err := store.Backfill(b.Context(), samples); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(time.Since(now).Seconds(), "s-to-logged")
		eventually(b, "blocks", func() bool { return d.Status().Pending == 0 })
		b.ReportMetric(time.Since(now).Seconds(), "s-to-queryable")
		b.ReportMetric((cpuTime(b) - cpu).Seconds(), "cpu-s")
		b.ReportMetric(float64(d.Status().Blocks), "blocks")
		b.ReportMetric(float64(d.Status().BlockBytes)/(jobs*per), "B/sample")
		if got := d.value(b, "sum(count_over_time(learning_job_stage_condition[22d]))", now); got != strconv.Itoa(jobs*per) && got != "1e+06" {
			b.Errorf("%s samples", got)
		}
		d.stop()
	}
}
