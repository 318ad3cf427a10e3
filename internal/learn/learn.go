// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package learn keeps the learning model: which jobs exist, the stages and rounds each went through and when,
// their scores, tasks and workers, and the datasets and models they use. It takes observed objects
// ([Learn.Handle]) and gives current series and past samples to a [Sink], changes to readers of
// [Learn.Events], and answers to whoever asks about jobs.
//
//	object ─> mapping ─> conditions ─> list ─> fold ─┬─> Sink.Set       what holds now
//	 pods, nodes ──────> workers, tasks ─────────────┤
//	                                     store <─────┼─> Sink.History   the past, once
//	                                                 └─> events, Jobs, Job
//
// How a kind of object becomes a job is a mapping file; no code here knows a kind by name. A condition once seen
// is remembered, and every counter is recomputed from the remembered list, so a restart
// changes nothing. On failure of the store the model goes on in memory; on failure of the
// sink the past is written again later. A bad object costs a counter and one line of log, never another object.
package learn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learn/store"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

// Sink takes the series that are made. Its methods are called one at a time per owner.
type Sink interface {
	// Set replaces all series of an owner; earlier are values that held before the current ones.
	Set(owner string, at time.Time, earlier, current []wire.Sample)
	// Remove ends all series of an owner.
	Remove(owner string, at time.Time)
	// History writes samples of the past; it may block. An error is tried again, unless its method
	// Temporary() bool says that this is of no use.
	History(ctx context.Context, samples []wire.Sample) error
}

// Options for [Open].
type Options struct {
	// Dir is the folder of the store, <data-dir>/learn.
	Dir      string
	Config   Config
	Log      *slog.Logger
	Registry prometheus.Registerer
	Sink     Sink
	// Retention is how far back the past is written; 0 means 15 days.
	Retention time.Duration
}

// Bounds that no configuration changes.
const (
	maxConditions = 100_000
	maxSamples    = 10_000 // of back-fill for one job
	keepEnded     = 50     // ended tasks of a job that are kept one by one
	keepEvents    = 100_000
	settle        = 5 * time.Second // how long workers wait for the list of nodes
	fresh         = time.Minute     // a younger object has no past to write
	tick          = time.Minute
	aliveEvery    = 15 * time.Second
)

// Learn is the learning model. All methods are safe for concurrent use.
type Learn struct {
	o       Options
	log     *slog.Logger
	m       *metrics
	store   *store.Store
	opened  time.Time
	run     uint64 // the number of this start
	alive   int64  // when the previous start was last known to watch, in ms
	changed chan struct{}
	queue   backfillQueue

	mu       sync.Mutex
	kinds    *mapping.Set
	edge     selector
	jobs     map[string]*job   // by uid, deleted ones included
	byName   map[name]*job     // the present job of a name
	datasets map[name]*dataset // without a kind, as jobs name them
	users    map[name]map[*job]struct{}
	models   map[name]*model
	workers  workerTable
	warned   map[string]struct{}

	newsMu sync.Mutex
	news   chan struct{} // closed when events were published
}

// name identifies an object for people. Kind has the group before it where there is one.
type name struct{ namespace, kind, name string }

// Open opens the store and remembers what it holds. Nothing runs before [Learn.Run].
func Open(o Options) (*Learn, error) {
	if o.Retention <= 0 {
		o.Retention = 15 * 24 * time.Hour
	}
	l := &Learn{
		o: o, log: o.Log, opened: time.Now(),
		changed: make(chan struct{}, 1), news: make(chan struct{}),
		jobs: map[string]*job{}, byName: map[name]*job{}, datasets: map[name]*dataset{}, users: map[name]map[*job]struct{}{}, models: map[name]*model{},
		warned: map[string]struct{}{},
	}
	l.workers.init()
	l.queue.init()
	var err error
	if l.kinds, err = o.Config.load(); err != nil {
		return nil, fmt.Errorf("learning mappings: %w", err)
	}
	if l.edge, err = parseSelector(o.Config.EdgeSelector); err != nil {
		return nil, fmt.Errorf("edge selector: %w", err)
	}
	l.m = newMetrics(o.Registry, l)
	l.store, err = store.Open(store.Options{
		Dir: o.Dir, Log: o.Log, KeepEvents: keepEvents,
		Published: l.published,
		Lost:      func(n int) { l.m.lost.WithLabelValues("store").Add(float64(n)) },
	})
	if err != nil {
		return nil, err
	}
	if err := l.remember(); err != nil {
		return nil, errors.Join(err, l.store.Close())
	}
	return l, nil
}

// remember fills the model from the store.
func (l *Learn) remember() error {
	var err error
	if l.alive, l.run, err = l.store.Alive(); err != nil {
		return err
	}
	l.run++
	bad, err := l.store.Objects(l.restoreJob)
	if err != nil {
		return fmt.Errorf("read learning history: %w", err)
	}
	n, err := l.store.Workers(l.restoreWorker)
	if err != nil {
		return fmt.Errorf("read workers: %w", err)
	}
	if err := l.store.Ended(l.workers.restoreEnded); err != nil {
		return fmt.Errorf("read tasks: %w", err)
	}
	if bad += n; bad > 0 {
		l.m.lost.WithLabelValues("bad_record").Add(float64(bad))
		l.log.Warn("records of the learning history are unreadable and were passed over", "records", bad)
	}
	return nil
}

// Kinds lists what the model wants to observe.
func (l *Learn) Kinds() []resource.Kind {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []resource.Kind
	for _, m := range l.kinds.All() {
		out = append(out, m.Resource())
	}
	return out
}

// Environment lists the environment variables of containers that mappings read, in order, for whoever reduces objects.
func (l *Learn) Environment() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := map[string]struct{}{}
	for _, m := range l.kinds.All() {
		for _, e := range m.Environment() {
			set[e] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Reload takes a new configuration or none of it. What is known stays; to apply new mappings to objects that do not
// change, hand them to Handle once more.
func (l *Learn) Reload(c Config) error {
	kinds, err := c.load()
	if err != nil {
		return fmt.Errorf("learning mappings: %w", err)
	}
	edge, err := parseSelector(c.EdgeSelector)
	if err != nil {
		return fmt.Errorf("edge selector: %w", err)
	}
	if c.SeriesLimit < 1 {
		return errors.New("series_limit must be at least 1")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.o.Config, l.kinds, l.edge = c, kinds, edge
	for _, j := range l.jobs {
		j.digest = 0
		if m := kinds.Find(j.resource()); m != nil {
			j.m = m
		}
	}
	l.workers.relocate(l.location)
	l.kick()
	return nil
}

// Handle takes one observation. It does not block on disk.
func (l *Learn) Handle(_ context.Context, ev resource.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.kinds.Find(ev.Kind)
	if m == nil {
		return
	}
	l.m.in.WithLabelValues(string(m.Role)).Inc()
	if ev.Type == resource.Listed {
		l.listed(m, ev.Received)
		return
	}
	if ev.Object == nil {
		return
	}
	if ev.Object.UID() == "" || ev.Object.Name() == "" {
		l.lose(m.Kind, map[string]int{"bad_object": 1})
		return
	}
	deleted := ev.Type == resource.Deleted
	switch m.Role {
	case mapping.Job:
		if deleted {
			l.deleteJob(l.identify(m, ev.Object), ev.Received)
		} else {
			l.applyJob(m, ev)
		}
	case mapping.Dataset:
		l.applyDataset(m, ev, deleted)
	case mapping.Model:
		l.applyModel(m, ev, deleted)
	case mapping.Worker:
		l.applyWorker(ev, deleted)
	case mapping.Node:
		l.applyNode(m, ev, deleted)
	}
}

// listed ends what the first full list of a kind did not show.
func (l *Learn) listed(m *mapping.Mapping, at time.Time) {
	switch m.Role {
	case mapping.Job:
		for _, j := range l.jobs {
			if j.m == m && !j.live && j.rec.Deleted == 0 {
				l.deleteJob(j.rec.UID, at)
			}
		}
	case mapping.Worker:
		l.workers.podsListed = true
		for _, w := range l.workers.all {
			if !w.live && !w.rec.Gone {
				l.workerGone(w, at)
			}
		}
		for k := range l.byName {
			l.workers.touch(k)
		}
	case mapping.Node:
		l.workers.nodesListed = true
	}
	l.kick()
}

// lose counts what of an object could not be used and logs it once per object.
func (l *Learn) lose(object string, lost map[string]int) {
	for reason, n := range lost {
		l.m.lost.WithLabelValues(reason).Add(float64(n))
		key := object + "\x00" + reason
		if _, done := l.warned[key]; done || len(l.warned) > 10_000 {
			continue
		}
		l.warned[key] = struct{}{}
		l.log.Warn("part of an object could not be used", "object", object, "reason", reason, "count", n)
	}
}

// kick wakes Run for work that is collected.
func (l *Learn) kick() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Run commits, writes the past and refreshes what changes with time until ctx ends; then it commits what is left.
func (l *Learn) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.store.Run(ctx) })
	wg.Go(func() { l.runBackfill(ctx) })
	l.loop(ctx)
	wg.Wait()
	l.store.PutAlive(time.Now().UnixMilli(), l.run)
	return l.store.Flush()
}

func (l *Learn) loop(ctx context.Context) {
	ticks, alive := time.NewTicker(tick), time.NewTicker(aliveEvery)
	defer ticks.Stop()
	defer alive.Stop()
	settled := time.NewTimer(settle)
	defer settled.Stop()
	l.store.PutAlive(l.opened.UnixMilli(), l.run)
	for {
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			l.store.PutAlive(time.Now().UnixMilli(), l.run)
			continue
		case <-ticks.C:
			l.refresh(time.Now())
		case <-settled.C:
		case <-l.changed:
			select { // let changes of a burst come together
			case <-ctx.Done():
				return
			case <-time.After(store.Delay):
			}
		}
		l.setWorkers(time.Now())
	}
}

// refresh marks what changes as time passes and forgets jobs that were deleted long ago.
func (l *Learn) refresh(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workers.touchActive()
	limit := now.Add(-time.Duration(l.o.Config.KeepDeleted)).UnixMilli()
	for uid, j := range l.jobs {
		if j.rec.Deleted != 0 && j.rec.Deleted < limit {
			l.store.ForgetObject(uid, j.list.Len())
			l.drop(j)
			delete(l.jobs, uid)
			l.workers.forget(l.store, j.key(), uid)
		}
	}
}

// Close closes the store without committing. After [Learn.Run] has ended nothing is pending.
func (l *Learn) Close() error { return l.store.Close() }
