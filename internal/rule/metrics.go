// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the room's own; evaluation times, failures and dropped notifications are counted by the
// libraries under their prometheus_rule_* and prometheus_notifications_* names on the same registry.
type metrics struct {
	reloads *prometheus.CounterVec
	rules   prometheus.Gauge
	alerts  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		reloads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_rule_reloads_total",
			Help: "Configurations applied, by outcome (ok, failed).",
		}, []string{"outcome"}),
		rules: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_rule_rules",
			Help: "Recording and alerting rules loaded.",
		}),
		alerts: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_rule_alerts_sent_total",
			Help: "Alerts handed to the notifier, firing and resolved.",
		}),
	}
}
