// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	markers     prometheus.Counter
	markersLost *prometheus.CounterVec
	cut         prometheus.Counter
}

// newMetrics registers our metrics; live counts the series of all targets.
func newMetrics(reg prometheus.Registerer, live func() float64) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		markers: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_scrape_stale_markers_total",
			Help: "Series ended because their target or job is gone.",
		}),
		markersLost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_scrape_stale_markers_lost_total",
			Help: "Series of targets that are gone and could not be ended, by reason: refused by the store, or commit.",
		}, []string{"reason"}),
		cut: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_scrape_connections_cut_total",
			Help: "Connections closed because the target kept sending beyond every job's body_size_limit.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_scrape_live_series",
		Help: "Series that the targets of all jobs give now.",
	}, live)
	for _, reason := range []string{"refused", "commit"} {
		m.markersLost.WithLabelValues(reason)
	}
	return m
}
