// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
)

const (
	protocolWrite = "remote_write"
	protocolOTLP  = "otlp"
)

// reason says why samples were refused; a bounded label value.
type reason string

const (
	reasonOutOfBounds reason = "out_of_bounds"
	reasonOutOfOrder  reason = "out_of_order"
	reasonDuplicate   reason = "duplicate"
	reasonTooOld      reason = "too_old"
	reasonHistogram   reason = "invalid_histogram"
	reasonLabels      reason = "invalid_labels"
	reasonDelta       reason = "delta"
	reasonOTLP        reason = "untranslatable"
	reasonEmpty       reason = "empty_series"
)

type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	bytes     *prometheus.CounterVec
	samples   *prometheus.CounterVec
	exemplars prometheus.Counter
	refused   *prometheus.CounterVec
	lost      *prometheus.CounterVec
	warnings  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_receive_requests_total",
			Help: "Write requests answered, by protocol and class of status code.",
		}, []string{"protocol", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "periplus_receive_request_duration_seconds",
			Help:    "Time from the arrival of a write request to its answer.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
		}, []string{"protocol"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_receive_requests_in_flight",
			Help: "Write requests being decoded and stored now.",
		}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_receive_decoded_bytes_total",
			Help: "Bytes of write requests after decompression.",
		}, []string{"protocol"}),
		samples: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_receive_samples_total",
			Help: "Samples (native histograms included) stored.",
		}, []string{"protocol"}),
		exemplars: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_receive_exemplars_total",
			Help: "Exemplars stored.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_receive_samples_refused_total",
			Help: "Samples refused for good, by reason; the sender was told.",
		}, []string{"reason"}),
		lost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_receive_requests_refused_total",
			Help: "Whole requests refused before any sample was read, by reason.",
		}, []string{"reason"}),
		warnings: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_receive_otlp_warnings_total",
			Help: "Remarks of the OTLP translation, such as empty metrics and colliding attribute names.",
		}),
	}
}

// reasonOf classifies an appender's error; false means that it does not concern the sample alone.
func reasonOf(err error) (reason, bool) {
	var invalid histogram.Error
	switch {
	case errors.Is(err, storage.ErrOutOfBounds):
		return reasonOutOfBounds, true
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return reasonOutOfOrder, true
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return reasonDuplicate, true
	case errors.Is(err, storage.ErrTooOldSample):
		return reasonTooOld, true
	case errors.As(err, &invalid):
		return reasonHistogram, true
	}
	return "", false
}
