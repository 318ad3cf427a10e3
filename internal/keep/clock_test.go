// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/wire"
)

// recorder is a store that notes the times of what is appended.
type recorder struct{ times []int64 }

func (r *recorder) Append(_ uint64, _ labels.Labels, t int64, _ float64) (uint64, error) {
	r.times = append(r.times, t)
	return 1, nil
}
func (*recorder) Intern(l labels.Labels) labels.Labels          { return l }
func (*recorder) Seen(labels.Labels) int64                      { return math.MinInt64 }
func (*recorder) Cut() func() error                             { return func() error { return nil } }
func (*recorder) Backfill(context.Context, []wire.Sample) error { return nil }

// A bubble's clock can't be set back, so the series' last sample is set ahead instead.
func TestClockSetBackDoesNotWriteInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recorder{}
		k, err := New(Options{Store: store, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		set := []wire.Sample{{Labels: labels.FromStrings("__name__", "a"), Time: now.UnixMilli(), Value: 1}}
		k.Set("job", now, nil, set)
		o := k.owners["job"]
		o.series[0].last = now.Add(time.Hour).UnixMilli()
		k.repeatSlot(int(o.slot))
		o.series[0].last = now.Add(time.Hour).UnixMilli()
		set[0].Value = 2
		k.Set("job", now, nil, set)
		if len(store.times) != 3 {
			t.Fatalf("%d samples, want the first, a repeat and the change", len(store.times))
		}
		for i, at := range store.times {
			if at != now.UnixMilli() {
				t.Errorf("sample %d is %d ms ahead", i, at-now.UnixMilli())
			}
		}
	})
}
