// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
	"go.uber.org/goleak"

	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

func TestMain(m *testing.M) {
	if dir := childDir(); dir != "" {
		appendUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// db is an open store that runs until stop.
type db struct {
	*metricdb.DB
	reg  *prometheus.Registry
	stop func()
}

func open(t testing.TB, dir string, change ...func(*metricdb.Options)) *db {
	t.Helper()
	d := &db{reg: prometheus.NewRegistry()}
	o := metricdb.Options{
		Dir: dir, Log: slog.New(slog.DiscardHandler), Registry: d.reg,
		MinFree: 1 << 20, BackfillDelay: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if d.DB, err = metricdb.Open(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(d.stop)
	return d
}

func (d *db) query(t testing.TB, q string, at time.Time) promql.Vector {
	t.Helper()
	query, err := d.Engine().NewInstantQuery(t.Context(), d.Queryable(), nil, q, at)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	res := query.Exec(t.Context())
	v, err := res.Vector()
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return append(promql.Vector(nil), v...)
}

// value is the single value of q, or "none".
func (d *db) value(t testing.TB, q string, at time.Time) string {
	t.Helper()
	v := d.query(t, q, at)
	if len(v) == 0 {
		return "none"
	}
	return fmt.Sprint(v[0].F)
}

func (d *db) counter(t testing.TB, name string, want ...string) float64 {
	t.Helper()
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if i >= len(want) || l.GetValue() != want[i] {
					continue next
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

// eventually polls until ok or half a minute has passed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within half a minute", what)
		case <-tick.C:
		}
	}
}

func named(name string) labels.Labels { return labels.FromStrings("__name__", name) }

func TestFutureSampleIsRefusedAndTheOthersTaken(t *testing.T) {
	d := open(t, t.TempDir())
	now := time.Now()
	future := now.Add(11 * time.Minute).UnixMilli()
	app := d.Appendable("remote_write").Appender(t.Context())
	if _, err := app.Append(0, named("a"), future, 1); !errors.Is(err, storage.ErrOutOfBounds) || !errors.Is(err, metricdb.ErrFuture) {
		t.Errorf("Append: %v", err)
	}
	h := &histogram.FloatHistogram{Count: 1, Sum: 1, ZeroCount: 1}
	if _, err := app.AppendHistogram(0, named("h"), future, nil, h); !errors.Is(err, storage.ErrOutOfBounds) {
		t.Errorf("AppendHistogram: %v", err)
	}
	ref, err := app.Append(0, named("b"), now.UnixMilli(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.AppendSTZeroSample(ref, named("b"), now.UnixMilli(), future); !errors.Is(err, storage.ErrOutOfBounds) {
		t.Errorf("AppendSTZeroSample: %v", err)
	}
	if _, err := app.AppendExemplar(ref, named("b"), exemplar.Exemplar{Ts: future, HasTs: true}); !errors.Is(err, storage.ErrOutOfBounds) {
		t.Errorf("AppendExemplar: %v", err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	v2 := d.Appendable("otlp").AppenderV2(t.Context())
	if _, err := v2.Append(0, named("a"), 0, future, 1, nil, nil, storage.AppendV2Options{}); !errors.Is(err, storage.ErrOutOfBounds) {
		t.Errorf("AppenderV2: %v", err)
	}
	if _, err := v2.Append(0, named("c"), 0, now.UnixMilli(), 3, nil, nil, storage.AppendV2Options{
		Exemplars: []exemplar.Exemplar{{Labels: labels.FromStrings("id", "1"), Ts: now.UnixMilli(), HasTs: true}, {Labels: labels.FromStrings("id", "2"), Ts: future, HasTs: true}},
	}); err != nil {
		t.Error(err)
	}
	if err := v2.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := d.value(t, "b", now) + " " + d.value(t, "c", now) + " " + d.value(t, "a", now.Add(12*time.Minute)); got != "2 3 none" {
		t.Errorf("values %s", got)
	}
	const refused = "periplus_metricdb_samples_refused_total"
	if rw, otlp := d.counter(t, refused, "future", "remote_write"), d.counter(t, refused, "future", "otlp"); rw != 2 || otlp != 1 {
		t.Errorf("refused %g and %g, want 2 and 1", rw, otlp)
	}
	q, err := d.Exemplars().ExemplarQuerier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ex, err := q.Select(0, now.Add(time.Hour).UnixMilli(), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "c")})
	if err != nil || len(ex) != 1 || len(ex[0].Exemplars) != 1 {
		t.Errorf("exemplars %v, %v", ex, err)
	}
}

func TestEngineRefusalsAreCounted(t *testing.T) {
	d := open(t, t.TempDir())
	now := time.Now().UnixMilli()
	app := d.Appendable("scrape").Appender(t.Context())
	for _, s := range []struct {
		t int64
		v float64
	}{{now, 1}, {now - 9*24*3600*1000, 1}} {
		_, _ = app.Append(0, named("a"), s.t, s.v)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	app = d.Appendable("scrape").Appender(t.Context())
	if _, err := app.Append(0, named("a"), now, 2); !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
		t.Errorf("second value for one time: %v", err)
	}
	if _, err := app.Append(0, labels.EmptyLabels(), now, 2); err == nil {
		t.Error("sample without labels was taken")
	}
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"too_old", "duplicate", "invalid"} {
		if got := d.counter(t, "periplus_metricdb_samples_refused_total", reason, "scrape"); got != 1 {
			t.Errorf("%s: %g, want 1", reason, got)
		}
	}
	if got := d.counter(t, "periplus_metricdb_samples_appended_total", "scrape"); got != 1 {
		t.Errorf("appended %g, want 1", got)
	}
}

func TestClusterLabelIsAdded(t *testing.T) {
	settings := metricdb.DefaultSettings()
	settings.Cluster = "north"
	d := open(t, t.TempDir(), func(o *metricdb.Options) { o.Settings = settings })
	now := time.Now()
	app := d.Appendable("scrape").Appender(t.Context())
	ref, err := app.Append(0, named("a"), now.UnixMilli(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Append(ref, named("a"), now.UnixMilli()+1, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := app.Append(0, labels.FromStrings("__name__", "b", "cluster", "south"), now.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	at := now.Add(time.Second)
	if got := d.value(t, `a{cluster="north"}`, at) + d.value(t, `b{cluster="south"}`, at); got != "21" {
		t.Errorf("got %s", got)
	}
	settings.Cluster = ""
	if err := d.Apply(&promconfig.Config{}, settings); err != nil {
		t.Fatal(err)
	}
	d.put(t, "c", now, 5)
	if got := d.value(t, `c{cluster="north"}`, at); got != "5" {
		t.Errorf("the label changed while writers hold references: %s", got)
	}
}

func TestApplyKeepsTheWindowAndExemplars(t *testing.T) {
	d := open(t, t.TempDir())
	now := time.Now()
	put := func(at time.Time) error {
		app := d.Appendable("scrape").Appender(t.Context())
		_, err := app.Append(0, named("a"), at.UnixMilli(), 1)
		return errors.Join(err, app.Commit())
	}
	if err := put(now); err != nil {
		t.Fatal(err)
	}
	cfg, err := promconfig.Load("global:\n  scrape_interval: 10s\n", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Apply(cfg, metricdb.DefaultSettings()); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(now.Add(-7 * 24 * time.Hour)); err != nil {
		t.Errorf("seven days behind: %v", err)
	}
	bad := metricdb.DefaultSettings()
	bad.Retention.Time = 1
	if err := d.Apply(cfg, bad); err == nil {
		t.Error("bad settings were applied")
	}
	if got := time.Duration(d.Status().Retention.Time); got != 30*24*time.Hour {
		t.Errorf("retention %s", got)
	}
}

func TestWindowOfTheFileRulesBackfillToo(t *testing.T) {
	d := open(t, t.TempDir())
	cfg, err := promconfig.Load("storage: {tsdb: {out_of_order_time_window: 3h}}\n", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(cfg, metricdb.DefaultSettings()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d.put(t, "a", now, 1)
	for _, age := range []time.Duration{2 * time.Hour, 170 * time.Minute, 3 * time.Hour, 5 * 24 * time.Hour} {
		if err := d.KeepStore().Backfill(t.Context(), []wire.Sample{{Labels: named("old"), Time: now.Add(-age).UnixMilli(), Value: 1}}); err != nil {
			t.Errorf("%s ago: %v", age, err)
		}
	}
	eventually(t, "all of them", func() bool { return d.value(t, "count_over_time(old[6d])", now) == "4" })
}

func TestAdmin(t *testing.T) {
	d := open(t, t.TempDir())
	now := time.Now()
	d.put(t, "a", now, 1)
	d.put(t, "b", now, 1)
	var admin apiv1.TSDBAdminStats = d.Admin()
	stats, err := admin.Stats("__name__", 10)
	if err != nil || stats.NumSeries != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	if err := admin.Delete(t.Context(), 0, now.UnixMilli(), labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "snapshot")
	if err := errors.Join(admin.CleanTombstones(), admin.Snapshot(dir, true)); err != nil {
		t.Error(err)
	}
	if got := d.value(t, "a", now) + d.value(t, "b", now); got != "none1" {
		t.Errorf("after the deletion: %s", got)
	}
	copied := open(t, dir)
	if got := copied.value(t, "a", now) + copied.value(t, "b", now); got != "none1" {
		t.Errorf("in the snapshot: %s", got)
	}
	if s := d.Status(); s.Series != 2 || s.Full || s.FreeBytes == 0 || s.HeadBytes == 0 {
		t.Errorf("status %+v", s)
	}
}

func TestSeriesLimit(t *testing.T) {
	settings := metricdb.DefaultSettings()
	settings.Limits.Series = 2
	dir := t.TempDir()
	d := open(t, dir, func(o *metricdb.Options) { o.Settings = settings })
	app := d.Appendable("scrape").Appender(t.Context())
	var refused int
	for i := range 4 {
		if _, err := app.Append(0, named(fmt.Sprint("s", i)), time.Now().UnixMilli(), 1); errors.Is(err, storage.ErrOutOfBounds) {
			refused++
		}
	}
	if err := app.Commit(); err != nil || refused != 2 {
		t.Errorf("%d refused, %v", refused, err)
	}
	d.stop()
	d = open(t, dir, func(o *metricdb.Options) { o.Settings = settings })
	app = d.Appendable("scrape").Appender(t.Context())
	if _, err := app.Append(0, named("s9"), time.Now().UnixMilli(), 1); !errors.Is(err, metricdb.ErrTooManySeries) {
		t.Errorf("after a restart: %v", err)
	}
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := d.counter(t, "periplus_metricdb_samples_refused_total", "series_limit", "scrape"); got != 1 {
		t.Errorf("counted %g", got)
	}
}

func TestOpenFailsWithAReason(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := metricdb.DefaultSettings()
	bad.Limits.QueryConcurrency = -1
	log := slog.New(slog.DiscardHandler)
	for name, o := range map[string]metricdb.Options{
		"nothing":  {},
		"file":     {Dir: file, Log: log, Registry: prometheus.NewRegistry()},
		"settings": {Dir: t.TempDir(), Log: log, Registry: prometheus.NewRegistry(), Settings: bad},
	} {
		if d, err := metricdb.Open(o); err == nil {
			t.Errorf("%s: opened %v", name, d.Close())
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := metricdb.Open(metricdb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), MinFree: 1}); err == nil {
		t.Error("a second Open of the same folder worked")
	}
}

func TestSettingsReportEveryFault(t *testing.T) {
	bad := metricdb.Settings{Cluster: "\xff", Retention: metricdb.Retention{Time: 1, Size: -1}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"cluster:", "retention: time must", "size must", "query_timeout must", "query_max_samples must", "query_concurrency must", "query_lookback must"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	if err := metricdb.DefaultSettings().Validate(); err != nil {
		t.Error(err)
	}
}

func TestQueryLimits(t *testing.T) {
	settings := metricdb.DefaultSettings()
	settings.Limits.QueryMaxSamples = 3
	d := open(t, t.TempDir(), func(o *metricdb.Options) { o.Settings = settings })
	for i := range 5 {
		d.put(t, fmt.Sprint("s", i), time.Now(), 1)
	}
	q, err := d.Engine().NewInstantQuery(t.Context(), d.Queryable(), nil, `{__name__=~"s."}`, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var tooMany promql.ErrTooManySamples
	if err := q.Exec(t.Context()).Err; !errors.As(err, &tooMany) {
		t.Errorf("got %v", err)
	}
}
