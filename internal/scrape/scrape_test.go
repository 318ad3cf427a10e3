// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"

	"github.com/periplus-io/periplus/internal/scrape"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("internal/poll.runtime_pollWait"))
}

// site is a running scraper on a real store.
type site struct {
	t        *testing.T
	db       *tsdb.DB
	scraper  *scrape.Scraper
	registry *prometheus.Registry
	updates  chan map[string][]*targetgroup.Group
	stop     func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	return openSite(t, t.TempDir())
}

func openSite(t *testing.T, dir string) *site {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = int64(8 * 24 * time.Hour / time.Millisecond)
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 100
	log := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(dir, log, nil, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, db: db, registry: prometheus.NewRegistry(), updates: make(chan map[string][]*targetgroup.Group)}
	s.scraper, err = scrape.New(scrape.Options{Store: db, Registry: s.registry, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.scraper.Run(ctx, s.updates) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// apply loads a configuration, completes it and gives every job of targets its addresses.
func (s *site) apply(text string, targets map[string][]string) {
	s.t.Helper()
	cfg, err := promconfig.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := scrape.Complete(cfg, scrape.Defaults{}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.scraper.Apply(cfg); err != nil {
		s.t.Fatal(err)
	}
	s.discover(targets)
}

func (s *site) discover(targets map[string][]string) {
	sets := map[string][]*targetgroup.Group{}
	for job, addresses := range targets {
		g := &targetgroup.Group{Source: job}
		for _, a := range addresses {
			g.Targets = append(g.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(a)})
		}
		sets[job] = []*targetgroup.Group{g}
	}
	s.updates <- sets
}

// last gives the newest sample of every series that matches, keyed by its labels.
func (s *site) last(pairs ...string) map[string]float64 {
	s.t.Helper()
	q, err := s.db.Querier(0, math.MaxInt64)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	var ms []*labels.Matcher
	for i := 0; i < len(pairs); i += 2 {
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, pairs[i], pairs[i+1]))
	}
	out := map[string]float64{}
	set := q.Select(s.t.Context(), true, nil, ms...)
	for set.Next() {
		it := set.At().Iterator(nil)
		v := math.NaN()
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			switch kind {
			case chunkenc.ValFloat:
				_, v = it.At()
			default:
				_, h := it.AtFloatHistogram(nil)
				if v = h.Sum; !value.IsStaleNaN(v) {
					v = h.Count
				}
			}
		}
		out[set.At().Labels().String()] = v
	}
	if err := set.Err(); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// eventually waits until check says nothing.
func eventually(t *testing.T, within time.Duration, check func() string) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		problem := check()
		if problem == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: %s", within, problem)
		}
	}
}

func (s *site) wantUp(job string, want float64, within time.Duration) {
	s.t.Helper()
	eventually(s.t, within, func() string {
		got := s.last("__name__", "up", "job", job)
		for _, v := range got {
			if v == want {
				return ""
			}
		}
		return fmt.Sprintf("up of %s: got %v, want %v", job, got, want)
	})
}

// live counts the series that match and have not ended.
func (s *site) live(pairs ...string) int {
	n := 0
	for _, v := range s.last(pairs...) {
		if !value.IsStaleNaN(v) {
			n++
		}
	}
	return n
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return strings.TrimPrefix(srv.URL, "http://")
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte(body))
	}
}

// instrumented serves what a Go program with the official client library serves: a native histogram with an
// exemplar and a counter.
func instrumented(t *testing.T) string {
	t.Helper()
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "train_seconds", Help: "How long a training took.", NativeHistogramBucketFactor: 1.1,
		Buckets: []float64{1, 2},
	})
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "trainings_total", Help: "Trainings so far."})
	reg.MustRegister(h, c)
	h.(prometheus.ExemplarObserver).ObserveWithExemplar(1.5, prometheus.Labels{"trace_id": "abc"})
	c.Inc()
	handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return serve(t, handler.ServeHTTP)
}

const twoJobs = `
global: {scrape_interval: 60s, scrape_native_histograms: true}
scrape_configs:
  - {job_name: stays, scrape_interval: 200ms, scrape_timeout: 200ms}
  - {job_name: goes, scrape_interval: 200ms, scrape_timeout: 200ms}
`

// TestRemovedJobEndsAtOnce is trap 4 of Prometheus as a library: by itself it would leave the series of a
// removed job to the five minutes of look-back.
func TestRemovedJobEndsAtOnce(t *testing.T) {
	s := newSite(t)
	a, b := instrumented(t), instrumented(t)
	s.apply(twoJobs, map[string][]string{"stays": {a}, "goes": {b}})
	s.wantUp("stays", 1, 10*time.Second)
	s.wantUp("goes", 1, 10*time.Second)
	if n := s.live("job", "goes", "__name__", "train_seconds"); n != 1 {
		t.Errorf("native histograms: got %d, want 1", n)
	}
	s.apply(strings.Replace(twoJobs, "job_name: goes", "job_name: other", 1), map[string][]string{"stays": {a}})
	for series, v := range s.last("job", "goes") {
		if !value.IsStaleNaN(v) {
			t.Errorf("%s: got %v, want it stale", series, v)
		}
	}
	if s.live("job", "stays") == 0 {
		t.Error("the other job's series ended too")
	}
}

func TestRemovedTargetEndsLongBeforeItsNextScrape(t *testing.T) {
	s := newSite(t)
	a, b := instrumented(t), instrumented(t)
	// Prometheus itself would write the markers after 11 s at the earliest.
	const cfg = "scrape_configs: [{job_name: j, scrape_interval: 10s, scrape_timeout: 5s}]"
	s.apply(cfg, map[string][]string{"j": {a, b}})
	eventually(t, 30*time.Second, func() string {
		if n := s.live("__name__", "up"); n != 2 {
			return fmt.Sprintf("%d targets, want 2", n)
		}
		return ""
	})
	s.discover(map[string][]string{"j": {a}})
	eventually(t, 9*time.Second, func() string {
		if n := s.live("instance", b); n != 0 {
			return fmt.Sprintf("%d series of the removed target live", n)
		}
		return ""
	})
	if s.live("instance", a) == 0 {
		t.Error("the other target's series ended too")
	}
}

func TestFlappingTargetComesBack(t *testing.T) {
	s := newSite(t)
	a := instrumented(t)
	const cfg = "scrape_configs: [{job_name: j, scrape_interval: 250ms, scrape_timeout: 250ms}]"
	s.apply(cfg, map[string][]string{"j": {a}})
	for range 2 {
		s.wantUp("j", 1, 20*time.Second)
		s.discover(map[string][]string{"j": {}})
		eventually(t, 20*time.Second, func() string { return wantZero(s.live("job", "j")) })
		s.discover(map[string][]string{"j": {a}})
	}
	s.wantUp("j", 1, 20*time.Second)
}

// TestReloadKeepsSeriesOfTargetsThatStay: another interval makes another target of it for Prometheus.
func TestReloadKeepsSeriesOfTargetsThatStay(t *testing.T) {
	s := newSite(t)
	a := serve(t, text("m 1\n"))
	s.apply("scrape_configs: [{job_name: j, scrape_interval: 200ms, scrape_timeout: 100ms}]", map[string][]string{"j": {a}})
	s.wantUp("j", 1, 20*time.Second)
	s.apply("scrape_configs: [{job_name: j, scrape_interval: 1h, scrape_timeout: 1s}]", map[string][]string{"j": {a}})
	eventually(t, 20*time.Second, func() string {
		for _, target := range s.scraper.Manager().TargetsActive()["j"] {
			if target.GetValue(model.ScrapeIntervalLabel) == "1h" {
				return ""
			}
		}
		return "the new interval does not hold"
	})
	if n := s.live("__name__", "m"); n != 1 {
		t.Errorf("live series: got %d, want 1", n)
	}
}

func wantZero(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("got %d, want none", n)
}

// TestBadTargetsHurtNobody scrapes one target of every bad kind beside a good one.
func TestBadTargetsHurtNobody(t *testing.T) {
	s := newSite(t)
	stop := make(chan struct{})
	endless := func(w http.ResponseWriter, r *http.Request) {
		line := []byte(strings.Repeat("endless{a=\"b\"} 1\n", 1000))
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	hanging := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}
	odd := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write([]byte("m 1\n"))
	}
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, "many{i=\"%d\"} 1\n", i)
	}
	bad := map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"endless":   {endless, "body size limit exceeded"},
		"hanging":   {hanging, "deadline exceeded"},
		"garbage":   {text("<html>\x00{{{ not metrics"), "expected"},
		"half":      {text("ok 1\nbroken{a=\"b"), "expected"},
		"long":      {text("long{a=\"" + strings.Repeat("x", 10<<20) + "\"} 1\n"), "label_value_length_limit exceeded"},
		"non-utf8":  {text("m{a=\"\xff\xfe\"} 1\n"), "invalid"},
		"too-many":  {text(many.String()), "sample limit exceeded"},
		"odd-type":  {odd, "Content-Type"},
		"not-found": {http.NotFound, "404"},
	}
	cfg := "global: {scrape_interval: 3s, scrape_timeout: 2s, body_size_limit: 20MB}\nscrape_configs:\n  - job_name: good\n"
	targets := map[string][]string{"good": {instrumented(t)}}
	for job, b := range bad {
		cfg += "  - job_name: " + job + "\n"
		if job == "too-many" {
			cfg += "    sample_limit: 1000\n"
		}
		targets[job] = []string{serve(t, b.handler)}
	}
	s.apply(cfg, targets)
	t.Cleanup(func() { close(stop) })
	s.wantUp("good", 1, 30*time.Second)
	for job, b := range bad {
		eventually(t, 40*time.Second, func() string {
			for _, target := range s.scraper.Manager().TargetsActive()[job] {
				if err := target.LastError(); err != nil && strings.Contains(err.Error(), b.err) {
					return ""
				} else if err != nil {
					return fmt.Sprintf("%s: got %v, want %s", job, err, b.err)
				}
			}
			return job + ": no error yet"
		})
	}
	s.wantUp("good", 1, 20*time.Second)
	if got := s.metric("prometheus_target_scrapes_exceeded_body_size_limit_total"); got == 0 {
		t.Error("the endless stream is not counted")
	}
	if n := s.live("__name__", "endless"); n != 0 {
		t.Errorf("series of the endless stream: got %d, want 0", n)
	}
}

// TestShutdownWaitsForNoTarget: neither for one that hangs nor for one that does not even answer the dial, and what
// was broken off does not look like a failure.
func TestShutdownWaitsForNoTarget(t *testing.T) {
	asked, stop := make(chan struct{}), make(chan struct{})
	var once sync.Once
	addr := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(asked) })
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	t.Cleanup(func() { close(stop) })
	dir := t.TempDir()
	s := openSite(t, dir)
	s.apply("scrape_configs: [{job_name: j, scrape_interval: 10s, scrape_timeout: 10s}]", map[string][]string{"j": {addr}})
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Fatal("the target was never asked")
	}
	start := time.Now()
	s.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("shutdown took %s", took)
	}
	if got := openSite(t, dir).last("job", "j"); len(got) != 0 {
		t.Errorf("got %v, want nothing of a scrape that was broken off", got)
	}
}

func TestDuplicateSeriesAreCountedAndTheRestIsTaken(t *testing.T) {
	s := newSite(t)
	s.apply("scrape_configs: [{job_name: j, scrape_interval: 300ms, scrape_timeout: 300ms}]",
		map[string][]string{"j": {serve(t, text("m{a=\"1\"} 1\nm{a=\"1\"} 2\nok 1\n"))}})
	s.wantUp("j", 1, 20*time.Second)
	if s.live("__name__", "ok") != 1 || s.live("__name__", "m") != 1 {
		t.Errorf("got %v and %v, want one of each", s.last("__name__", "ok"), s.last("__name__", "m"))
	}
	if got := s.metric("prometheus_target_scrapes_sample_duplicate_timestamp_total"); got == 0 {
		t.Error("the duplicate is not counted")
	}
}

func TestMetadataAndExemplars(t *testing.T) {
	s := newSite(t)
	addr := instrumented(t)
	s.apply(twoJobs, map[string][]string{"stays": {addr}})
	s.wantUp("stays", 1, 20*time.Second)
	target := s.scraper.Manager().TargetsActive()["stays"][0]
	if m, ok := target.GetMetadata("trainings_total"); !ok || m.Help != "Trainings so far." || m.Type != model.MetricTypeCounter {
		t.Errorf("got %+v, want the counter with its help", m)
	}
	if target.Health() != promscrape.HealthGood {
		t.Errorf("health: got %s", target.Health())
	}
	q, err := s.db.ExemplarQuerier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() string {
		got, err := q.Select(0, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "train_seconds.*")})
		if err != nil || len(got) == 0 || got[0].Exemplars[0].Labels.Get("trace_id") != "abc" {
			return fmt.Sprintf("exemplars: got %v %v", got, err)
		}
		return ""
	})
}

func TestThousandTargets(t *testing.T) {
	s := newSite(t)
	var scrapes atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		scrapes.Add(1)
		text("m 1\n")(w, r)
	})
	g := &targetgroup.Group{Source: "x"}
	for i := range 1000 {
		g.Targets = append(g.Targets, model.LabelSet{
			model.AddressLabel: model.LabelValue(addr), "i": model.LabelValue(fmt.Sprint(i)),
		})
	}
	s.apply("scrape_configs: [{job_name: j, scrape_interval: 4s, scrape_timeout: 2s}]", nil)
	s.updates <- map[string][]*targetgroup.Group{"j": {g}}
	eventually(t, 30*time.Second, func() string {
		if n := s.live("__name__", "m"); n != 1000 {
			return fmt.Sprintf("%d of 1000 targets", n)
		}
		return ""
	})
	start := time.Now()
	s.apply("scrape_configs: []", nil)
	if n := s.live("__name__", "m"); n != 0 {
		t.Errorf("live series after removal: got %d, want 0", n)
	}
	t.Logf("1000 targets ended in %s", time.Since(start))
}

// metric gives the sum of one of the scraper's own metrics.
func (s *site) metric(name string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum := 0.0
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		s.t.Fatalf("no metric %s", name)
	}
	for _, m := range families[i].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum
}
