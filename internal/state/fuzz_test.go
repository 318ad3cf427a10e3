// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// strict is a sink that checks what it is given: labels are a set, times make sense.
type strict struct{ t *testing.T }

func (s *strict) check(samples []wire.Sample) {
	for _, p := range samples {
		if name, twice := p.Labels.HasDuplicateLabelNames(); twice || p.Labels.Get("__name__") == "" {
			s.t.Errorf("labels %v, twice %q", p.Labels, name)
		}
		if p.Time <= 0 || p.Time > time.Now().Add(time.Minute).UnixMilli() {
			s.t.Errorf("time %d", p.Time)
		}
	}
}

func (s *strict) Set(_ string, _ time.Time, earlier, current []wire.Sample) {
	s.check(earlier)
	s.check(current)
}

func (s *strict) Remove(string, time.Time) {}

func (s *strict) History(_ context.Context, samples []wire.Sample) error {
	s.check(samples)
	return nil
}

// FuzzHandle: two observations of whatever object give text that parses and samples that are in order.
func FuzzHandle(f *testing.F) {
	specs := parse(f, stages, spec.Choices{History: true})
	specs = append(specs, parse(f, wrap(`
- {name: all_info, each: {type: Info, info: {path: [status], labelsFromPath: {"*": []}, labelFromKey: k}}}
- {name: each, each: {type: Gauge, gauge: {path: [status, conditions], labelsFromPath: {"c_*": []}, valueFrom: [status]}}}`), spec.Choices{History: true})...)
	f.Add([]byte(`{"metadata":{"name":"a","namespace":"b","uid":"c"},"status":{"conditions":[{"type":"Waiting","stage":"Train","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`),
		[]byte(`{"metadata":{"name":"a","namespace":"b","uid":"c"},"status":{"conditions":[{"type":"Waiting","stage":"Train","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"},{"type":"Ready","stage":"Train"},{"type":"Ready","lastTransitionTime":"1970-01-01T00:00:00Z"},{"lastHeartbeatTime":"9999-01-01T00:00:00Z"},3]}}`))
	f.Add([]byte(`{}`), []byte(`{"metadata":[],"status":"x"}`))
	f.Add([]byte(`{"status":{"conditions":{}}}`), []byte(`{"status":{"conditions":[[]],"é\n\"":"\\"}}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		sink := &strict{t}
		e := newEngine(t, prometheus.NewRegistry(), specs, sink)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		for _, k := range e.Kinds() {
			for i, data := range [][]byte{first, second} {
				var o map[string]any
				if json.Unmarshal(data, &o) != nil || o == nil {
					continue
				}
				o["metadata"] = map[string]any{"name": "a", "namespace": "b", "uid": "c"}
				e.Handle(ctx, resource.Event{Type: resource.Applied, Kind: k, Object: o, Received: time.Now(), Initial: i == 0})
			}
		}
		parses(t, text(t, e))
	})
}

func parses(t *testing.T, text string) {
	t.Helper()
	p, err := textparse.New([]byte(text), "text/plain", labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		if s := l.String(); seen[s] {
			t.Errorf("%s twice in\n%s", s, text)
		} else {
			seen[s] = true
		}
	}
}
