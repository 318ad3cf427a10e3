// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package scrape pulls metrics from targets. Prometheus' scrape manager does the work: protocols and their
// negotiation, limits, exemplars, native histograms, metadata. The package adds what it lacks:
//
//   - [Complete] gives a configuration protective limits and the default jobs of every install.
//   - When a target or a whole job goes, its series end at once: a ledger between the loops and the store
//     knows which they are.
//
// A target that hangs, streams for ever or sends garbage fails alone: the error is in the targets API and
// in up, Prometheus' own counters tell which limit was hit. A connection on which a target keeps sending
// beyond every limit is cut. (For that the package dials by itself, so targets on unix sockets, the label
// __unix_socket__, are not supported.)
//
//	discover ─ Updates ─> Run ─> scrape.Manager ─> loops ─> ledger ─> store
package scrape

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/logging"

	"github.com/periplus-io/periplus/internal/ops"
)

// Options are what New needs; all fields must be set.
type Options struct {
	// Store gets the samples, with their metadata and exemplars.
	Store    storage.AppendableV2
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Scraper scrapes the targets of a set of jobs. Its methods may be called from any goroutine.
type Scraper struct {
	manager *scrape.Manager
	ledger  *ledger
	dialer  *dialer
	log     *slog.Logger

	applyMu sync.Mutex // one Apply at a time
}

const (
	reloadInterval = time.Second      // from a change of targets to their loops
	sweepFor       = 30 * time.Second // after a change: loops end when their last scrape has timed out
)

// New makes a scraper without jobs.
func New(o Options) (*Scraper, error) {
	s := &Scraper{log: o.Log}
	m := newMetrics(o.Registry, func() float64 { return float64(s.ledger.size()) })
	s.ledger = newLedger(o.Store, m)
	s.dialer = newDialer(m.cut.Inc)
	var err error
	s.manager, err = scrape.NewManager(&scrape.Options{
		PassMetadataInContext:   true, // The ledger learns the target from it.
		AppendMetadata:          true,
		DiscoveryReloadInterval: model.Duration(reloadInterval),
		HTTPClientOptions:       []commonconfig.HTTPClientOption{commonconfig.WithDialContextFunc(s.dialer.dial)},
	}, ops.Quiet(o.Log), logging.NewJSONFileLogger, nil, s.ledger, o.Registry)
	if err != nil {
		return nil, fmt.Errorf("make scrape manager: %w", err)
	}
	return s, nil
}

// Apply replaces the jobs. It returns when the loops of jobs that are gone have stopped and their series have
// ended; a scrape under way is waited for, at most its timeout.
func (s *Scraper) Apply(cfg *promconfig.Config) error {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return fmt.Errorf("read scrape jobs: %w", err)
	}
	s.dialer.limit.Store(wireLimit(jobs))
	if err := s.manager.ApplyConfig(cfg); err != nil {
		return fmt.Errorf("apply scrape jobs: %w", err)
	}
	s.sweep()
	return nil
}

// wireLimit is what any target may send: the largest body that a job takes, and something for headers, frames
// and chunk lengths.
func wireLimit(jobs []*promconfig.ScrapeConfig) int64 {
	limit := int64(bodySizeLimit)
	for _, j := range jobs {
		if j.BodySizeLimit <= 0 {
			return math.MaxInt64
		}
		limit = max(limit, int64(j.BodySizeLimit))
	}
	return limit + limit/8 + 1<<20
}

// Run scrapes what updates tells until ctx ends. Scrapes under way are broken off then and leave no trace, and
// series are not ended: whoever starts next continues them.
func (s *Scraper) Run(ctx context.Context, updates <-chan map[string][]*targetgroup.Group) error {
	sets := make(chan map[string][]*targetgroup.Group)
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.manager.Run(sets) }) // It never fails.
	defer wg.Wait()
	defer s.manager.Stop()
	defer s.dialer.close()
	defer s.ledger.closed.Store(true)

	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	var until time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				updates = nil
				continue
			}
			select {
			case sets <- u:
			case <-ctx.Done():
				return nil
			}
			until = time.Now().Add(sweepFor)
		case <-s.ledger.changed:
			until = time.Now().Add(sweepFor)
		case now := <-tick.C:
			if now.Before(until) {
				s.sweep()
			}
		}
	}
}

// sweep ends the series of targets that are gone.
func (s *Scraper) sweep() {
	live := map[string]bool{}
	for _, targets := range s.manager.TargetsActive() {
		for _, t := range targets {
			live[identity(t)] = true
		}
	}
	if err := s.ledger.end(live, time.Now()); err != nil {
		s.log.Warn("series of removed targets not ended", "err", err)
	}
}

// Manager gives Prometheus' manager to those who read targets and metadata: the targets API and the sender of
// metadata by remote write. Use Apply and Run to change anything.
func (s *Scraper) Manager() *scrape.Manager { return s.manager }
