// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/periplus-io/periplus/internal/promapi"
)

const configText = `
global:
  external_labels: {cluster: shore, site: "42"}
scrape_configs:
  - job_name: peers
    basic_auth: {username: reader, password: very-secret}
    static_configs: [{targets: ["127.0.0.1:1"]}]
`

// site is an API over a real store, with a fixed history around epoch.
type site struct {
	t   *testing.T
	db  *tsdb.DB
	url string
}

// epoch is the time of the fixed samples: 2026-01-01 00:00:00 UTC.
const epoch = int64(1_767_225_600_000)

type admin struct{ *tsdb.DB }

func (a admin) Stats(by string, limit int) (*tsdb.Stats, error) {
	return a.Head().Stats(by, limit), nil
}

func (admin) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return tsdb.WALReplayStatus{Min: 0, Max: 3, Current: 3}, nil
}
func (a admin) BlockMetas() ([]tsdb.BlockMeta, error) { return a.DB.BlockMetas(), nil }

// newSite serves a store; change edits the options.
func newSite(t *testing.T, change func(*promapi.Options)) *site {
	t.Helper()
	to := tsdb.DefaultOptions()
	to.EnableExemplarStorage, to.MaxExemplars = true, 100
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.DisableCompactions()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg, err := config.Load(configText, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := parser.NewParser(parser.Options{})
	o := promapi.Options{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Engine:  promql.NewEngine(promql.EngineOpts{Timeout: time.Minute, MaxSamples: 100_000, EnableAtModifier: true, EnableNegativeOffset: true, Parser: p}),
		Parser:  p,
		Storage: db, Exemplars: db, TSDB: admin{db}, TSDBDir: db.Dir(),
		Prometheus:  func() config.Config { return *cfg },
		Flags:       map[string]string{"data-dir": "/data"},
		Version:     apiv1.PrometheusVersion{Version: "0.1.0", GoVersion: "go1.26"},
		Runtime:     func() (apiv1.RuntimeInfo, error) { return apiv1.RuntimeInfo{CWD: "/", StorageRetention: "30d"}, nil },
		ExternalURL: &url.URL{Scheme: "http", Host: "hub.example:8420"},
		Listen:      "127.0.0.1:8420",
		Limits:      promapi.DefaultConfig(),
	}
	if change != nil {
		change(&o)
	}
	a, err := promapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	a.Register(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &site{t: t, db: db, url: server.URL}
}

// fill writes the fixed history.
func (s *site) fill() *site {
	s.t.Helper()
	app := s.db.Appender(s.t.Context())
	add := func(ls labels.Labels, t int64, v float64) {
		s.t.Helper()
		if _, err := app.Append(0, ls, t, v); err != nil {
			s.t.Fatal(err)
		}
	}
	for n := range int64(5) {
		t := epoch + (n-4)*15_000
		add(labels.FromStrings("__name__", "learning_peer_accuracy", "peer", "a", "split", "test"), t, 0.5+float64(n)/16)
		add(labels.FromStrings("__name__", "learning_peer_accuracy", "peer", "b", "split", "test"), t, 0.25+float64(n)/16)
		add(labels.FromStrings("__name__", "learning_peer_trainings_total", "peer", "a"), t, float64(n*3))
	}
	hist := labels.FromStrings("__name__", "learning_peer_training_seconds", "peer", "a")
	if _, err := app.AppendHistogram(0, hist, epoch, tsdbutil.GenerateTestHistogram(1), nil); err != nil {
		s.t.Fatal(err)
	}
	ex := exemplar.Exemplar{Labels: labels.FromStrings("round", "7"), Value: 1, Ts: epoch, HasTs: true}
	if _, err := app.AppendExemplar(0, labels.FromStrings("__name__", "learning_peer_trainings_total", "peer", "a"), ex); err != nil {
		s.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// do sends a request and returns status, header and body.
func (s *site) do(method, target string, body io.Reader, header ...string) (int, http.Header, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+target, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for n := 0; n < len(header); n += 2 {
		req.Header.Set(header[n], header[n+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

func (s *site) get(target string) (int, string) {
	s.t.Helper()
	status, _, text := s.do(http.MethodGet, target, nil)
	return status, text
}

func expect(t *testing.T, status int, body string, wantStatus int, want ...string) {
	t.Helper()
	if status != wantStatus {
		t.Errorf("got status %d, want %d: %s", status, wantStatus, body)
	}
	for _, w := range want {
		if !strings.Contains(body, w) {
			t.Errorf("answer %s\nlacks %s", body, w)
		}
	}
}

func TestLimitsAnswerWithPrometheusErrors(t *testing.T) {
	small := func(o *promapi.Options) {
		o.Engine = promql.NewEngine(promql.EngineOpts{Timeout: time.Minute, MaxSamples: 3, Parser: o.Parser})
	}
	slow := func(o *promapi.Options) {
		o.Engine = promql.NewEngine(promql.EngineOpts{Timeout: time.Nanosecond, MaxSamples: 1000, Parser: o.Parser})
	}
	at := "&time=1767225600"
	status, text := newSite(t, small).fill().get("/api/v1/query?query=learning_peer_accuracy[1m]" + at)
	expect(t, status, text, http.StatusUnprocessableEntity, `"errorType":"execution"`, "too many samples")
	status, text = newSite(t, slow).fill().get("/api/v1/query?query=learning_peer_accuracy" + at)
	expect(t, status, text, http.StatusServiceUnavailable, `"errorType":"timeout"`)
	s := newSite(t, nil).fill()
	status, text = s.get("/api/v1/query_range?query=up&start=0&end=100000&step=1")
	expect(t, status, text, http.StatusBadRequest, `"errorType":"bad_data"`, "11,000 points")
	status, text = s.get("/api/v1/query?query=up(")
	expect(t, status, text, http.StatusBadRequest, `"errorType":"bad_data"`, "parse error")
}

func TestConcurrencyLimitAnswersTimeout(t *testing.T) {
	dir := t.TempDir()
	tracker, err := promql.NewActiveQueryTracker(dir, 1, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tracker.Close() }()
	s := newSite(t, func(o *promapi.Options) {
		o.Engine = promql.NewEngine(promql.EngineOpts{Timeout: 50 * time.Millisecond, MaxSamples: 1000, ActiveQueryTracker: tracker, Parser: o.Parser})
		o.Limits.QueueTimeout = 20 * time.Millisecond
	}).fill()
	index, err := tracker.Insert(t.Context(), "the only place") // as a query that runs does
	if err != nil {
		t.Fatal(err)
	}
	status, text := s.get("/api/v1/query?query=learning_peer_accuracy")
	expect(t, status, text, http.StatusServiceUnavailable, `"errorType":"timeout"`)
	tracker.Delete(index)
	status, text = s.get("/api/v1/query?query=1")
	expect(t, status, text, http.StatusOK)
}

func TestNothingIsServedBeforeTheStoreIsOpen(t *testing.T) {
	s := newSite(t, func(o *promapi.Options) { o.Ready = func() bool { return false } })
	for _, path := range []string{"/api/v1/query?query=1", "/federate?match[]=up", "/api/v1/status/tsdb"} {
		status, text := s.get(path)
		expect(t, status, text, http.StatusServiceUnavailable, `"errorType":"unavailable"`)
	}
	status, text := s.get("/api/v1/status/walreplay")
	expect(t, status, text, http.StatusOK, `"current":3`)
}

func TestUnknownRoutesAnswerTheErrorEnvelope(t *testing.T) {
	s := newSite(t, nil)
	status, text := s.get("/api/v1/nothing/here")
	expect(t, status, text, http.StatusNotFound, `"status":"error"`, `"errorType":"not_found"`, "/api/v1/nothing/here")
	status, _, text = s.do(http.MethodDelete, "/api/v1/query", nil)
	expect(t, status, text, http.StatusMethodNotAllowed, `"status":"error"`)
}

func TestSecretsNeverShow(t *testing.T) {
	s := newSite(t, nil)
	status, text := s.get("/api/v1/status/config")
	expect(t, status, text, http.StatusOK, "job_name: peers", `password: \u003csecret\u003e`)
	if strings.Contains(text, "very-secret") {
		t.Error("the password is in the answer")
	}
}

func TestAdminIsClosedUnlessAsked(t *testing.T) {
	target := "/api/v1/admin/tsdb/delete_series?match[]=learning_peer_accuracy"
	status, _, text := newSite(t, nil).fill().do(http.MethodPost, target, nil)
	expect(t, status, text, http.StatusServiceUnavailable, "admin APIs disabled")

	s := newSite(t, func(o *promapi.Options) { o.Admin = true }).fill()
	status, _, text = s.do(http.MethodPost, target, nil)
	expect(t, status, text, http.StatusNoContent)
	status, text = s.get("/api/v1/query?query=learning_peer_accuracy&time=1767225600")
	expect(t, status, text, http.StatusOK, `"result":[]`)
	status, _, text = s.do(http.MethodPost, "/api/v1/admin/tsdb/snapshot", nil)
	expect(t, status, text, http.StatusOK, `"name":"`)
	status, _, text = s.do(http.MethodPost, "/api/v1/admin/tsdb/clean_tombstones", nil)
	expect(t, status, text, http.StatusNoContent)
}

func TestCORSFollowsTheConfiguredOrigin(t *testing.T) {
	s := newSite(t, func(o *promapi.Options) { o.Limits.CORSOrigin = "https://good.example" })
	for origin, want := range map[string]string{"https://good.example": "https://good.example", "https://bad.example": ""} {
		_, header, _ := s.do(http.MethodGet, "/api/v1/query?query=1", nil, "Origin", origin)
		if got := header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("origin %s: got %q, want %q", origin, got, want)
		}
	}
}

func TestFederate(t *testing.T) {
	s := newSite(t, nil)
	now := time.Now().UnixMilli()
	app := s.db.Appender(t.Context())
	for name, v := range map[string]float64{"a": 1, "gone": 2} {
		if _, err := app.Append(0, labels.FromStrings("__name__", name, "site", "own"), now-1000, v); err != nil {
			t.Fatal(err)
		}
	}
	stale := labels.FromStrings("__name__", "gone", "site", "own")
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	app = s.db.Appender(t.Context())
	if _, err := app.Append(0, stale, now-500, staleNaN()); err != nil {
		t.Fatal(err)
	}
	nhcb := &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 5, Sum: 9, CustomValues: []float64{1, 2},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 0, 2},
	}
	if _, err := app.AppendHistogram(0, labels.FromStrings("__name__", "custom"), now-500, nhcb, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := app.AppendHistogram(0, labels.FromStrings("__name__", "native"), now-500, tsdbutil.GenerateTestHistogram(1), nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}

	status, header, text := s.do(http.MethodGet, "/federate?match[]={__name__=~\".%2B\"}&match[]=a", nil)
	expect(t, status, text, http.StatusOK,
		"# TYPE a untyped\n", `a{site="own",cluster="shore",instance=""} 1 `,
		`custom_bucket{cluster="shore",instance="",site="42",le="1"} 1 `, `custom_bucket{cluster="shore",instance="",site="42",le="2"} 2 `,
		`custom_bucket{cluster="shore",instance="",site="42",le="+Inf"} 5 `, `custom_count{`)
	if strings.Contains(text, "gone") || strings.Contains(text, "native") || strings.Count(text, "\na{") != 1 {
		t.Errorf("got %s", text)
	}
	if !strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
		t.Errorf("content type %q", header.Get("Content-Type"))
	}
	status, header, text = s.do(http.MethodGet, "/federate?match[]=native", nil,
		"Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	expect(t, status, text, http.StatusOK, "native", "shore")
	if !strings.Contains(header.Get("Content-Type"), "delimited") {
		t.Errorf("content type %q", header.Get("Content-Type"))
	}
	status, text = s.get("/federate?match[]=a{")
	expect(t, status, text, http.StatusBadRequest, "parse error")
	status, text = s.get("/federate")
	expect(t, status, text, http.StatusOK)

	few := newSite(t, func(o *promapi.Options) { o.Storage, o.Limits.FederateSeries = s.db, 1 })
	status, text = few.get("/federate?match[]={__name__=~\".%2B\"}")
	expect(t, status, text, http.StatusUnprocessableEntity, "limit 1")
}

func staleNaN() float64 { return float64FromBits(value.StaleNaN) }

func TestMetadataOfMetricsThatAreNotScraped(t *testing.T) {
	described := map[string]metadata.Metadata{
		"learning_job_round":    {Type: model.MetricTypeGauge, Help: "current round"},
		"learning_rounds_total": {Type: model.MetricTypeCounter, Unit: "rounds", Help: "rounds"},
	}
	s := newSite(t, func(o *promapi.Options) { o.Described = maps.All(described) })
	status, text := s.get("/api/v1/metadata?metric=learning_job_round")
	expect(t, status, text, http.StatusOK, `"data":{"learning_job_round":[{"type":"gauge","unit":"","help":"current round"}]}`)
	status, text = s.get("/api/v1/metadata?limit=1")
	expect(t, status, text, http.StatusOK, "learning_job_round")
	if strings.Contains(text, "learning_rounds_total") {
		t.Errorf("limit did not cut %s", text)
	}
	status, text = s.get("/api/v1/metadata?limit=x")
	expect(t, status, text, http.StatusBadRequest, `"errorType":"bad_data"`, "limit must be a number")
}

func TestSelfMetricsAndSpecification(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newSite(t, func(o *promapi.Options) { o.Registry, o.Gatherer = registry, registry })
	status, text := s.get("/api/v1/query?query=1")
	expect(t, status, text, http.StatusOK)
	status, text = s.get("/api/v1/status/self_metrics")
	expect(t, status, text, http.StatusOK, "periplus_promapi_requests_total", `"value":"/query"`)
	status, text = s.get("/api/v1/openapi.yaml")
	expect(t, status, text, http.StatusOK, "openapi: 3.", "/query_range")
	status, text = s.get("/api/v1/notifications/live")
	expect(t, status, text, http.StatusNoContent)
}
