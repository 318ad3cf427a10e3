// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/periplus-io/periplus/internal/discover"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/promapi"
	"github.com/periplus-io/periplus/internal/receive"
	"github.com/periplus-io/periplus/internal/rule"
)

// site is the Prometheus side of a hub in this process: the rooms metricdb, receive, rule, promapi and the
// discovery of Alertmanagers, joined as the hub joins them.
type site struct {
	t    *testing.T
	url  string
	db   *metricdb.DB
	stop func()
}

// siteOptions are what tests change.
type siteOptions struct {
	dir    string // kept over a restart
	config string // in Prometheus' syntax
	rules  rule.Config
	files  map[string]string // beside the configuration, its paths are relative to them
}

func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.rules == (rule.Config{}) {
		o.rules = rule.DefaultConfig()
	}
	cfg := load(t, o)
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	registry := prom.NewRegistry()
	db, err := metricdb.Open(metricdb.Options{
		Dir: filepath.Join(o.dir, "metrics"), Log: log, Registry: registry, Settings: metricdb.DefaultSettings(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Apply(cfg, metricdb.DefaultSettings()); err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	external := &url.URL{Scheme: "http", Host: listener.Addr().String()}
	mechanisms, err := discover.Register(registry)
	if err != nil {
		t.Fatal(err)
	}
	discovery, err := discover.New(discover.Options{Name: "notify", Mechanisms: mechanisms, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ruler, err := rule.New(rule.Options{
		Log: log, Registry: registry, Engine: db.Engine(), Queryable: db.Queryable(), Appendable: db.Appendable("rule"),
		ExternalURL: external, Targets: discovery.Updates(), Limits: o.rules,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ruler.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if err := discovery.Apply(discover.Alertmanagers(cfg)); err != nil {
		t.Fatal(err)
	}
	current := func() config.Config { return *cfg }
	intake, err := receive.New(receive.Options{
		Log: log, Registry: registry, RemoteWrite: db.Appendable("remote_write"), OTLP: db.Appendable("otlp"), Prometheus: current, Limits: receive.DefaultConfig(),
	})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := promapi.New(promapi.Options{
		Log: log, Registry: registry, Gatherer: registry, Engine: db.Engine(), Storage: db.Queryable(), Exemplars: db.Exemplars(),
		TSDB: db.Admin(), Prometheus: current, Rules: ruler, Alertmanagers: ruler, ExternalURL: external,
		Described: intake.Metadata, Listen: listener.Addr().String(), Limits: promapi.DefaultConfig(),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	reader.Register(mux)
	intake.Register(mux)

	ctx, cancel := context.WithCancel(context.Background()) // not the test's: the clean-up waits for the end
	var group errgroup.Group
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	group.Go(func() error { _ = server.Serve(listener); return nil })
	group.Go(func() error { return ruler.Run(ctx) })
	group.Go(func() error { return discovery.Run(ctx) })
	stopped := false
	s := &site{t: t, url: external.String(), db: db}
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = server.Close()
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// load writes the files of a site and reads its configuration.
func load(t *testing.T, o siteOptions) *config.Config {
	t.Helper()
	for name, text := range o.files {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(o.dir, "site.yml")
	if err := os.WriteFile(file, []byte(o.config), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadFile(file, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// add stores one sample of now.
func (s *site) add(v float64, nameValues ...string) {
	s.t.Helper()
	app := s.db.Appendable("state").Appender(s.t.Context())
	if _, err := app.Append(0, labels.FromStrings(nameValues...), time.Now().UnixMilli(), v); err != nil {
		s.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// testWriter shows a site's warnings in the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil { // after the end of the test its log is closed
		w.t.Log(string(p))
	}
	return len(p), nil
}
