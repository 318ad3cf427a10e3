// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the room's own.
type metrics struct {
	in       *prometheus.CounterVec
	out      *prometheus.CounterVec
	lost     *prometheus.CounterVec
	events   prometheus.Counter
	skew     prometheus.Counter
	backfill prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, l *Learn) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_learn_backfill_pending", Help: "Objects whose past still has to be written.",
	}, func() float64 { n, _ := l.queue.state(time.Now()); return float64(n) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_learn_backfill_oldest_seconds", Help: "How long the oldest object has waited for its past to be written.",
	}, func() float64 { _, age := l.queue.state(time.Now()); return age.Seconds() })
	return &metrics{
		in: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_learn_observations_total", Help: "Observations of objects taken in, by the role of their kind.",
		}, []string{"role"}),
		out: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_learn_samples_total", Help: "Samples handed on: current values, transitions before them, and samples of the past.",
		}, []string{"way"}),
		lost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_learn_lost_total", Help: "Parts of objects, records and writes that could not be used or kept, by reason.",
		}, []string{"reason"}),
		skew: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_learn_skewed_conditions_total", Help: "Conditions whose time was more than 10 s ahead of the hub's clock when they were seen.",
		}),
		events: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_learn_events_total", Help: "Changes of the learning model published.",
		}),
		backfill: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_learn_backfill_retries_total", Help: "Attempts to write the past that failed and are made again.",
		}),
	}
}
