// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics tell how loading went. Make one for a process with NewMetrics.
type Metrics struct {
	loads      *prometheus.CounterVec
	faults     prometheus.Gauge
	successful prometheus.Gauge
	at         prometheus.Gauge
}

// NewMetrics registers the metrics of this package.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		loads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_config_loads_total",
			Help: "Loads of the configuration at start and reload, by result: applied, or refused.",
		}, []string{"result"}),
		faults: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_config_faults",
			Help: "Faults that the last load found; 0 when it was applied.",
		}),
		successful: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_config_last_load_successful",
			Help: "Whether the last load was applied. If not, the configuration before it is in use.",
		}),
		at: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_config_applied_timestamp_seconds",
			Help: "When the configuration in use was applied, in Unix time.",
		}),
	}
	m.loads.WithLabelValues("applied")
	m.loads.WithLabelValues("refused")
	return m
}

// Loaded records one load: err is what Load or applying its result gave, nil when the result is in use.
func (m *Metrics) Loaded(err error, at time.Time) {
	if err == nil {
		m.loads.WithLabelValues("applied").Inc()
		m.faults.Set(0)
		m.successful.Set(1)
		m.at.Set(float64(at.UnixMilli()) / 1000)
		return
	}
	m.loads.WithLabelValues("refused").Inc()
	m.successful.Set(0)
	n := 1
	if faults, ok := errors.AsType[Faults](err); ok {
		n = len(faults)
	}
	m.faults.Set(float64(n))
}
