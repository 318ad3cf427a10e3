// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEverythingAtOnce: kinds, scrapes, reloads and back-fill do not disturb one another, and what
// remains is what was said last.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	var r recorder
	both := func(extra string) []*spec.Spec {
		metrics := wrap(extra + `
- {name: v, labelsFromPath: {name: [metadata, name]}, each: {type: Gauge, gauge: {path: [status, v]}}}
- {name: all, each: {type: Count}}
- {name: last, each: {type: StateSet, stateSet: {path: [status, conditions, "-1", type], labelName: t, list: [A, B]}}}`)
		o := spec.Choices{History: true}
		return append(parse(t, metrics, o), parse(t, strings.ReplaceAll(metrics, "Foo", "Bar"), o)...)
	}
	one, two := both("- {name: extra, each: {type: Gauge, gauge: {path: [status, v]}}}"), both("")
	e := newEngine(t, prometheus.NewRegistry(), one, &r)
	ctx, cancel := context.WithCancel(t.Context())
	var background, events sync.WaitGroup
	background.Go(func() { _ = e.Run(ctx) })
	background.Go(func() {
		for ctx.Err() == nil {
			if resp := get(t, e, http.MethodGet, "Accept-Encoding", "gzip"); resp.StatusCode != http.StatusOK {
				t.Errorf("scrape: %d", resp.StatusCode)
			}
		}
	})
	background.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			e.Apply([][]*spec.Spec{one, two}[i%2])
			e.Kinds()
		}
	})
	object := func(kind string, i, v int) resource.Object {
		o := foo(fmt.Sprint(i), map[string]any{"v": int64(v), "conditions": []any{
			map[string]any{"type": "A", "lastTransitionTime": "2026-01-02T03:04:05Z"},
			map[string]any{"type": "B", "lastTransitionTime": "2026-01-02T03:04:06Z"},
		}})
		o["kind"] = kind
		return o
	}
	for _, kind := range []string{"Foo", "Bar"} {
		events.Go(func() {
			for v := range 50 {
				for i := range 20 {
					e.Handle(ctx, applied(object(kind, i, v), time.Now()))
				}
				o := object(kind, v%20, v)
				e.Handle(ctx, resource.Event{Type: resource.Deleted, Kind: state.KindOf(o), Object: o, Received: time.Now()})
			}
		})
	}
	events.Wait()
	cancel()
	background.Wait()
	e.Apply(nil)
	e.Apply(two)
	for _, kind := range []string{"Foo", "Bar"} {
		for i := range 20 {
			e.Handle(t.Context(), applied(object(kind, i, 7), time.Now()))
		}
	}
	got := text(t, e)
	if n := strings.Count(got, "} 7\n"); n != 40 {
		t.Errorf("%d objects have their value, want 40", n)
	}
	if n := strings.Count(got, "foo_all 20\n"); n != 2 {
		t.Errorf("the objects are not counted right:\n%s", got)
	}
	e.Handle(t.Context(), resource.Event{Type: resource.Gone, Kind: state.KindOf(object("Foo", 0, 0))})
	if n := strings.Count(text(t, e), "} 7\n"); n != 20 {
		t.Errorf("%d objects after a kind is gone, want 20", n)
	}
}
