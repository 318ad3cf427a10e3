// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// Reasons for which a sample is refused: the whole list of the reason label.
const (
	reasonFuture     = "future"
	reasonTooOld     = "too_old"
	reasonOutOfOrder = "out_of_order"
	reasonOutOfBound = "out_of_bounds"
	reasonDuplicate  = "duplicate"
	reasonDiskFull   = "disk_full"
	reasonSeries     = "series_limit"
	reasonInvalid    = "invalid"
	reasonOther      = "other"
)

type metrics struct {
	appended *prometheus.CounterVec
	refused  *prometheus.CounterVec

	diskFree prometheus.Gauge
	diskFull prometheus.Gauge

	backfilled       prometheus.Counter
	backfillBlocks   prometheus.Counter
	backfillPending  prometheus.Gauge
	backfillFailures prometheus.Counter

	mu      sync.Mutex
	writers map[string]*writer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		appended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_metricdb_samples_appended_total",
			Help: "Samples taken into the metrics store, by writer.",
		}, []string{"writer"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_metricdb_samples_refused_total",
			Help: "Samples that the metrics store did not take, by writer and reason.",
		}, []string{"writer", "reason"}),
		diskFree: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_metricdb_disk_free_bytes",
			Help: "Free space on the disk of the metrics store.",
		}),
		diskFull: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_metricdb_disk_full",
			Help: "1 while samples are refused because less than the reserve of disk space is free.",
		}),
		backfilled: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_metricdb_backfill_samples_total",
			Help: "Samples older than the out-of-order window that were written as blocks.",
		}),
		backfillBlocks: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_metricdb_backfill_blocks_total",
			Help: "Blocks written of old samples.",
		}),
		backfillPending: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_metricdb_backfill_pending_samples",
			Help: "Old samples that are logged on disk and not yet in a block.",
		}),
		backfillFailures: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_metricdb_backfill_failures_total",
			Help: "Attempts to write blocks of old samples that failed and are repeated.",
		}),
		writers: make(map[string]*writer),
	}
}

// observe registers what is read from the engine at each scrape.
func (m *metrics) observe(reg prometheus.Registerer, d *DB) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_metricdb_oldest_sample_time_seconds",
		Help: "Time of the oldest sample in the metrics store, as Unix time.",
	}, func() float64 {
		t, err := d.tsdb.StartTime()
		if err != nil {
			return 0
		}
		return float64(t) / 1000
	})
}

// writer holds one writer's counters.
type writer struct {
	appended prometheus.Counter
	reasons  *prometheus.CounterVec
	future   prometheus.Counter
	diskFull prometheus.Counter
}

// writer gives the counters of name, made once, with the reasons that matter shown from the start.
func (m *metrics) writer(name string) *writer {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.writers[name]
	if w == nil {
		reasons := m.refused.MustCurryWith(prometheus.Labels{"writer": name})
		w = &writer{
			appended: m.appended.WithLabelValues(name),
			reasons:  reasons,
			future:   reasons.WithLabelValues(reasonFuture),
			diskFull: reasons.WithLabelValues(reasonDiskFull),
		}
		m.writers[name] = w
	}
	return w
}

func (w *writer) refused(err error, n int) {
	switch reason := reasonOf(err); reason {
	case reasonFuture:
		w.future.Add(float64(n))
	case reasonDiskFull:
		w.diskFull.Add(float64(n))
	default:
		w.reasons.WithLabelValues(reason).Add(float64(n))
	}
}

// reasonOf names the reason of a refusal by the gate or the engine.
func reasonOf(err error) string {
	var invalid histogram.Error
	switch {
	case errors.Is(err, ErrFuture):
		return reasonFuture
	case errors.Is(err, ErrDiskFull):
		return reasonDiskFull
	case errors.Is(err, ErrTooManySeries):
		return reasonSeries
	case errors.Is(err, storage.ErrTooOldSample):
		return reasonTooOld
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return reasonOutOfOrder
	case errors.Is(err, storage.ErrOutOfBounds):
		return reasonOutOfBound
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return reasonDuplicate
	case errors.Is(err, tsdb.ErrInvalidSample), errors.As(err, &invalid):
		return reasonInvalid
	default:
		return reasonOther
	}
}
