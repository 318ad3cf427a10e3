// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

var _ keep.Store = (*metricdb.KeepStore)(nil)

// keeper runs a Keep on d until stop.
func keeper(t testing.TB, d *db, repeat time.Duration) (k *keep.Keep, stop func()) {
	t.Helper()
	k, err := keep.New(keep.Options{Store: d.KeepStore(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Repeat: repeat})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return k, stop
}

// temporary tells whether another try may do better.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func stage(name string, at time.Time, v float64) wire.Sample {
	l := labels.FromStrings("__name__", "learning_job_stage", "job_name", "j", "stage", name)
	return wire.Sample{Labels: l, Time: at.UnixMilli(), Value: v}
}

func TestKeptSeriesAnswersLongAfterItsEvent(t *testing.T) {
	d := open(t, t.TempDir())
	k, _ := keeper(t, d, time.Second)
	start := time.Now()
	k.Set("job", start, []wire.Sample{stage("Train", start.Add(-90*time.Minute), 1)}, []wire.Sample{
		stage("Train", start.Add(-time.Hour), 0), stage("Eval", start.Add(-time.Hour), 1),
	})
	eventually(t, "the current stage", func() bool { return d.value(t, `learning_job_stage{stage="Eval"}`, time.Now()) == "1" })
	for _, q := range []struct {
		at   time.Duration
		q    string
		want string
	}{
		{-89 * time.Minute, `learning_job_stage{stage="Train"}`, "1"},
		{-89 * time.Minute, `learning_job_stage{stage="Eval"}`, "none"},
		{-59 * time.Minute, `learning_job_stage{stage="Train"}`, "0"},
		{-59 * time.Minute, `learning_job_stage{stage="Eval"}`, "1"},
	} {
		eventually(t, fmt.Sprintf("%s = %s at %s", q.q, q.want, q.at), func() bool {
			return d.value(t, q.q, start.Add(q.at)) == q.want
		})
	}
	eventually(t, "repeats", func() bool {
		v := d.query(t, `count_over_time(learning_job_stage{stage="Eval"}[30s])`, time.Now())
		return len(v) == 1 && v[0].F >= 4
	})
}

func TestRemovedSeriesIsStaleAtOnce(t *testing.T) {
	d := open(t, t.TempDir())
	k, _ := keeper(t, d, time.Minute)
	k.Set("job", time.Now(), nil, []wire.Sample{stage("Train", time.Now().Add(-time.Minute), 1)})
	eventually(t, "the stage", func() bool { return d.value(t, "learning_job_stage", time.Now()) == "1" })
	before := time.Now()
	k.Remove("job", before)
	eventually(t, "the marker", func() bool { return d.value(t, "learning_job_stage", time.Now()) == "none" })
	if took := time.Since(before); took > 250*time.Millisecond {
		t.Errorf("stale after %s", took)
	}
	if got := d.value(t, "learning_job_stage", before.Add(-time.Second)); got != "1" {
		t.Errorf("a second before: %s", got)
	}
}

func TestSeriesGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	start := time.Now()
	current := []wire.Sample{stage("Train", start.Add(-2*time.Hour), 1)}
	for i := range 3 {
		d := open(t, dir)
		k, stop := keeper(t, d, time.Minute)
		k.Set("job", time.Now(), nil, current)
		eventually(t, "the stage", func() bool { return d.value(t, "learning_job_stage", time.Now()) == "1" })
		stop()
		if got := d.counter(t, "periplus_metricdb_samples_appended_total", "backfill"); i > 0 && got != 0 {
			t.Errorf("start %d wrote the event again", i)
		}
		if got := d.value(t, "learning_job_stage", time.Now().Add(time.Minute)); got != "1" {
			t.Errorf("a minute after the stop: %s", got)
		}
		d.stop()
	}
	d := open(t, dir)
	eventually(t, "the event, once", func() bool {
		v := d.query(t, "count_over_time(learning_job_stage[1h])", start.Add(-90*time.Minute))
		return len(v) == 1 && v[0].F == 1
	})
}

func TestHistoryBeyondTheWindow(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	k, _ := keeper(t, d, time.Minute)
	now := time.Now()
	var samples []wire.Sample
	for age := 29 * 24 * time.Hour; age > 0; age -= time.Hour {
		for s := range 3 {
			sample := stage("Train", now.Add(-age), float64(s))
			sample.Labels = labels.FromStrings("__name__", "old", "s", fmt.Sprint(s))
			samples = append(samples, sample)
		}
	}
	want := func(d *db, what string) {
		t.Helper()
		eventually(t, what, func() bool {
			v := d.query(t, "sum(count_over_time(old[40d]))", now)
			return len(v) == 1 && int(v[0].F) == len(samples)
		})
		if got := d.value(t, `old{s="2"}`, now.Add(-20*24*time.Hour+3*time.Minute)); got != "2" {
			t.Errorf("%s: 20 days ago: %s", what, got)
		}
	}
	k.Set("job", now, nil, []wire.Sample{stage("Deploy", now, 1)})
	for i := 1; i <= 3; i++ {
		if err := k.History(t.Context(), samples); err != nil {
			t.Fatal(err)
		}
		want(d, fmt.Sprint("written ", i, " times"))
		eventually(t, "blocks", func() bool { return d.Status().Pending == 0 })
	}
	if s := d.Status(); s.Blocks == 0 || s.Oldest.After(now.Add(-28*24*time.Hour)) {
		t.Errorf("status %+v", s)
	}
	tooOld := stage("Train", now.Add(-31*24*time.Hour), 1)
	if err := k.History(t.Context(), []wire.Sample{tooOld, stage("Train", now.Add(-time.Hour), 1)}); err == nil || temporary(err) {
		t.Errorf("a sample older than the retention: %v", err)
	}
	if got := d.counter(t, "periplus_metricdb_samples_refused_total", "too_old", "backfill"); got != 1 {
		t.Errorf("counted %g", got)
	}
	if got := d.value(t, "learning_job_stage", now.Add(-time.Hour+time.Minute)); got != "1" {
		t.Errorf("the sample beside it: %s", got)
	}
	d.stop()
	want(open(t, dir), "after a restart")
}

func TestHistoryIsKeptOverStopsBeforeItsBlock(t *testing.T) {
	dir := t.TempDir()
	at := time.Now().Add(-20 * 24 * time.Hour)
	late := func(o *metricdb.Options) { o.BackfillDelay = time.Hour }
	for i := range 4 {
		d := open(t, dir, late)
		if got := d.Status().Pending; got != 2*i {
			t.Errorf("start %d: %d pending, want %d", i, got, 2*i)
		}
		// Series come in another order each time: a reference in the log means one series then, another now.
		for s := range 2 {
			l := labels.FromStrings("__name__", "old", "s", fmt.Sprint((i+s)%2+i/2))
			sample := wire.Sample{Labels: l, Time: at.Add(time.Duration(i) * time.Second).UnixMilli(), Value: float64((i+s)%2 + i/2)}
			if err := d.KeepStore().Backfill(t.Context(), []wire.Sample{sample}); err != nil {
				t.Fatal(err)
			}
		}
		d.stop()
	}
	d := open(t, dir)
	eventually(t, "the old samples", func() bool { return d.value(t, "sum(count_over_time(old[1h]))", at.Add(time.Minute)) == "8" })
	for s := range 3 {
		if got, want := d.value(t, fmt.Sprintf(`max_over_time(old{s="%d"}[1h]) + min_over_time(old{s="%d"}[1h])`, s, s), at.Add(time.Minute)), fmt.Sprint(2*s); got != want {
			t.Errorf("series %d: %s, want %s", s, got, want)
		}
	}
}

func TestDamagedBackfillLogDoesNotStopTheStore(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"torn":    func(b []byte) []byte { return b[:len(b)-3] },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 0xff; return b },
		"garbage": func(b []byte) []byte { return append(b, "not a record"...) },
		"empty":   func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := time.Now().Add(-20 * 24 * time.Hour)
			d := open(t, dir, func(o *metricdb.Options) { o.BackfillDelay = time.Hour })
			for i := range 10 {
				if err := d.KeepStore().Backfill(t.Context(), []wire.Sample{stage("Train", at.Add(time.Duration(i)*time.Second), 1)}); err != nil {
					t.Fatal(err)
				}
			}
			d.stop()
			segments, err := filepath.Glob(filepath.Join(dir, "backfill", "log", "0*"))
			if err != nil || len(segments) == 0 {
				t.Fatal(segments, err)
			}
			raw, err := os.ReadFile(segments[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segments[0], damage(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			d = open(t, dir)
			if err := d.KeepStore().Backfill(t.Context(), []wire.Sample{stage("Eval", at, 1)}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a new sample", func() bool { return d.value(t, `learning_job_stage{stage="Eval"}`, at.Add(time.Minute)) == "1" })
		})
	}
}

func TestManySmallHistoriesMakeFewBlocks(t *testing.T) {
	d := open(t, t.TempDir(), func(o *metricdb.Options) { o.BackfillDelay = 300 * time.Millisecond })
	store := d.KeepStore()
	at := time.Now().Add(-20 * 24 * time.Hour)
	for i := range 2000 {
		l := labels.FromStrings("__name__", "old", "job_name", fmt.Sprint(i))
		if err := store.Backfill(t.Context(), []wire.Sample{{Labels: l, Time: at.UnixMilli(), Value: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "2000 series", func() bool { return d.value(t, "count(old)", at.Add(time.Minute)) == "2000" })
	if got := d.Status().Blocks; got > 3 {
		t.Errorf("%d blocks", got)
	}
}
