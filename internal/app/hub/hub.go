// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package hub is the role that takes in, keeps, evaluates and answers: it watches Kubernetes or
// manifests, scrapes, receives what others push, evaluates rules and serves the query APIs.
//
//	watch ──┬─> state ──┐
//	        └─> learn ──┴─> keep ──┐
//	discover ─> scrape ────────────┼─> metricdb <── promapi, rule
//	receive ───────────────────────┘
//
// A hub without a cluster and without manifests runs, and says that Kubernetes is not configured.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/periplus-io/periplus/internal/app"
	"github.com/periplus-io/periplus/internal/discover"
	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/ops"
	"github.com/periplus-io/periplus/internal/receive"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/rule"
	"github.com/periplus-io/periplus/internal/scrape"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/watch"
)

// Options are what needs a restart to change. ConfigFile may be empty, and all of Kubeconfig,
// InCluster and Manifests may be.
type Options struct {
	// Listen is the address to serve on; port 0 takes a free one.
	Listen string
	// DataDir holds everything that is written. It is created.
	DataDir string
	// ConfigFile is read at start and at every reload.
	ConfigFile string
	// Kubeconfig, with Context, or InCluster says which API server to watch. They go before the
	// file's section.
	Kubeconfig, Context string
	InCluster           bool
	// Manifests are folders to watch, beside those of the file.
	Manifests []string
	// Profiling serves /debug/pprof, Admin the routes that delete and snapshot data.
	Profiling, Admin bool

	// Log is required.
	Log *slog.Logger
	// Reload asks for a reload by each value. Nil means never.
	Reload <-chan struct{}
	// Started, if set, is called once with the address that is served.
	Started func(net.Addr)
}

// patience is how long a room may take to end.
const patience = 20 * time.Second

// Run runs a hub until ctx ends or a room fails.
func Run(ctx context.Context, o Options) (err error) {
	room := func(name string) *slog.Logger { return o.Log.With("room", name) }
	reg := ops.NewRegistry()
	health := &ops.Health{}
	first, err := load(o)
	if err != nil {
		return err
	}
	for _, lists := range scrape.Lists() { // watched from the start, so they must be there
		if err := os.MkdirAll(filepath.Join(o.DataDir, lists), 0o755); err != nil {
			return fmt.Errorf("create data folder: %w", err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = listener.Close() }()

	// The stores, and what writes derived series into them.
	db, err := metricdb.Open(metricdb.Options{
		Dir: filepath.Join(o.DataDir, "metrics"), Log: room("metricdb"), Registry: reg, Settings: first.metrics,
	})
	if err != nil {
		return err
	}
	closeUnlessRun := db.Close
	defer func() { err = errors.Join(err, closeUnlessRun()) }()
	keeper, err := keep.New(keep.Options{Store: db.KeepStore(), Log: room("keep"), Registry: reg})
	if err != nil {
		return err
	}
	model, err := learn.Open(learn.Options{
		Dir: filepath.Join(o.DataDir, "learn"), Config: first.learning, Log: room("learn"), Registry: reg,
		Sink: keeper, Retention: time.Duration(first.metrics.Retention.Time),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	var stored state.Sink // none where others scrape the series
	if first.resource.Store {
		stored = keeper
	}
	engine, err := state.New(state.Options{
		Log: room("state"), Registry: reg, Sink: stored, Specs: first.specs, Config: first.resource,
		Retention: time.Duration(first.metrics.Retention.Time),
	})
	if err != nil {
		return err
	}
	watcher, err := watch.New(watch.Options{Log: room("watch"), Registry: reg, Handler: func(ctx context.Context, e resource.Event) {
		engine.Handle(ctx, e)
		model.Handle(ctx, e)
	}})
	if err != nil {
		return err
	}
	watcherReady := func() bool { return watcher.Status().Ready() }
	health.Require("kubernetes", func() error {
		if !watcherReady() {
			return errors.New("still listing")
		}
		return nil
	})

	// Collecting and evaluating.
	mechanisms, err := discover.Register(reg)
	if err != nil {
		return err
	}
	targets, err := discover.New(discover.Options{Name: "scrape", Mechanisms: mechanisms, Log: room("discover")})
	if err != nil {
		return err
	}
	alertmanagers, err := discover.New(discover.Options{Name: "notify", Mechanisms: mechanisms, Log: room("discover")})
	if err != nil {
		return err
	}
	scraper, err := scrape.New(scrape.Options{Store: db.Appendable("scrape"), Log: room("scrape"), Registry: reg})
	if err != nil {
		return err
	}
	db.SetScrapeManager(scraper.Manager())
	promql := parser.NewParser(parser.Options{})
	ruler, err := rule.New(rule.Options{
		Log: room("rule"), Registry: reg, Engine: db.Engine(), Parser: promql, Queryable: db.Queryable(),
		Appendable: db.Appendable("rule"), ExternalURL: externalURL(listener.Addr()), Targets: alertmanagers.Updates(), Limits: first.rules,
	})
	if err != nil {
		return err
	}

	// The configuration, in the order in which the rooms need it.
	reloads := newReloader(o, reg, first)
	intake, err := receive.New(receive.Options{
		Log: room("receive"), Registry: reg, RemoteWrite: db.Appendable("remote_write"), OTLP: db.Appendable("otlp"), Prometheus: reloads.prometheus,
		Lookback: time.Duration(first.metrics.Limits.QueryLookback), Limits: first.receive,
	})
	if err != nil {
		return err
	}
	reloads.steps = []step{
		{"metrics store", func(s *settings) error { return db.Apply(s.prometheus, s.metrics) }},
		{"rules", func(s *settings) error { return ruler.Apply(s.prometheus) }},
		{"scraping", func(s *settings) error { return scraper.Apply(s.prometheus) }},
		{"target discovery", func(s *settings) error {
			jobs, err := discover.Targets(s.prometheus)
			return errors.Join(err, targets.Apply(jobs))
		}},
		{"Alertmanager discovery", func(s *settings) error { return alertmanagers.Apply(discover.Alertmanagers(s.prometheus)) }},
		{"learning", func(s *settings) error { return model.Reload(s.learning) }},
		{"watching", func(s *settings) error {
			renewed := engine.Apply(s.specs)
			if before := reloads.current.Load(); before.learning != s.learning {
				renewed = append(renewed, model.Kinds()...)
			}
			k := s.kubernetes
			k.KeepEnvironment = append(model.Environment(), k.KeepEnvironment...)
			if err := watcher.Apply(k, wants(engine, model)); err != nil {
				return err
			}
			watcher.Replay(renewed...)
			return nil
		}},
	}
	if err := reloads.start(); err != nil {
		return err
	}
	mux, err := routes(parts{
		options: o, registry: reg, health: health, listener: listener.Addr(), db: db, parser: promql, scraper: scraper,
		ruler: ruler, intake: intake, engine: engine, model: model, watcher: watcher, reloads: reloads,
	})
	if err != nil {
		return err
	}

	g := app.Group{Log: room("hub"), Patience: patience}
	closeUnlessRun = func() error { return nil } // From here on its Run closes the store.
	g.Add("metricdb", db.Run)
	g.Add("keep", keeper.Run)
	g.Add("learn", model.Run)
	g.Add("state", engine.Run)
	g.Add("rule", ruler.Run)
	g.Add("scrape", func(ctx context.Context) error { return scraper.Run(ctx, targets.Updates()) })
	g.Add("notify discovery", alertmanagers.Run)
	g.Add("scrape discovery", targets.Run)
	g.Add("watch", watcher.Run)
	g.Add("reload", reloads.run)
	g.Add("memory", func(ctx context.Context) error { return ops.GovernMemory(ctx, watcherReady) })
	g.Add("http", func(ctx context.Context) error { return serve(ctx, listener, mux, room("http")) })
	if o.Started != nil {
		o.Started(listener.Addr())
	}
	o.Log.Info("hub started", "listen", listener.Addr().String(), "data_dir", o.DataDir, "kubernetes", first.kubernetes.Enabled())
	return g.Run(ctx)
}
