// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package receive is the hub's intake of metrics that others push: Prometheus remote write 1.0 and 2.0,
// and OTLP/HTTP metrics.
//
//	POST /api/v1/write             snappy → one decoder per message → series cache → appender → commit
//	POST /api/v1/otlp/v1/metrics   gzip → Prometheus' OTLP translation → appender → commit
//
// One sample that the store refuses never costs the sender the others: what is good is committed, what is
// refused is counted by reason and named in the answer (400 for remote write, a partial success for OTLP,
// as both specifications ask). Only an error of the store itself undoes the whole request and answers 500
// or 503, so that the sender tries again.
//
// Nothing that a sender chooses is unbounded: compressed and decoded size, series of a request, bytes of a
// label set, and the number of requests that are decoded at a time. The remote-write decoders read the
// message in place; labels are decoded, checked and copied only for series not seen lately (see
// [seriesCache]).
package receive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage"
)

// Options are what a [Receiver] needs. Of the errors of both appendables, those that wrap one of the storage
// package's refusals (out of bounds, out of order, duplicate, too old) concern one sample, any other the whole
// request.
type Options struct {
	// Log gets the store's errors; refused samples are counted, not logged.
	Log *slog.Logger
	// Registry gets the room's own metrics. Nil means none.
	Registry prometheus.Registerer
	// RemoteWrite and OTLP are the store, as the writer that each protocol is.
	RemoteWrite storage.Appendable
	OTLP        storage.AppendableV2
	// Prometheus returns the present configuration; only its otlp section is used.
	Prometheus func() config.Config
	// Lookback is the query engine's look-back; target_info is repeated within it. Zero means 5 min.
	Lookback time.Duration
	// Limits bound a request.
	Limits Config
}

// Receiver takes pushed metrics over HTTP. It is safe for concurrent use and holds no goroutine.
type Receiver struct {
	log       *slog.Logger
	written   storage.Appendable
	otlp      storage.AppendableV2
	limits    Config
	metrics   *metrics
	series    *seriesCache
	described *described
	pool      *sync.Pool
	gate      chan struct{}
	config    func() config.Config
	lookback  time.Duration
}

// New checks the options and returns a receiver.
func New(o Options) (*Receiver, error) {
	if o.Log == nil || o.RemoteWrite == nil || o.OTLP == nil || o.Prometheus == nil {
		return nil, errors.New("receive: Log, RemoteWrite, OTLP and Prometheus are required")
	}
	if err := o.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	if o.Lookback == 0 {
		o.Lookback = 5 * time.Minute
	}
	return &Receiver{
		log:       o.Log,
		written:   o.RemoteWrite,
		otlp:      o.OTLP,
		limits:    o.Limits,
		metrics:   newMetrics(o.Registry),
		series:    newSeriesCache(o.Limits.SeriesCache),
		described: newDescribed(o.Limits.Metadata),
		pool:      bufferPool(),
		gate:      make(chan struct{}, o.Limits.Concurrency),
		config:    o.Prometheus,
		lookback:  o.Lookback,
	}, nil
}

// Register mounts the receiver's routes, complete with the API prefix.
func (r *Receiver) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /api/v1/write", r.instrument(protocolWrite, r.serveWrite))
	mux.HandleFunc("POST /api/v1/otlp/v1/metrics", r.instrument(protocolOTLP, r.serveOTLP))
}

// instrument admits a request, counts it and its outcome.
func (r *Receiver) instrument(protocol string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		if err := r.admit(req.Context()); err != nil {
			rec.Header().Set("Retry-After", "5")
			http.Error(rec, err.Error(), http.StatusServiceUnavailable)
		} else {
			r.metrics.inFlight.Inc()
			// The server lifts the deadline before the next request. Not every writer is a connection.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.limits.BodyTimeout))
			next(rec, req)
			r.metrics.inFlight.Dec()
			<-r.gate
		}
		r.metrics.requests.WithLabelValues(protocol, rec.class()).Inc()
		r.metrics.duration.WithLabelValues(protocol).Observe(time.Since(start).Seconds())
	}
}

// admit waits for a free place among the requests being decoded. The body is not read before.
func (r *Receiver) admit(ctx context.Context) error {
	select {
	case r.gate <- struct{}{}:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, r.limits.QueueTimeout)
	defer cancel()
	select {
	case r.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many write requests at a time (%d)", cap(r.gate))
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter

	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// class is the status as a bounded label value.
func (r *recorder) class() string {
	switch {
	case r.status == 0, r.status/100 == 2:
		return "2xx"
	case r.status/100 == 4:
		return "4xx"
	default:
		return "5xx"
	}
}
