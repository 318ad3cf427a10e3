// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package promapi serves Prometheus' HTTP API, version 1, and /federate over the hub's own store and engine.
//
//	/api/v1/…  Prometheus' own handlers, so that Grafana, promtool and every client library find what they
//	           know; the long positional constructor is behind the one adapter in adapter.go
//	/federate  our own handler of the documented behaviour
//
// The room reads. Pushed samples are the intake's: the hub mounts the write routes beside this handler, and
// more specific patterns win. Paths that do not exist answer Prometheus' error envelope with 404.
//
// What may be missing on a hub (targets, rules, Alertmanagers) may be nil in [Options]; the API then answers
// as a Prometheus that has none. Until Ready says yes every route answers 503.
package promapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/httputil"
	"github.com/prometheus/prometheus/util/notifications"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
)

// Targets is what the API shows of scraping. [scrape.Manager] has these methods.
type Targets interface {
	ScrapePools() []string
	TargetsActive() map[string][]*scrape.Target
	TargetsDropped() map[string][]*scrape.Target
	TargetsDroppedCounts() map[string]int
	ScrapePoolConfig(pool string) (*config.ScrapeConfig, error)
}

// Notifications is the list of things that an operator should see, with a live feed.
type Notifications interface {
	Get() []notifications.Notification
	Sub() (feed <-chan notifications.Notification, unsubscribe func(), ok bool)
}

// Options are what the [API] needs. Log, Engine, Storage, Prometheus and TSDB are required.
type Options struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Gatherer gives the process' own metrics for status/self_metrics.
	Gatherer prometheus.Gatherer

	Engine    promql.QueryEngine
	Parser    parser.Parser
	Storage   storage.SampleAndChunkQueryable
	Exemplars storage.ExemplarQueryable
	// Local is what /federate reads. Nil means Storage.
	Local storage.Queryable
	// TSDB answers status/tsdb and the admin routes.
	TSDB apiv1.TSDBAdminStats
	// TSDBDir is where admin snapshots go.
	TSDBDir string
	// Lookback is the engine's look-back. Zero means 5 min.
	Lookback time.Duration

	// Prometheus returns the present configuration in Prometheus' form.
	Prometheus func() config.Config
	// Flags are shown by status/flags.
	Flags map[string]string
	// Version is shown by status/buildinfo.
	Version apiv1.PrometheusVersion
	// Features collects what the engine and the rules can do, for the features route. Nil means only the API's.
	Features features.Collector
	// Runtime is shown by status/runtimeinfo.
	Runtime func() (apiv1.RuntimeInfo, error)
	// Ready says whether the store is open. Nil means always.
	Ready func() bool

	Targets Targets
	// Described is the metadata of metrics that no target exports: pushed or derived ones. May be nil.
	Described     Metadata
	Rules         apiv1.RulesRetriever
	Alertmanagers apiv1.AlertmanagerRetriever
	Notifications Notifications

	// ExternalURL is where people reach the hub; it decides how targets on this host are named.
	ExternalURL *url.URL
	// Listen is the address the hub listens on.
	Listen string
	// Admin opens the routes that delete and snapshot data.
	Admin bool
	// Limits bound a request.
	Limits Config
}

// API is the room's handler. It is safe for concurrent use and holds no goroutine.
type API struct {
	o       Options
	cors    *regexp.Regexp
	metrics *metrics
	handler http.Handler
}

// New checks the options and builds the routes.
func New(o Options) (*API, error) {
	if o.Log == nil || o.Engine == nil || o.Storage == nil || o.Prometheus == nil || o.TSDB == nil {
		return nil, errors.New("promapi: Log, Engine, Storage, Prometheus and TSDB are required")
	}
	if err := o.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("promapi: %w", err)
	}
	fillDefaults(&o)
	cors, err := o.Limits.corsOrigin()
	if err != nil {
		return nil, fmt.Errorf("promapi: %w", err)
	}
	a := &API{o: o, cors: cors, metrics: newMetrics(o.Registry)}
	router := route.New().WithInstrumentation(a.instrument)
	newV1(o, cors, a.whenReady).Register(router.WithPrefix(apiPrefix))
	router.Get("/federate", a.whenReady(a.federate))
	described := a.instrument("/metadata", a.whenReady(httputil.CompressionHandler{Handler: http.HandlerFunc(a.metadata)}.ServeHTTP))
	routes := http.NewServeMux()
	routes.Handle("/", router)
	routes.Handle("GET "+apiPrefix+"/metadata", described)
	a.handler = http.MaxBytesHandler(notFound(routes), o.Limits.MaxBody)
	return a, nil
}

const apiPrefix = "/api/v1"

func fillDefaults(o *Options) {
	if o.Lookback == 0 {
		o.Lookback = 5 * time.Minute
	}
	if o.Local == nil {
		o.Local = o.Storage
	}
	if o.Parser == nil {
		o.Parser = parser.NewParser(parser.Options{})
	}
	if o.Flags == nil {
		o.Flags = map[string]string{}
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	if o.ExternalURL == nil {
		o.ExternalURL = &url.URL{Scheme: "http", Host: o.Listen}
	}
	if o.Runtime == nil {
		o.Runtime = func() (apiv1.RuntimeInfo, error) { return apiv1.RuntimeInfo{}, nil }
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Exemplars == nil {
		o.Exemplars = noExemplars{}
	}
	if o.Described == nil {
		o.Described = func(func(string, metadata.Metadata) bool) {}
	}
	if o.Targets == nil {
		o.Targets = noTargets{}
	}
	if o.Rules == nil {
		o.Rules = noRules{}
	}
	if o.Alertmanagers == nil {
		o.Alertmanagers = noAlertmanagers{}
	}
	if o.Features == nil {
		o.Features = features.NewRegistry()
	}
	if o.Notifications == nil {
		o.Notifications = noNotifications{}
	}
}

// Register mounts the room's routes.
func (a *API) Register(mux *http.ServeMux) {
	mux.Handle(apiPrefix+"/", a.handler)
	mux.Handle("/federate", a.handler)
}

// whenReady keeps requests away from a store that is not open yet.
func (a *API) whenReady(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if a.o.Ready() {
			next(w, req)
			return
		}
		w.Header().Set("Retry-After", "5")
		respondError(w, http.StatusServiceUnavailable, "unavailable", "the store is not open yet")
	}
}
