// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/promql/parser"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/learnapi"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/ops"
	"github.com/periplus-io/periplus/internal/promapi"
	"github.com/periplus-io/periplus/internal/receive"
	"github.com/periplus-io/periplus/internal/rule"
	"github.com/periplus-io/periplus/internal/scrape"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/watch"
)

// parts are the rooms that answer over HTTP.
type parts struct {
	options  Options
	registry *prometheus.Registry
	health   *ops.Health
	listener net.Addr
	db       *metricdb.DB
	parser   parser.Parser
	scraper  *scrape.Scraper
	ruler    *rule.Ruler
	intake   *receive.Receiver
	engine   *state.Engine
	model    *learn.Learn
	watcher  *watch.Watcher
	reloads  *reloader
}

// routes mounts every route of the hub.
func routes(p parts) (*http.ServeMux, error) {
	started := time.Now()
	first := p.reloads.current.Load()
	api, err := promapi.New(promapi.Options{
		Log: p.options.Log.With("room", "promapi"), Registry: p.registry, Gatherer: p.registry,
		Engine: p.db.Engine(), Parser: p.parser, Storage: p.db.Queryable(), Local: p.db.Local(), Exemplars: p.db.Exemplars(),
		TSDB: p.db.Admin(), TSDBDir: filepath.Join(p.options.DataDir, "metrics"),
		Lookback:   time.Duration(first.metrics.Limits.QueryLookback),
		Prometheus: p.reloads.prometheus, Flags: flags(p.options), Version: version(),
		Runtime:   func() (apiv1.RuntimeInfo, error) { return p.runtime(started) },
		Described: described(p.intake), Targets: p.scraper.Manager(), Rules: p.ruler, Alertmanagers: p.ruler,
		ExternalURL: externalURL(p.listener), Listen: p.listener.String(), Admin: p.options.Admin, Limits: first.api,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	api.Register(mux)
	p.intake.Register(mux)
	p.health.Register(mux)
	seen := objects{p.watcher}
	mux.Handle(learnapi.Prefix+"/", learnapi.New(learnapi.Options{
		Log: p.options.Log.With("room", "learnapi"), Registry: p.registry, Model: p.model, Resources: seen, Kubernetes: seen.kubernetes, Faults: p.faults,
	}))
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, Registry: p.registry}))
	mux.Handle("GET /metrics/state", p.engine.Handler())
	mux.HandleFunc("POST /-/reload", func(w http.ResponseWriter, _ *http.Request) {
		if err := p.reloads.reload(); err != nil {
			http.Error(w, "reload: "+err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /{$}", index)
	if p.options.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux, nil
}

// faults says what is wrong with the stores.
func (p parts) faults() []string {
	var list []string
	if s := p.db.Status(); s.Full {
		list = append(list, fmt.Sprintf("metrics store: disk is full, samples are refused; %d MiB are free", s.FreeBytes>>20))
	}
	if success, _ := p.reloads.state(); !success {
		list = append(list, "configuration: the last reload failed, the previous one is in force")
	}
	return list
}

// described is what is known of metrics that no target exports: those that others push and the learning series.
func described(intake *receive.Receiver) promapi.Metadata {
	return func(yield func(string, metadata.Metadata) bool) {
		for _, m := range learn.Metadata() {
			if !yield(m.Name, metadata.Metadata{Type: model.MetricType(m.Type), Unit: m.Unit, Help: m.Help}) {
				return
			}
		}
		intake.Metadata(yield)
	}
}

// index tells a person who opens the hub's address what there is.
func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprint(w, `This is a Periplus hub.

/api/v1/learning/jobs   learning jobs
/api/v1/query?query=    PromQL; this address is a Prometheus data source
/api/v1/targets         what is scraped, with the last errors
/metrics/state          current series of watched objects
/metrics                the hub's own metrics
/-/healthy, /-/ready    health

On a command line: periplus jobs, periplus query EXPRESSION
`)
}

// serve answers on l until ctx ends, then lets requests finish for a while.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 5 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return base },
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// Streams never finish by themselves: end them, then wait for the others.
		limit, done := context.WithTimeout(base, 5*time.Second)
		defer done()
		time.AfterFunc(time.Second, cancel)
		stopped <- s.Shutdown(limit)
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	if err := <-stopped; err != nil {
		return errors.Join(s.Close())
	}
	return nil
}

// prometheus is the present configuration in Prometheus' form.
func (r *reloader) prometheus() promconfig.Config { return *r.current.Load().prometheus }

// externalURL is where people on this machine reach the hub.
func externalURL(a net.Addr) *url.URL {
	host := a.String()
	if t, ok := a.(*net.TCPAddr); ok && t.IP.IsUnspecified() {
		name, err := os.Hostname()
		if err != nil {
			name = "localhost"
		}
		host = fmt.Sprintf("%s:%d", name, t.Port)
	}
	return &url.URL{Scheme: "http", Host: host}
}

func flags(o Options) map[string]string {
	return map[string]string{
		"listen": o.Listen, "data-dir": o.DataDir, "config": o.ConfigFile, "kubeconfig": o.Kubeconfig, "context": o.Context,
		"in-cluster": fmt.Sprint(o.InCluster), "manifests": fmt.Sprint(o.Manifests), "pprof": fmt.Sprint(o.Profiling), "admin": fmt.Sprint(o.Admin),
	}
}

func version() apiv1.PrometheusVersion {
	b := ops.ThisBuild()
	return apiv1.PrometheusVersion{Version: b.Version, Revision: b.Revision, GoVersion: b.GoVersion}
}

func (p parts) runtime(started time.Time) (apiv1.RuntimeInfo, error) {
	host, err := os.Hostname()
	if err != nil {
		return apiv1.RuntimeInfo{}, fmt.Errorf("ask for the host's name: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return apiv1.RuntimeInfo{}, fmt.Errorf("ask for the working folder: %w", err)
	}
	kept := p.db.Status().Retention
	retention := kept.Time.String()
	if kept.Size > 0 {
		retention += " or " + kept.Size.String()
	}
	success, last := p.reloads.state()
	return apiv1.RuntimeInfo{
		StartTime: started, CWD: dir, Hostname: host, ServerTime: time.Now().UTC(),
		ReloadConfigSuccess: success, LastConfigTime: last,
		GoroutineCount: runtime.NumGoroutine(), GOMAXPROCS: runtime.GOMAXPROCS(0), GOMEMLIMIT: debug.SetMemoryLimit(-1),
		GOGC: os.Getenv("GOGC"), GODEBUG: os.Getenv("GODEBUG"), StorageRetention: retention,
	}, nil
}
