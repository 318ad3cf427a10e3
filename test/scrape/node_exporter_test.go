// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package scrape_test scrapes real exporters from Debian's packages, through configuration, discovery and scraper
// as a hub joins them, and the simulated kubelets of a real API server. It needs the package
// prometheus-node-exporter.
package scrape_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/periplus-io/periplus/internal/config"
	"github.com/periplus-io/periplus/internal/discover"
	"github.com/periplus-io/periplus/internal/scrape"
)

// exporter starts a node exporter and gives its address and how to kill it.
func exporter(t *testing.T) (addr string, kill func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "prometheus-node-exporter", "--web.listen-address="+addr,
		"--collector.disable-defaults", "--collector.cpu", "--collector.meminfo", "--collector.loadavg")
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the exporter (apt install prometheus-node-exporter): %v", err)
	}
	kill = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // It was killed.
	})
	t.Cleanup(kill)
	return addr, kill
}

// hub is the scraping part of a hub.
type hub struct {
	t         *testing.T
	file      string
	cluster   *scrape.Cluster
	db        *tsdb.DB
	discovery *discover.Discovery
	scraper   *scrape.Scraper
}

func start(t *testing.T) *hub {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	reg := prometheus.NewRegistry()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = int64(8 * 24 * time.Hour / time.Millisecond)
	db, err := tsdb.Open(t.TempDir(), log, reg, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	mechanisms, err := discover.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := discover.New(discover.Options{Name: "scrape", Mechanisms: mechanisms, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := scrape.New(scrape.Options{Store: db, Registry: reg, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- d.Run(ctx) }()
	go func() { done <- s.Run(ctx, d.Updates()) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &hub{t: t, file: filepath.Join(t.TempDir(), "periplus.yaml"), db: db, discovery: d, scraper: s}
}

// reload writes the file, loads it and puts it in force.
func (h *hub) reload(text string) {
	h.t.Helper()
	if err := os.WriteFile(h.file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{Path: h.file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := scrape.Complete(cfg.Prometheus, scrape.Defaults{Dir: filepath.Dir(h.file), Cluster: h.cluster}); err != nil {
		h.t.Fatal(err)
	}
	jobs, err := discover.Targets(cfg.Prometheus)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.scraper.Apply(cfg.Prometheus); err != nil {
		h.t.Fatal(err)
	}
	if err := h.discovery.Apply(jobs); err != nil {
		h.t.Fatal(err)
	}
}

// live counts the series with these labels that have not ended.
func (h *hub) live(job string, more ...string) int { return len(h.last(job, more...)) }

// last gives the newest values of series that have not ended.
func (h *hub) last(job string, more ...string) map[string]float64 {
	h.t.Helper()
	q, err := h.db.Querier(0, math.MaxInt64)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	matchers := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", job)}
	for i := 0; i < len(more); i += 2 {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, more[i], more[i+1]))
	}
	out := map[string]float64{}
	set := q.Select(h.t.Context(), false, nil, matchers...)
	for set.Next() {
		it := set.At().Iterator(nil)
		v := math.NaN()
		for it.Next() != chunkenc.ValNone {
			_, v = it.At()
		}
		if !value.IsStaleNaN(v) {
			out[set.At().Labels().String()] = v
		}
	}
	if err := set.Err(); err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *hub) until(what string, within time.Duration, ok func() bool) {
	h.t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			h.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func TestNodeExporterThroughTheDefaultJobOfPeers(t *testing.T) {
	addr, _ := exporter(t)
	h := start(t)
	lists := filepath.Join(filepath.Dir(h.file), "peers")
	if err := os.Mkdir(lists, 0o700); err != nil {
		t.Fatal(err)
	}
	list := func(addresses ...string) {
		b, err := json.Marshal([]map[string]any{{"targets": addresses, "labels": map[string]string{"group": "g"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lists, "all.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list(addr)
	h.reload("")
	h.until("the exporter is scraped", 30*time.Second, func() bool { return h.live("peers") > 100 })
	target := h.scraper.Manager().TargetsActive()["peers"][0]
	if m, ok := target.GetMetadata("node_memory_MemFree_bytes"); !ok || m.Type != model.MetricTypeGauge || m.Help == "" {
		t.Errorf("metadata: got %+v, want a gauge with its help", m)
	}
	list()
	h.until("its series end when the list no longer has it", 15*time.Second, func() bool { return h.live("peers") == 0 })
}

func TestReloadEndsTheSeriesOfARemovedJob(t *testing.T) {
	addr, _ := exporter(t)
	h := start(t)
	h.reload(fmt.Sprintf(`
scrape_configs:
  - {job_name: stays, scrape_interval: 1s, static_configs: [{targets: [%q]}]}
  - {job_name: goes, scrape_interval: 1s, static_configs: [{targets: [%q]}]}
`, addr, addr))
	h.until("both jobs are scraped", 30*time.Second, func() bool { return h.live("stays") > 100 && h.live("goes") > 100 })
	h.reload(fmt.Sprintf("scrape_configs: [{job_name: stays, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]", addr))
	if n := h.live("goes"); n != 0 {
		t.Errorf("series of the removed job: got %d, want 0", n)
	}
	if h.live("stays") < 100 {
		t.Error("the other job's series ended too")
	}
}

func TestExporterThatDiesIsDown(t *testing.T) {
	addr, kill := exporter(t)
	h := start(t)
	h.reload(fmt.Sprintf("scrape_configs: [{job_name: j, scrape_interval: 1s, static_configs: [{targets: [%q]}]}]", addr))
	h.until("the exporter is scraped", 30*time.Second, func() bool { return h.live("j") > 100 })
	kill()
	// What Prometheus reports of every scrape goes on: up, duration and three counts.
	h.until("its own series end", 10*time.Second, func() bool { return h.live("j") == 5 })
	for _, target := range h.scraper.Manager().TargetsActive()["j"] {
		if err := target.LastError(); err == nil {
			t.Error("the targets API has no error")
		}
	}
}
