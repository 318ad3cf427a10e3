// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/test/kube"
)

// cluster is shared by all tests of the package; each uses a namespace of its own.
var cluster *kube.Cluster

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "kube")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // a cold build included
	defer cancel()
	if cluster, err = kube.Start(ctx, kube.Options{Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	if err := cluster.CreateDefinitions(ctx, "lifelonglearningjobs", "datasets", "models"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// recorder takes events in and checks what must hold of every sequence of them.
type recorder struct {
	t *testing.T

	mu      sync.Mutex
	objects map[string]resource.Object // by kind, namespace, name
	events  map[string][]string        // per object: the resourceVersions applied, and "deleted"
	kinds   map[string][]resource.EventType
	latest  map[string]time.Time // received, per object
	count   int
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{
		t: t, objects: map[string]resource.Object{}, events: map[string][]string{},
		kinds: map[string][]resource.EventType{}, latest: map[string]time.Time{},
	}
}

func (r *recorder) handle(_ context.Context, e resource.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	kind := e.Kind.Kind
	if e.Type == resource.Listed || e.Type == resource.Gone {
		r.kinds[kind] = append(r.kinds[kind], e.Type)
		return
	}
	id := kind + "/" + e.Object.Namespace() + "/" + e.Object.Name()
	seen := r.events[id]
	switch e.Type {
	case resource.Applied:
		version := e.Object.Text("metadata", "resourceVersion")
		if len(seen) > 0 && seen[len(seen)-1] == version {
			r.t.Errorf("%s: version %s came twice", id, version)
		}
		if e.Object.Field("metadata", "managedFields") != nil {
			r.t.Errorf("%s: not stripped", id)
		}
		r.events[id] = append(seen, version)
		r.objects[id] = e.Object
		r.latest[id] = e.Received
	case resource.Deleted:
		if _, ok := r.objects[id]; !ok {
			r.t.Errorf("%s: deleted but not known", id)
		}
		r.events[id] = append(seen, "deleted")
		delete(r.objects, id)
	}
}

// get gives an object as last applied, nil if there is none.
func (r *recorder) get(kind, namespace, name string) resource.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.objects[kind+"/"+namespace+"/"+name]
}

func (r *recorder) history(kind, namespace, name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events[kind+"/"+namespace+"/"+name]...)
}

func (r *recorder) kind(kind string) []resource.EventType {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]resource.EventType(nil), r.kinds[kind]...)
}

func (r *recorder) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.objects)
}

// watching starts a watcher that is stopped with the test.
func watching(t *testing.T, handle func(context.Context, resource.Event), c watch.Config, wants ...watch.Want) *watch.Watcher {
	t.Helper()
	w, err := watch.New(watch.Options{
		Handler: handle, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Apply(c, wants); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func config(kubeconfig string) watch.Config {
	c := watch.DefaultConfig()
	c.Kubeconfig = kubeconfig
	return c
}

func sedna(kind string) watch.Want {
	return watch.Want{Group: "sedna.io", Version: "v1alpha1", Kind: kind}
}

// eventually waits until done says true, and fails the test if that takes too long.
func eventually(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := kube.Poll(ctx, done); err != nil {
		t.Fatalf("%s: not within %v", what, limit)
	}
}

// state gives the state of a kind.
func state(w *watch.Watcher, kind string) watch.State {
	for _, k := range w.Status().Kinds {
		if k.Kind.Kind == kind {
			return k.State
		}
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
