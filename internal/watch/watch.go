// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package watch observes objects of the Kubernetes API: those of an API server and those in folders
// of manifests. It takes a list of wanted kinds and gives [resource.Event] values to a handler, the
// same from both sources: each change once, the events of a kind in order.
//
//	API server ── discovery, streaming list, watch ──┐
//	                                                 ├─> strip ─> table of the kind ─> Handler
//	manifests ─── scan, fsnotify ────────────────────┘            (compressed)
//
// Objects arrive one by one and are never held decoded. What nobody reads is removed first (strip.yaml);
// of each object a few hundred bytes to a few KiB of compressed JSON stay, for questions and to tell
// what has changed.
//
// Nothing that goes wrong with one kind, object or file touches the others. What is refused, missing or
// unreadable is in [Watcher.Status] and in the metrics, and is tried again. An API server that is
// restarted, or was away, is resumed from the last version seen, or compared with what is known.
package watch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/resource"
)

// Options say where events go.
type Options struct {
	// Handler receives every event. Those of one kind come one at a time; it may block, which slows
	// that kind down. It may keep the object but not change it. ctx is that of Run.
	Handler  func(ctx context.Context, e resource.Event)
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Watcher observes objects. Its methods may be called at any time from any goroutine.
type Watcher struct {
	handler func(context.Context, resource.Event)
	log     *slog.Logger
	metrics *metrics
	pack    *packer
	// applied signals that next has changed.
	applied   chan struct{}
	cluster   *cluster
	manifests *manifests
	// members is held while a feed joins or leaves, so that a kind's Gone comes before its return.
	members sync.Mutex

	mu     sync.RWMutex
	next   plan
	tables map[resource.Kind]*table
	handle func(resource.Event)
}

// plan is what is to be watched.
type plan struct {
	config Config
	wants  []Want
	strip  *stripper
}

func (p plan) wanted(k resource.Kind) bool {
	return slices.ContainsFunc(p.wants, func(w Want) bool { return w.matches(k.Group, k.Version, k.Kind) })
}

func (p plan) namespaces(namespaced bool) []string {
	if !namespaced || len(p.config.Namespaces) == 0 {
		return []string{""}
	}
	return slices.Compact(slices.Sorted(slices.Values(p.config.Namespaces)))
}

// New makes a watcher that watches nothing until Apply and Run.
func New(o Options) (*Watcher, error) {
	if o.Handler == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("watch: Handler, Log and Registry are needed")
	}
	p, err := newPacker()
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		handler: o.Handler, log: o.Log, metrics: newMetrics(o.Registry), pack: p,
		applied: make(chan struct{}, 1), tables: map[resource.Kind]*table{},
	}
	w.cluster, w.manifests = newCluster(w), newManifests(w)
	if err := o.Registry.Register(newCollector(w.Status)); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return w, nil
}

// Apply sets what is to be watched, before Run or while it runs. On error nothing changes. Kinds that
// are not wanted any more are let go: their objects are reported as Deleted, then the kind as Gone.
// What stays goes on from where it is.
func (w *Watcher) Apply(c Config, wants []Want) error {
	errs := []error{c.Validate()}
	for _, want := range wants {
		errs = append(errs, want.validate())
	}
	s, err := newStripper(c.KeepEnvironment)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	w.mu.Lock()
	w.next = plan{config: c, wants: slices.Clone(wants), strip: s}
	w.mu.Unlock()
	if c.cluster() {
		w.cluster.source.begin(c.Kubeconfig)
	}
	if len(c.Manifests) > 0 {
		w.manifests.source.begin(strings.Join(c.Manifests, ", "))
	}
	select {
	case w.applied <- struct{}{}:
	default:
	}
	return nil
}

// Run watches until ctx ends. A source that cannot be reached is no error: it is tried again.
func (w *Watcher) Run(ctx context.Context) error {
	w.mu.Lock()
	w.handle = func(e resource.Event) {
		w.metrics.events.WithLabelValues(e.Kind.String(), eventType(e.Type)).Inc()
		w.handler(ctx, e)
	}
	w.mu.Unlock()
	var earlier plan
	for ctx.Err() == nil {
		select {
		case <-w.applied:
		default:
		}
		w.mu.RLock()
		p := w.next
		w.mu.RUnlock()
		w.follow(ctx, p, earlier)
		earlier = p
	}
	return nil
}

// follow runs the sources of a plan until there is another or ctx ends.
func (w *Watcher) follow(ctx context.Context, p, earlier plan) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { w.cluster.run(ctx, p, earlier) })
	wg.Go(func() { w.manifests.run(ctx, p) })
	select {
	case <-ctx.Done():
	case <-w.applied:
	}
}

// join adds a feed to the table of a kind, which it makes if needed.
func (w *Watcher) join(kind resource.Kind, f *feed) *table {
	w.members.Lock()
	defer w.members.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tables[kind]
	if t == nil {
		t = newTable(kind, w.handle, w.pack)
		w.tables[kind] = t
	}
	t.join(f)
	return t
}

// leave takes a feed away, and the kind's table with its last one. False means that ctx ended first.
func (w *Watcher) leave(ctx context.Context, t *table, f *feed) bool {
	w.members.Lock()
	defer w.members.Unlock()
	last, err := t.leave(ctx, f)
	if err != nil {
		return false
	}
	if last {
		w.mu.Lock()
		delete(w.tables, t.kind)
		w.mu.Unlock()
	}
	return true
}

// Status tells how it stands with sources and kinds.
func (w *Watcher) Status() Status {
	var s Status
	for _, t := range w.all() {
		s.Kinds = append(s.Kinds, t.status())
	}
	s.Sources = append(s.Sources, w.cluster.source.status(), w.manifests.source.status())
	s.Kinds = append(s.Kinds, w.cluster.source.absent()...)
	sortKinds(s.Kinds)
	return s
}

func (w *Watcher) all() []*table {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return slices.Collect(maps.Values(w.tables))
}

// Get gives an object as it was seen last, stripped.
func (w *Watcher) Get(kind resource.Kind, namespace, name string) (resource.Object, bool) {
	w.mu.RLock()
	t := w.tables[kind]
	w.mu.RUnlock()
	if t == nil {
		return nil, false
	}
	return t.get(namespace, name)
}

// List gives the objects of a kind by namespace and name, decoding one at a time.
func (w *Watcher) List(kind resource.Kind) iter.Seq[resource.Object] {
	return func(yield func(resource.Object) bool) {
		w.mu.RLock()
		t := w.tables[kind]
		w.mu.RUnlock()
		if t == nil {
			return
		}
		for _, k := range t.keys() {
			if o, ok := t.get(k.namespace, k.name); ok && !yield(o) {
				return
			}
		}
	}
}
