// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/periplus-io/periplus/internal/resource"
)

// Why a series was refused.
const (
	refusedLimit  = "metric_limit"
	refusedObject = "object_limit"
	refusedTwice  = "duplicate"
)

type metrics struct {
	applied, deleted    prometheus.Counter
	samples             prometheus.Counter
	faults              *prometheus.CounterVec
	refused             *prometheus.CounterVec
	cutLength, cutUTF8  prometheus.Counter
	history             prometheus.Counter
	historyLost         prometheus.Counter
	evaluation          prometheus.Histogram
	scrapes, scrapeLost prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, e *Engine) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "periplus_state_" + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "periplus_state_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, get func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "periplus_state_" + name, Help: help}, get)
	}
	events := vec("events_total", "Events of objects taken in.", "type")
	cut := vec("label_values_changed_total", "Label values that were cut or repaired.", "reason")
	sum := func(of func(*table) int) func() float64 {
		return func() float64 {
			n := 0
			for _, t := range e.all() {
				t.mu.Lock()
				n += of(t)
				t.mu.Unlock()
			}
			return float64(n)
		}
	}
	gauge("objects", "Objects that specifications speak about.", sum(func(t *table) int { return len(t.list) }))
	gauge("series", "Series that objects give now.", sum(func(t *table) int { return t.series }))
	gauge("history_pending_objects", "Objects whose past is still to be written.",
		func() float64 { return float64(e.fills.depth()) })
	return &metrics{
		applied:     events.WithLabelValues("applied"),
		deleted:     events.WithLabelValues("deleted"),
		samples:     counter("samples_total", "Samples handed on at event time."),
		faults:      vec("errors_total", "Evaluations of a metric for an object that failed.", "metric"),
		refused:     vec("series_lost_total", "Series refused, by metric and reason.", "metric", "reason"),
		cutLength:   cut.WithLabelValues("length"),
		cutUTF8:     cut.WithLabelValues("utf8"),
		history:     counter("history_samples_total", "Samples of the past handed on."),
		historyLost: counter("history_lost_samples_total", "Samples of the past that could not be written, at most."),
		evaluation: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "periplus_state_evaluation_seconds",
			Help:    "Time to evaluate one object.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 4, 8),
		}),
		scrapes:    counter("scrapes_total", "Requests for the text of all series."),
		scrapeLost: counter("scrapes_lost_total", "Requests for the text whose client went away."),
	}
}

func (m *metrics) event(t resource.EventType) {
	switch t {
	case resource.Applied:
		m.applied.Inc()
	case resource.Deleted:
		m.deleted.Inc()
	case resource.Listed, resource.Gone:
	}
}

func (m *metrics) refuse(metric, reason string) { m.refused.WithLabelValues(metric, reason).Inc() }
