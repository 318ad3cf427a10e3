// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package learnapi is the HTTP dialect of the learning model under /api/v1/learning: jobs, their details,
// datasets, models, observed objects, the stream of changes, and the state of the sources. docs/http.md
// documents every line of it.
//
// It decodes a request, asks the [Model] or the [Resources] and encodes the answer in one envelope; it decides
// nothing about learning. A request it does not understand is an error that says what was wrong. A reader of the stream of
// changes that does not take them in time is let go and counted; it resumes by the last id it saw.
package learnapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// Model answers about the learning model. Its methods are safe for concurrent use.
type Model interface {
	Jobs(q learning.JobQuery) (learning.JobPage, error)
	// Job gives an error that is learning.ErrNotFound for a job that is neither present nor remembered.
	Job(namespace, kind, name, uid string) (learning.JobDetail, error)
	Datasets() []learning.Dataset
	Models() []learning.Model
	// Events waits for events after an id until ctx ends.
	Events(ctx context.Context, after uint64, limit int) (list []learning.Event, gap bool, err error)
	Status() learning.Status
}

// Resources gives observed objects of any kind. Its methods are safe for concurrent use.
type Resources interface {
	// Kinds lists what is observed.
	Kinds() []resource.Kind
	// Get gives one object; namespace is empty for cluster-wide kinds.
	Get(kind resource.Kind, namespace, name string) (resource.Object, bool)
	// List gives the objects of a kind in a namespace, or in all for the empty one.
	List(kind resource.Kind, namespace string) []resource.Object
}

// Options for [New].
type Options struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Model    Model
	// Resources may be nil when nothing is observed.
	Resources Resources
	// Kubernetes says how the sources are; nil means that none is configured.
	Kubernetes func() learning.Kubernetes
	// Faults says what is wrong beside the model; nil means nothing.
	Faults func() []string
	// Heartbeat is the pause after which a silent stream of changes says that it lives; 0 means 15 s.
	Heartbeat time.Duration
	// WriteTimeout bounds how long a reader may take for one change; 0 means 10 s.
	WriteTimeout time.Duration
	// MaxStreams bounds the readers of changes at a time; 0 means 256.
	MaxStreams int
}

// API is the handler. It serves requests until the server ends their contexts.
type API struct {
	o        Options
	mux      *http.ServeMux
	requests *prometheus.CounterVec
	sent     prometheus.Counter
	dropped  *prometheus.CounterVec
	streams  prometheus.Gauge
	slots    chan struct{}
}

// New makes the handler.
func New(o Options) *API {
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 10 * time.Second
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 256
	}
	if o.Kubernetes == nil {
		o.Kubernetes = func() learning.Kubernetes { return learning.Kubernetes{State: "not configured"} }
	}
	if o.Faults == nil {
		o.Faults = func() []string { return nil }
	}
	f := promauto.With(o.Registry)
	a := &API{
		o: o, mux: http.NewServeMux(), slots: make(chan struct{}, o.MaxStreams),
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_learnapi_requests_total", Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		sent: f.NewCounter(prometheus.CounterOpts{
			Name: "periplus_learnapi_events_sent_total", Help: "Changes sent to readers of the stream of changes.",
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_learnapi_streams_dropped_total", Help: "Readers of the stream of changes that were let go, by reason.",
		}, []string{"reason"}),
		streams: f.NewGauge(prometheus.GaugeOpts{
			Name: "periplus_learnapi_streams", Help: "Readers of the stream of changes.",
		}),
	}
	a.routes()
	return a
}

// ServeHTTP answers requests below /api/v1/learning/.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }
