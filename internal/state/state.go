// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package state turns objects of the Kubernetes API into series, as specification files say (package
// spec; docs/resource-state.md is the language). It takes [resource.Event] values and gives samples
// at event time to a [Sink], and the current series of everything as text to whoever scrapes.
//
//	resource.Event ──> Handle ──┬─> current series, at event time ──────────> Sink.Set / Remove
//	                            ├─> what happened between two observations ─> Sink.Set (earlier)
//	                            ├─> the past an object tells of ──> Run ────> Sink.History
//	                            └─> rendered text ──> Handler ──────────────> /metrics/state
//
// Objects are not kept, only their rendered text. An object or a metric that cannot be evaluated is
// logged once per object and counted, and leaves all others alone. Series beyond a cap are refused
// and counted.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// Sink holds the current series of every object and keeps them alive. Its methods are safe for
// concurrent use.
type Sink interface {
	// Set replaces all series of owner. earlier are transitions before the current values, in time
	// order. Both slices belong to the sink after the call.
	Set(owner string, at time.Time, earlier, current []wire.Sample)
	// Remove ends all series of owner; an unknown owner is none.
	Remove(owner string, at time.Time)
	// History writes samples of the past, those of one series in time order. An error whose method
	// Temporary() bool says so is tried again.
	History(ctx context.Context, samples []wire.Sample) error
}

// Options are what an Engine needs. Sink may be nil where the text is all that is wanted.
type Options struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Sink     Sink
	Specs    []*spec.Spec
	// Retention is how far back the past is written; 0 means all of it.
	Retention time.Duration
	// Config gives the caps; its files are not read again.
	Config Config
}

// Engine applies specifications to objects. All methods are safe for concurrent use.
type Engine struct {
	log    *slog.Logger
	quiet  quietLog
	sink   Sink
	config Config
	// retention is how far back the past is written, 0 means all of it.
	retention time.Duration

	metrics *metrics
	fills   fillQueue

	// generation is held for reading while an event is handled, so that Apply sees none half done.
	generation sync.RWMutex
	specs      []*spec.Spec

	mu     sync.Mutex
	tables map[resource.Kind]*table
	order  []*table
}

// New makes an Engine that has seen no objects yet.
func New(o Options) (*Engine, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("resource_state: %w", err)
	}
	if o.Log == nil || o.Registry == nil {
		return nil, errors.New("state needs a logger and a registry")
	}
	e := &Engine{
		log:       o.Log,
		quiet:     quietLog{log: o.Log},
		sink:      o.Sink,
		config:    o.Config,
		specs:     o.Specs,
		retention: o.Retention,
		tables:    map[resource.Kind]*table{},
	}
	e.fills.wake = make(chan struct{}, 1)
	e.metrics = newMetrics(o.Registry, e)
	return e, nil
}

// Kinds gives what to watch. Kind and Version may be "*": all kinds or versions of the group that
// are served. Plural is set where a file says it.
func (e *Engine) Kinds() []resource.Kind {
	e.generation.RLock()
	defer e.generation.RUnlock()
	var out []resource.Kind
	seen := map[resource.Kind]bool{}
	for _, s := range e.specs {
		for _, r := range s.Resources {
			k := resource.Kind{Group: r.Group, Version: r.Version, Kind: r.Kind}
			if !seen[k] {
				seen[k] = true
				k.Plural = r.Plural
				out = append(out, k)
			}
		}
	}
	return out
}

// Handle takes one event. Events of one kind must come one at a time.
func (e *Engine) Handle(_ context.Context, ev resource.Event) {
	e.generation.RLock()
	defer e.generation.RUnlock()
	t := e.table(ev.Kind)
	if t == nil {
		return
	}
	e.metrics.event(ev.Type)
	switch ev.Type {
	case resource.Applied:
		t.apply(ev)
		t.work.release()
	case resource.Deleted:
		t.remove(ev.Object, ev.Received)
	case resource.Gone:
		t.drop(ev.Received)
	case resource.Listed:
	}
}

// table gives the table of a kind, nil for a kind that no specification speaks about.
func (e *Engine) table(k resource.Kind) *table {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.tables[k]
	if !ok {
		if p := newPlan(k, e.specs, e.config.SeriesLimit); len(p.families) > 0 {
			t = newTable(e, p)
			e.order = append(e.order, t)
		}
		e.tables[k] = t
	}
	return t
}

// Apply replaces the specifications, all or nothing: they were checked when they were parsed.
// Kinds for which nothing changed go on as they are. For the others, the engine has forgotten the
// objects, or never had them: whoever calls must have the source of events replay them (an Applied
// event for every object that exists) for the kinds returned, and watch what Kinds names now. Until
// then their series stay alive in the sink, and are missing from the text. Of the configuration,
// object_series_limit and label_value_bytes are those of the start.
func (e *Engine) Apply(specs []*spec.Spec) []resource.Kind {
	e.generation.Lock()
	defer e.generation.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.specs = specs
	var replay []resource.Kind
	old := e.order
	e.order = nil
	for _, t := range old {
		p := newPlan(t.plan.kind, specs, e.config.SeriesLimit)
		switch {
		case p.print == t.plan.print:
			e.order = append(e.order, t)
			continue
		case len(p.families) == 0:
			t.drop(time.Now())
		default:
			replay = append(replay, t.plan.kind)
			t.endCounts(time.Now())
		}
		delete(e.tables, t.plan.kind)
	}
	for k, t := range e.tables {
		if t != nil {
			continue
		}
		delete(e.tables, k)
		if len(newPlan(k, specs, e.config.SeriesLimit).families) > 0 {
			replay = append(replay, k) // watched for somebody else so far
		}
	}
	return replay
}

// Run writes the past of objects and the metrics of type Count to the sink until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	if e.sink == nil {
		<-ctx.Done()
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.fill(ctx) })
	g.Go(func() error { return e.flushCounts(ctx) })
	return g.Wait()
}

// all gives the tables in the order of their appearance.
func (e *Engine) all() []*table {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]*table(nil), e.order...)
}
