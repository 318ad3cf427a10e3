// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package metricdb is the embedded metrics engine: Prometheus' TSDB and PromQL engine as libraries,
// with remote write behind it and remote read beside it.
//
// It takes samples from named writers (scrape, remote write, OTLP, rules, and the room that keeps
// resource state alive) and gives a queryable and an engine. Whatever a writer hands in passes one
// gate, see [DB.Appendable]: samples too far in the future are refused, so that one bad clock cannot
// close the head for everybody; a full disk is refused before the engine meets it; the cluster label
// is added; and what was taken and refused is counted per writer.
//
//	writer ─> gate ─> head (WAL) ─> blocks      samples inside the out-of-order window
//	               └> remote write queues (from the WAL)
//	past ───> backfill log ─> blocks            older samples, back to the retention limit
//
// On a full disk appends fail with [ErrDiskFull] while a reserve of free space is left, because the
// engine itself tears its WAL and panics when a write fails for want of space. Reads go on, and
// appends are taken again once space has returned.
package metricdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/periplus-io/periplus/internal/durable"
	"github.com/periplus-io/periplus/internal/ops"
)

// Options say where the data lives and what is fixed until the next start. Zero values take the
// documented defaults.
type Options struct {
	// Dir holds everything the engine writes. It is created. One process at a time may open it.
	Dir string
	// Log and Registry are required.
	Log      *slog.Logger
	Registry prometheus.Registerer

	// Settings are what the configuration file says; see [DB.Apply] for what can change later.
	Settings Settings

	// OutOfOrderWindow is how far behind the newest sample a sample may be; 8 days by default.
	OutOfOrderWindow time.Duration
	// FutureLimit is how far ahead of this machine's clock a sample may be; 10 minutes by default.
	FutureLimit time.Duration
	// MaxExemplars is the size of the exemplar ring; 20,000 by default.
	MaxExemplars int64
	// MinFree is the reserve of free disk space in bytes below which appends are refused; 256 MiB by
	// default. 512 bytes for each live series come on top, for the chunks that the head has to write.
	MinFree int64
	// WALSegmentSize in bytes; 64 MiB by default.
	WALSegmentSize int
	// FlushDeadline is how long remote write may go on sending at shutdown; 5 s by default.
	FlushDeadline time.Duration
	// BackfillDelay is how long old samples are collected before a block is written of them; 2 s by
	// default.
	BackfillDelay time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" || o.Log == nil || o.Registry == nil {
		return o, errors.New("metricdb needs Dir, Log and Registry")
	}
	setDefault(&o.OutOfOrderWindow, 8*24*time.Hour)
	setDefault(&o.FutureLimit, 10*time.Minute)
	setDefault(&o.MaxExemplars, 20_000)
	setDefault(&o.MinFree, 256<<20)
	setDefault(&o.WALSegmentSize, 64<<20)
	setDefault(&o.FlushDeadline, 5*time.Second)
	setDefault(&o.BackfillDelay, 2*time.Second)
	if o.Settings == (Settings{}) {
		o.Settings = DefaultSettings()
	}
	return o, o.Settings.Validate()
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// overlap is a warning of the engine about what is usual here: samples of the past come in blocks of their own.
const overlap = "Overlapping blocks found during reloadBlocks"

// DB is the open store. All methods are safe for concurrent use.
type DB struct {
	opts Options
	log  *slog.Logger
	// engineLog is log for the engine.
	engineLog *slog.Logger
	lock      *durable.DirLock
	metrics   *metrics
	tsdb      *tsdb.DB
	remote    *remote.Storage
	fanout    storage.Storage
	engine    *promql.Engine
	space     *space
	past      *past
	reloader  *reloader
	scrapes   scrapeManager
	// replayed is the newest time found at Open; math.MinInt64 in a new store.
	replayed int64

	// sending is true while there are remote-write endpoints.
	sending   atomic.Bool
	retention atomic.Pointer[Retention]
	// window is the out-of-order window in force, in milliseconds.
	window atomic.Int64

	// applyMu serialises Apply; closeOnce makes Close idempotent.
	applyMu   sync.Mutex
	closeOnce sync.Once
	closeErr  error
}

// Open opens the store in o.Dir, replaying what was written before. The TSDB compacts in a goroutine
// of its own from here on; everything else that works in the background does so in [DB.Run]. The
// caller ends with Run's return or, if Run was never called, with [DB.Close].
func Open(o Options) (*DB, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &DB{opts: o, log: o.Log, engineLog: ops.Quiet(o.Log, overlap), metrics: newMetrics(o.Registry)}
	if d.space, err = newSpace(o.Dir, o.MinFree, d.metrics); err != nil {
		return nil, err
	}
	d.reloader = &reloader{space: d.space}
	d.retention.Store(&o.Settings.Retention)
	d.window.Store(o.OutOfOrderWindow.Milliseconds())
	if d.lock, err = durable.Lock(o.Dir); err != nil {
		return nil, fmt.Errorf("open metrics store: %w", err)
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.lock.Release())
	}
	return d, nil
}

// open opens the engine and what is around it.
func (d *DB) open() (err error) {
	o := d.opts
	if err := setAside(o.Dir, o.Log, d.engineLog); err != nil {
		return fmt.Errorf("open metrics store in %s: %w", o.Dir, err)
	}
	if d.tsdb, err = tsdb.Open(o.Dir, d.engineLog, o.Registry, d.engineOptions(), nil); err != nil {
		return fmt.Errorf("open metrics store in %s: %w", o.Dir, err)
	}
	d.metrics.observe(o.Registry, d)
	series := d.tsdb.Head().NumSeries
	d.space.series.Store(&series)
	d.startHead()
	if d.past, err = openPast(d); err != nil {
		return errors.Join(err, d.tsdb.Close())
	}
	d.remote = remote.NewStorage(d.engineLog, o.Registry, d.tsdb.StartTime, o.Dir, o.FlushDeadline, &d.scrapes, false)
	d.tsdb.SetWriteNotified(d.remote)
	d.fanout = storage.NewFanout(d.engineLog, d.tsdb, d.remote)
	if d.engine, err = newEngine(o, d.engineLog); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

func newEngine(o Options, log *slog.Logger) (*promql.Engine, error) {
	l := o.Settings.Limits
	tracker, err := promql.NewActiveQueryTracker(filepath.Join(o.Dir, "queries"), l.QueryConcurrency, log)
	if err != nil {
		return nil, fmt.Errorf("open the list of running queries: %w", err)
	}
	return promql.NewEngine(promql.EngineOpts{
		Logger:               log,
		Reg:                  o.Registry,
		MaxSamples:           l.QueryMaxSamples,
		Timeout:              time.Duration(l.QueryTimeout),
		ActiveQueryTracker:   tracker,
		LookbackDelta:        time.Duration(l.QueryLookback),
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		EnablePerStepStats:   true,
		Parser:               parser.NewParser(parser.Options{}),
	}), nil
}

// startHead gives an empty head the present as its first time. Without it the first sample would do
// so, and if that one is days old (resource state is written at event time) the engine would cut the
// head into a block for every two hours since.
func (d *DB) startHead() {
	d.replayed = math.MinInt64
	if head := d.tsdb.Head(); head.NumSeries() > 0 {
		d.replayed = min(head.MaxTime(), time.Now().UnixMilli())
	}
	app := d.tsdb.Head().Appender(context.Background())
	// A sample without labels sets the head's time and is then refused.
	_, _ = app.Append(0, labels.EmptyLabels(), time.Now().UnixMilli(), 0)
	_ = app.Rollback()
	if ahead := time.Until(time.UnixMilli(d.tsdb.Head().MaxTime())); ahead > d.opts.FutureLimit {
		d.log.Error("the newest sample is from the future, samples of the present may be refused as too old; is the clock right?", "ahead", ahead)
	}
}

// Run works in the background until ctx ends: it watches the disk and writes blocks of old samples.
// It then closes the store and returns.
func (d *DB) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.space.run(gctx, d.log) })
	g.Go(func() error { return d.past.run(gctx) })
	return errors.Join(g.Wait(), d.Close())
}

// Close closes what is open, in order: remote write sends what it holds until the flush deadline,
// then queries end, then the store is closed. Only the first call acts. After it appends fail.
func (d *DB) Close() error {
	d.closeOnce.Do(func() {
		d.closeErr = errors.Join(d.past.close(), d.remote.Close(), d.engine.Close(), d.closeEngine(), d.lock.Release())
	})
	return d.closeErr
}

// closeEngine turns the panic with which the engine answers a full disk, here when it writes its last
// chunks, into an error. The samples in them are in the WAL.
func (d *DB) closeEngine() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("close metrics store: %v", p)
		}
	}()
	return d.tsdb.Close()
}

// Queryable reads the local store and the configured remote-read endpoints as one.
func (d *DB) Queryable() storage.SampleAndChunkQueryable { return d.fanout }

// Local reads the local store alone, for what must not ask others: federation, status.
func (d *DB) Local() storage.SampleAndChunkQueryable { return d.tsdb }

// Exemplars reads the exemplars held in memory.
func (d *DB) Exemplars() storage.ExemplarQueryable { return d.tsdb }

// Engine evaluates PromQL under the limits of the settings.
func (d *DB) Engine() *promql.Engine { return d.engine }

// StartTime is the time of the oldest sample in milliseconds, remote stores not counted.
func (d *DB) StartTime() (int64, error) { return d.tsdb.StartTime() }

// SetScrapeManager tells remote write where metric metadata comes from. The scrape manager needs the
// store first, hence a setter.
func (d *DB) SetScrapeManager(m *scrape.Manager) { d.scrapes.manager.Store(m) }

// Apply takes over a reloaded configuration: remote_write, remote_read and storage of cfg, and the
// retention of s. The cluster label and the limits are fixed at start, a change of them is logged:
// writers hold references to series that carry the old label. On an error nothing of s has changed,
// and cfg's remote endpoints may be partly in place: apply the previous one again.
func (d *DB) Apply(cfg *promconfig.Config, s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Cluster != d.opts.Settings.Cluster || s.Limits != d.opts.Settings.Limits {
		d.log.Warn("changed settings need a restart", "sections", "cluster, limits")
	}
	d.applyMu.Lock()
	defer d.applyMu.Unlock()
	engineCfg := d.engineConfig(cfg, s)
	if err := d.remote.ApplyConfig(engineCfg); err != nil {
		return fmt.Errorf("remote storage: %w", err)
	}
	if err := d.tsdb.ApplyConfig(engineCfg); err != nil {
		return fmt.Errorf("metrics store: %w", err)
	}
	kept := Retention{Time: engineCfg.StorageConfig.TSDBConfig.Retention.Time, Size: engineCfg.StorageConfig.TSDBConfig.Retention.Size}
	d.retention.Store(&kept)
	d.window.Store(engineCfg.StorageConfig.TSDBConfig.OutOfOrderTimeWindow)
	d.past.setRetention(time.Duration(kept.Time))
	d.sending.Store(len(cfg.RemoteWriteConfigs) > 0)
	return nil
}

// engineConfig is cfg with what the engine needs to be told each time: without an exemplar section it
// panics, and without a TSDB section it sets the out-of-order window to nothing.
func (d *DB) engineConfig(cfg *promconfig.Config, s Settings) *promconfig.Config {
	c := *cfg
	if c.StorageConfig.ExemplarsConfig == nil {
		c.StorageConfig.ExemplarsConfig = &promconfig.ExemplarsConfig{MaxExemplars: d.opts.MaxExemplars}
	}
	var t promconfig.TSDBConfig
	if c.StorageConfig.TSDBConfig != nil {
		t = *c.StorageConfig.TSDBConfig
	}
	if t.OutOfOrderTimeWindow == 0 {
		t.OutOfOrderTimeWindow = d.opts.OutOfOrderWindow.Milliseconds()
	}
	// The engine's own section, which may be there with nothing in it, goes before ours.
	r := promconfig.TSDBRetentionConfig{Time: s.Retention.Time, Size: s.Retention.Size}
	if own := t.Retention; own != nil && (own.Time > 0 || own.Size > 0 || own.Percentage > 0) {
		r = *own
	}
	t.Retention = &r
	c.StorageConfig.TSDBConfig = &t
	return &c
}

// scrapeManager is remote write's view of the scrape manager, which comes later than the store.
type scrapeManager struct {
	manager atomic.Pointer[scrape.Manager]
}

var errNoScrapes = errors.New("scraping has not started")

// Get implements remote.ReadyScrapeManager.
func (s *scrapeManager) Get() (*scrape.Manager, error) {
	if m := s.manager.Load(); m != nil {
		return m, nil
	}
	return nil, errNoScrapes
}
