// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

// recorded is a sink that remembers every sample in the way a time series store would: by series and time.
type recorded struct {
	mu      sync.Mutex
	owners  map[string]map[string]wire.Sample // current values by owner and series
	series  map[string]map[int64]float64
	removed []string
	history int
	faults  []string // what no sink should be given
	// refuse makes History fail; hold makes it wait for ctx to end.
	refuse int
	hold   bool
}

func newRecorded() *recorded {
	return &recorded{owners: map[string]map[string]wire.Sample{}, series: map[string]map[int64]float64{}}
}

func isStale(v float64) bool { return math.Float64bits(v) == 0x7ff0000000000002 }

func (r *recorded) add(s wire.Sample) {
	key := s.Labels.String()
	if r.series[key] == nil {
		r.series[key] = map[int64]float64{}
	}
	r.series[key][s.Time] = s.Value
}

func (r *recorded) last(key string) int64 {
	last := int64(math.MinInt64)
	for t := range r.series[key] {
		last = max(last, t)
	}
	return last
}

// live writes a sample as keep does: never behind the series' last one.
func (r *recorded) live(s wire.Sample) {
	if last := r.last(s.Labels.String()); s.Time <= last {
		s.Time = last + 1
	}
	r.add(s)
}

func (r *recorded) Set(owner string, at time.Time, earlier, current []wire.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.owners[owner]
	now := map[string]wire.Sample{}
	for i, s := range earlier {
		if i > 0 && s.Time < earlier[i-1].Time {
			r.faults = append(r.faults, "earlier is not in time order")
		}
		r.live(s)
		if o, ok := old[s.Labels.String()]; ok {
			o.Value = s.Value
			old[s.Labels.String()] = o
		} else if old != nil {
			old[s.Labels.String()] = s
		}
	}
	for _, s := range current {
		key := s.Labels.String()
		if _, twice := now[key]; twice {
			r.faults = append(r.faults, "series twice in current: "+key)
		}
		for other, m := range r.owners {
			if _, ok := m[key]; ok && other != owner {
				r.faults = append(r.faults, "series "+key+" has two owners: "+owner+" and "+other)
			}
		}
		now[key] = s
		if o, ok := old[key]; !ok || o.Value != s.Value {
			r.live(s)
		}
	}
	for key, o := range old {
		if _, ok := now[key]; !ok {
			r.live(wire.Sample{Labels: o.Labels, Time: at.UnixMilli(), Value: math.Float64frombits(0x7ff0000000000002)})
		}
	}
	r.owners[owner] = now
}

func (r *recorded) Remove(owner string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.owners[owner] {
		r.live(wire.Sample{Labels: o.Labels, Time: at.UnixMilli(), Value: math.Float64frombits(0x7ff0000000000002)})
	}
	delete(r.owners, owner)
	r.removed = append(r.removed, owner)
}

func (r *recorded) History(ctx context.Context, samples []wire.Sample) error {
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold {
		<-ctx.Done()
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 {
		r.refuse--
		return fmt.Errorf("refused")
	}
	last := map[string]int64{}
	for _, s := range samples {
		key := s.Labels.String()
		if t, ok := last[key]; ok && s.Time <= t {
			r.faults = append(r.faults, "history is not in time order: "+key)
		}
		last[key] = s.Time
		r.add(s)
	}
	r.history += len(samples)
	return nil
}

// wrong gives what the sink should not have been given, and forgets it.
func (r *recorded) wrong() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.faults
	r.faults = nil
	return out
}

// restart forgets what a process holds in memory; what was written stays.
func (r *recorded) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owners = map[string]map[string]wire.Sample{}
}

// now lists the current series as exposition text, sorted; only those whose name begins with one of the prefixes.
func (r *recorded) now(prefixes ...string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, m := range r.owners {
		for key, s := range m {
			name := s.Labels.Get("__name__")
			if len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s %v", key, s.Value))
		}
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// value gives the newest value of a series at a time within five minutes, as an instant query would.
func (r *recorded) value(key string, at int64) (float64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, v := int64(-1), 0.0
	for t, value := range r.series[key] {
		if t <= at && t > best && at-t <= 300_000 {
			best, v = t, value
		}
	}
	return v, best >= 0 && !isStale(v)
}

// changes gives the values of a series over time without repeats.
func (r *recorded) changes(key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var times []int64
	for t := range r.series[key] {
		times = append(times, t)
	}
	slices.Sort(times)
	var out []string
	before := math.NaN()
	for _, t := range times {
		v := r.series[key][t]
		if v == before || (isStale(v) && isStale(before)) {
			continue
		}
		before = v
		out = append(out, fmt.Sprintf("%v@%s", v, time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000")))
	}
	return out
}

// hub is a running model.
type hub struct {
	*learn.Learn
	t    testing.TB
	dir  string
	sink *recorded
	reg  *prometheus.Registry
	stop context.CancelFunc
	done chan struct{}
}

func start(t testing.TB, dir string, sink *recorded) *hub { return startWith(t, dir, sink, nil) }

func startWith(t testing.TB, dir string, sink *recorded, change func(*learn.Options)) *hub {
	t.Helper()
	h := &hub{t: t, dir: dir, sink: sink, reg: prometheus.NewRegistry(), done: make(chan struct{})}
	o := learn.Options{
		Dir: dir, Config: learn.DefaultConfig(), Log: slog.New(slog.DiscardHandler), Registry: h.reg, Sink: sink,
	}
	if change != nil {
		change(&o)
	}
	l, err := learn.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Learn = l
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() {
		defer close(h.done)
		_ = l.Run(ctx)
	}()
	t.Cleanup(h.close)
	return h
}

// close ends the hub in order.
func (h *hub) close() {
	h.stop()
	<-h.done
	_ = h.Close()
	if wrong := h.sink.wrong(); len(wrong) > 0 {
		h.t.Errorf("the sink was given: %s", strings.Join(wrong, "; "))
	}
}

// kill ends the hub as a crash does: nothing that is pending is committed.
func (h *hub) kill() {
	_ = h.Close()
	h.stop()
	<-h.done
}

func (h *hub) wait(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s did not happen in time", what)
		}
		<-tick.C
	}
}

// settled waits for back-fill to end.
func (h *hub) settled() {
	h.t.Helper()
	h.wait("back-fill", func() bool { return h.Status().BackfillPending == 0 })
}

func (h *hub) apply(k resource.Kind, o resource.Object, at time.Time, initial bool) {
	h.Handle(context.Background(), resource.Event{Type: resource.Applied, Kind: k, Object: o, Received: at, Initial: initial})
}

func kind(name string) resource.Kind {
	switch name {
	case "Pod", "Node":
		return resource.Kind{Version: "v1", Kind: name, Plural: strings.ToLower(name) + "s"}
	}
	return resource.Kind{Group: "sedna.io", Version: "v1alpha1", Kind: name, Plural: strings.ToLower(name) + "s"}
}

// objects reads the documents of a YAML file of testdata.
func objects(t testing.TB, file string) []resource.Object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out []resource.Object
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		out = append(out, parse(t, doc))
	}
	return out
}

func parse(t testing.TB, doc string) resource.Object {
	t.Helper()
	js, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(js, &o); err != nil {
		t.Fatal(err)
	}
	return o
}
