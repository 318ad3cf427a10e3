// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/periplus-io/periplus/internal/resource"
)

// metrics are what the room tells of itself.
type metrics struct {
	events     *prometheus.CounterVec
	lists      *prometheus.CounterVec
	restarts   *prometheus.CounterVec
	lost       *prometheus.CounterVec
	duplicates prometheus.Counter
	badFiles   prometheus.Gauge
	files      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	return &metrics{
		events: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_watch_events_total",
			Help: "Events handed on, by kind and by type: applied, deleted, listed, gone.",
		}, []string{"kind", "type"}),
		lists: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_watch_lists_total",
			Help: "Full lists begun, by mode: stream, page.",
		}, []string{"mode"}),
		restarts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_watch_restarts_total",
			Help: "Requests that ended and were made anew, by reason: busy, closed, error, expired, no_streaming, refused.",
		}, []string{"reason"}),
		lost: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_watch_lost_total",
			Help: "Objects that were left out, by reason: malformed, too_large.",
		}, []string{"reason"}),
		duplicates: auto.NewCounter(prometheus.CounterOpts{
			Name: "periplus_watch_manifest_duplicates_total",
			Help: "Objects found in more than one manifest; the newest is taken.",
		}),
		files: auto.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_watch_manifest_files",
			Help: "Manifest files that are followed.",
		}),
		badFiles: auto.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_watch_manifest_files_invalid",
			Help: "Manifest files whose content cannot be read; the last good content holds.",
		}),
	}
}

// eventType is the label value of an event's type.
func eventType(t resource.EventType) string {
	switch t {
	case resource.Applied:
		return "applied"
	case resource.Deleted:
		return "deleted"
	case resource.Listed:
		return "listed"
	default:
		return "gone"
	}
}

// collector exports what [Watcher.Status] says, so that kinds that are gone leave nothing behind.
type collector struct {
	status  func() Status
	state   *prometheus.Desc
	objects *prometheus.Desc
	last    *prometheus.Desc
}

func newCollector(status func() Status) *collector {
	return &collector{
		status: status,
		state: prometheus.NewDesc("periplus_watch_kind_state",
			"State of each watched kind: 1 for the current one, 0 for the others.", []string{"kind", "state"}, nil),
		objects: prometheus.NewDesc("periplus_watch_objects",
			"Objects known.", []string{"kind"}, nil),
		last: prometheus.NewDesc("periplus_watch_last_event_time_seconds",
			"When an object of the kind was seen last, Unix time.", []string{"kind"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.state
	ch <- c.objects
	ch <- c.last
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, k := range c.status().Kinds {
		kind := k.Kind.String()
		for _, state := range states() {
			v := 0.0
			if state == k.State {
				v = 1
			}
			ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, v, kind, string(state))
		}
		ch <- prometheus.MustNewConstMetric(c.objects, prometheus.GaugeValue, float64(k.Objects), kind)
		if !k.LastEvent.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.last, prometheus.GaugeValue, float64(k.LastEvent.UnixMilli())/1e3, kind)
		}
	}
}
