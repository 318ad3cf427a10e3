// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

func TestSeriesThatTheirTargetStoppedGivingAreForgotten(t *testing.T) {
	start := time.Unix(1000, 0)
	a := &account{pruned: start, series: map[storage.SeriesRef]*entry{
		1: {seen: start}, 2: {seen: start.Add(forgetAfter)},
	}}
	a.prune(start.Add(forgetAfter - time.Second))
	if len(a.series) != 2 {
		t.Errorf("before its time: got %d series, want 2", len(a.series))
	}
	a.prune(start.Add(forgetAfter + time.Second))
	if len(a.series) != 1 || a.series[2] == nil {
		t.Errorf("got %v, want the second alone", a.series)
	}
}

// BenchmarkAppend compares scrapes of 10,000 series with and without the ledger.
func BenchmarkAppend(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("ledger=%v", with), func(b *testing.B) {
			db, err := tsdb.Open(b.TempDir(), slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			var store storage.AppendableV2 = db
			if with {
				store = newLedger(db, newMetrics(prometheus.NewRegistry(), func() float64 { return 0 }))
			}
			ctx := scrape.ContextWithTarget(context.Background(),
				scrape.NewTarget(labels.FromStrings("job", "j", "instance", "i"), &promconfig.ScrapeConfig{}, nil, nil))
			series := make([]labels.Labels, 10_000)
			refs := make([]storage.SeriesRef, len(series))
			for i := range series {
				series[i] = labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
			}
			at := time.Now().UnixMilli()
			for b.Loop() {
				app := store.AppenderV2(ctx)
				for i, ls := range series {
					if refs[i], err = app.Append(refs[i], ls, 0, at, 1, nil, nil, storage.AppendV2Options{}); err != nil {
						b.Fatal(err)
					}
				}
				if err := app.Commit(); err != nil {
					b.Fatal(err)
				}
				at++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(series)), "ns/sample")
		})
	}
}
