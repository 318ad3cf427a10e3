// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	reasonDiskFull  = "disk_full"
	reasonDuplicate = "duplicate"
	reasonTooMany   = "too_many"
	reasonOther     = "other"
)

// clashLimit is for how many series it is remembered that the clash of their owners was logged.
const clashLimit = 10_000

type metrics struct {
	owners  prometheus.Gauge
	series  prometheus.Gauge
	sets    prometheus.Counter
	written prometheus.Counter

	repeated prometheus.Counter
	ended    prometheus.Counter
	skew     prometheus.Counter
	held     prometheus.Gauge
	commit   prometheus.Histogram

	history       prometheus.Counter
	historyFailed prometheus.Counter

	lost *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "periplus_keep_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "periplus_keep_" + name, Help: help})
	}
	return &metrics{
		owners:   gauge("owners", "Objects whose series are kept alive."),
		series:   gauge("series", "Series that are kept alive."),
		sets:     counter("sets_total", "Times that an owner gave its series."),
		written:  counter("samples_written_total", "Samples written to the store, repeats and staleness markers included."),
		repeated: counter("samples_repeated_total", "Samples written because a value had not changed for the repeat interval."),
		ended:    counter("series_ended_total", "Series that ended with a staleness marker."),
		skew:     counter("skew_total", "Event times more than 10 s ahead of this machine's clock, written at the time of arrival."),
		held:     gauge("samples_held", "Samples that wait because the store's disk is full."),
		commit: f.NewHistogram(prometheus.HistogramOpts{
			Name: "periplus_keep_write_seconds", Help: "Time to write one batch to the store.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		history:       counter("history_samples_total", "Samples of the past handed to the store."),
		historyFailed: counter("history_failures_total", "Batches of the past of which the store refused a part; the store counts the samples."),
		lost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_keep_samples_lost_total",
			Help: "Samples that were not written, by reason.",
		}, []string{"reason"}),
	}
}

func (m *metrics) refused(reason string) prometheus.Counter { return m.lost.WithLabelValues(reason) }

// reasonOf is the word that the store gives for an error.
func reasonOf(err error) string {
	var r interface{ Reason() string }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return reasonOther
}

// historyError is what the store refused of the past.
type historyError struct{ error }

// Unwrap gives the store's errors.
func (e historyError) Unwrap() error { return e.error }

// Temporary says whether another try may do better.
func (e historyError) Temporary() bool { return temporary(e.error) }

// temporary looks for an error that is not about the samples. Of joined errors each is looked at.
func temporary(err error) bool {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return slices.ContainsFunc(joined.Unwrap(), temporary)
	}
	reason := reasonOf(err)
	return reason == reasonDiskFull || reason == reasonOther
}
