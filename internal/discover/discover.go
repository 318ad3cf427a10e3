// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package discover finds the targets of scrape jobs and the addresses of Alertmanagers. It runs
// Prometheus' discovery manager with the mechanisms that are imported below by name and no other:
// static, file, http, dns and kubernetes. (discovery/install would link every cloud's client.)
//
//	*promconfig.Config ─ Targets / Alertmanagers ─> Apply ─> providers ─> Updates ─> scrape or notifier
//
// A process has one [Discovery] for scraping and one for notifying; both share one [Mechanisms], because
// the metrics of the mechanisms can be registered only once. A provider that fails is logged and counted
// by Prometheus' own metrics and keeps trying; the others go on.
package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/dns"        // dns_sd_configs
	_ "github.com/prometheus/prometheus/discovery/file"       // file_sd_configs
	_ "github.com/prometheus/prometheus/discovery/http"       // http_sd_configs
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // kubernetes_sd_configs
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/periplus-io/periplus/internal/ops"
)

// Mechanisms holds what all discoveries of a process share.
type Mechanisms struct {
	registry prometheus.Registerer
	metrics  *discovery.SDMetrics
}

// Register registers the metrics of the mechanisms. Call it once for a registry.
func Register(reg prometheus.Registerer) (*Mechanisms, error) {
	if err := discovery.RegisterK8sClientMetricsWithPrometheus(reg); err != nil {
		return nil, fmt.Errorf("register Kubernetes client metrics: %w", err)
	}
	metrics, err := discovery.CreateAndRegisterSDMetrics(reg)
	if err != nil {
		return nil, fmt.Errorf("register discovery metrics: %w", err)
	}
	return &Mechanisms{registry: reg, metrics: metrics}, nil
}

// Options are what New needs; all fields must be set.
type Options struct {
	// Name tells the discoveries of a process apart in metrics: scrape or notify.
	Name string
	// Mechanisms comes from Register.
	Mechanisms *Mechanisms
	Log        *slog.Logger
}

// Discovery follows the targets of a set of jobs. Its methods may be called from any goroutine.
type Discovery struct {
	manager *discovery.Manager
	cancel  context.CancelFunc
}

// New makes a discovery that knows no job. Nothing runs before Apply.
func New(o Options) (*Discovery, error) {
	ctx, cancel := context.WithCancel(context.Background()) // The manager wants it now; Run ends it.
	m := discovery.NewManager(ctx, ops.Quiet(o.Log), o.Mechanisms.registry, o.Mechanisms.metrics, discovery.Name(o.Name))
	if m == nil {
		cancel()
		return nil, fmt.Errorf("make discovery %s: its metrics are registered already", o.Name)
	}
	return &Discovery{manager: m, cancel: cancel}, nil
}

// Apply replaces the jobs. Providers whose configuration did not change keep running. Apply the configuration
// to those who receive Updates first: they must know the jobs of what they get.
func (d *Discovery) Apply(jobs map[string]discovery.Configs) error {
	if err := d.manager.ApplyConfig(jobs); err != nil {
		return fmt.Errorf("apply discovery: %w", err)
	}
	return nil
}

// Updates gives, after every change, all target groups of all jobs. It is closed when Run ends.
func (d *Discovery) Updates() <-chan map[string][]*targetgroup.Group { return d.manager.SyncCh() }

// Run discovers until ctx ends.
func (d *Discovery) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, d.cancel)()
	if err := d.manager.Run(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("discover: %w", err)
	}
	return nil
}

// Targets gives what to discover for scraping under cfg.
func Targets(cfg *promconfig.Config) (map[string]discovery.Configs, error) {
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return nil, fmt.Errorf("read scrape jobs: %w", err)
	}
	out := make(map[string]discovery.Configs, len(jobs))
	for _, j := range jobs {
		out[j.JobName] = j.ServiceDiscoveryConfigs
	}
	return out, nil
}

// Alertmanagers gives what to discover for notifying under cfg.
func Alertmanagers(cfg *promconfig.Config) map[string]discovery.Configs {
	out := map[string]discovery.Configs{}
	for key, am := range cfg.AlertingConfig.AlertmanagerConfigs.ToMap() {
		out[key] = am.ServiceDiscoveryConfigs
	}
	return out
}
