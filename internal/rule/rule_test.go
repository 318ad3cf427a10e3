// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package rule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/file" // so that configurations with it load
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"go.uber.org/goleak"

	"github.com/periplus-io/periplus/internal/rule"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

// bench is a ruler on a real store.
type bench struct {
	t        *testing.T
	dir      string
	ruler    *rule.Ruler
	engine   *promql.Engine
	db       *tsdb.DB
	registry *prometheus.Registry
	targets  chan map[string][]*targetgroup.Group
}

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, dir: t.TempDir(), db: db, registry: prometheus.NewRegistry(), targets: make(chan map[string][]*targetgroup.Group)}
	p := parser.NewParser(parser.Options{})
	b.engine = promql.NewEngine(promql.EngineOpts{Timeout: time.Minute, MaxSamples: 10_000, Parser: p})
	limits := rule.DefaultConfig()
	limits.ResendDelay = time.Second
	b.ruler, err = rule.New(rule.Options{
		Log: slog.New(slog.DiscardHandler), Registry: b.registry, Engine: b.engine, Parser: p, Queryable: db, Appendable: db,
		ExternalURL: &url.URL{Scheme: "http", Host: "hub.example"}, Targets: b.targets, Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // the clean-up waits for the end
	done := make(chan error)
	go func() { done <- b.ruler.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// apply writes files and applies a configuration that stands beside them.
func (b *bench) apply(text string, files map[string]string) error {
	b.t.Helper()
	return b.ruler.Apply(b.load(text, files))
}

func (b *bench) load(text string, files map[string]string) *config.Config {
	b.t.Helper()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	file := filepath.Join(b.dir, "hub.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cfg, err := config.LoadFile(file, false, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg
}

// value evaluates an expression to one number; false when it selects nothing.
func (b *bench) value(expr string) (float64, bool) {
	b.t.Helper()
	q, err := b.engine.NewInstantQuery(b.t.Context(), b.db, nil, expr, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	defer q.Close()
	v, err := q.Exec(b.t.Context()).Vector()
	if err != nil {
		b.t.Fatal(err)
	}
	if len(v) == 0 {
		return 0, false
	}
	return v[0].F, true
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for err := f(); err != nil; err = f() {
		select {
		case <-deadline.C:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

const twoRules = `
groups:
  - name: learning
    interval: 100ms
    rules:
      - {record: "learning:round:next", expr: vector(6) + 1}
      - {alert: Stuck, expr: vector(1), labels: {severity: warn}, annotations: {summary: "in {{ $externalLabels.cluster }}"}}
`

func TestRulesRecordAndRaise(t *testing.T) {
	b := newBench(t)
	if err := b.apply("global: {external_labels: {cluster: shore}}\nrule_files: [rules.yml]\n", map[string]string{"rules.yml": twoRules}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if v, ok := b.value("learning:round:next"); !ok || v != 7 {
			return fmt.Errorf("recorded %v %v, want 7", v, ok)
		}
		if v, ok := b.value(`ALERTS{alertname="Stuck",alertstate="firing",severity="warn"}`); !ok || v != 1 {
			return fmt.Errorf("alert %v %v, want 1", v, ok)
		}
		return nil
	})
	if n := len(b.ruler.RuleGroups()); n != 1 {
		t.Errorf("got %d groups, want 1", n)
	}
	if got := testutil.ToFloat64(gauge(t, b.registry, "periplus_rule_rules")); got != 2 {
		t.Errorf("got %v rules, want 2", got)
	}
}

// gauge finds a gauge by name and gives it as a collector of its value.
func gauge(t *testing.T, registry *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "copy"})
	for _, f := range families {
		if f.GetName() == name {
			g.Set(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return g
}

// A fault in one file leaves every rule as it was, and names file, line and rule.
func TestReloadIsAllOrNothing(t *testing.T) {
	b := newBench(t)
	cfg := "rule_files: ['*.rules']\nglobal: {external_labels: {cluster: shore}}\n"
	if err := b.apply(cfg, map[string]string{"a.rules": twoRules}); err != nil {
		t.Fatal(err)
	}
	before := b.ruler.RuleGroups()[0]
	good := "groups: [{name: other, rules: [{record: x, expr: vector(1)}]}]\n"
	tests := map[string]struct{ text, want string }{
		"expression":  {"groups:\n  - name: g\n    rules:\n      - record: x\n        expr: sum(\n", "b.rules"},
		"line":        {"groups:\n  - name: g\n    rules:\n      - record: x\n        expr: sum(\n", "5:15"},
		"unknown key": {"groups: [{name: g, rulez: []}]\n", "rulez"},
		"group twice": {"groups: [{name: g}, {name: g}]\n", "repeated"},
		"template":    {"groups: [{name: g, rules: [{alert: A, expr: vector(1), annotations: {s: '{{ .Nope '}}]}]\n", "template"},
		"metric name": {"groups: [{name: g, rules: [{record: '', expr: vector(1)}]}]\n", "record"},
		"no yaml":     {"\t", "b.rules"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := b.apply(cfg, map[string]string{"b.rules": test.text, "c.rules": good})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q in it", err, test.want)
			}
			if groups := b.ruler.RuleGroups(); len(groups) != 1 || groups[0] != before {
				t.Errorf("the groups changed: %v", groups)
			}
		})
	}
	if err := b.apply(cfg, map[string]string{"b.rules": good, "c.rules": "groups: []\n"}); err != nil {
		t.Fatal(err)
	}
	if groups := b.ruler.RuleGroups(); len(groups) != 2 || groups[0] != before {
		t.Errorf("got %v, want the old group as it was and a new one", groups)
	}
}

func TestMissingRuleFileIsAnErrorAndAnEmptyPatternIsNot(t *testing.T) {
	b := newBench(t)
	if err := b.apply("rule_files: [nowhere.yml]\n", nil); err == nil || !strings.Contains(err.Error(), "nowhere.yml") {
		t.Errorf("got %v", err)
	}
	if err := b.apply("rule_files: ['none/*.yml']\n", nil); err != nil {
		t.Errorf("got %v", err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yml")
	if err := os.WriteFile(bad, []byte("groups: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := rule.CheckFile(bad); len(errs) == 0 {
		t.Error("CheckFile found no fault")
	}
}

// A rule that is taken away ends its series at once.
func TestRemovedRuleEndsItsSeries(t *testing.T) {
	b := newBench(t)
	if err := b.apply("rule_files: [rules.yml]\n", map[string]string{"rules.yml": twoRules}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, ok := b.value("learning:round:next"); !ok {
			return fmt.Errorf("not recorded")
		}
		return nil
	})
	if err := b.apply("", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if v, ok := b.value("learning:round:next"); ok {
			return fmt.Errorf("still %v", v)
		}
		return nil
	})
}

// inbox is an Alertmanager that keeps what it is sent.
type inbox struct {
	mu     sync.Mutex
	alerts []map[string]any
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var got []map[string]any
	if err := json.NewDecoder(req.Body).Decode(&got); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.alerts = append(i.alerts, got...)
}

func (i *inbox) all() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	text, _ := json.Marshal(i.alerts) // of what was unmarshalled
	return string(text)
}

// Alerts carry external labels after relabelling and reach whom discovery names, and nobody whom relabelling
// drops.
func TestAlertsReachTheDiscovered(t *testing.T) {
	b := newBench(t)
	kept, dropped := &inbox{}, &inbox{}
	keptServer, droppedServer := httptest.NewServer(kept), httptest.NewServer(dropped)
	defer keptServer.Close()
	defer droppedServer.Close()
	cfg := b.load(`
global: {external_labels: {cluster: shore, replica: "2"}}
rule_files: [rules.yml]
alerting:
  alert_relabel_configs: [{action: labeldrop, regex: replica}]
  alertmanagers:
    - file_sd_configs: [{files: [am.json]}]
      relabel_configs: [{source_labels: [role], regex: spare, action: drop}]
`, map[string]string{"rules.yml": twoRules})
	if err := b.ruler.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	host := func(s *httptest.Server) model.LabelValue {
		return model.LabelValue(strings.TrimPrefix(s.URL, "http://"))
	}
	for key := range cfg.AlertingConfig.AlertmanagerConfigs.ToMap() {
		b.targets <- map[string][]*targetgroup.Group{key: {{Targets: []model.LabelSet{
			{model.AddressLabel: host(keptServer)}, {model.AddressLabel: host(droppedServer), "role": "spare"},
		}}}}
	}
	eventually(t, func() error {
		text := kept.all()
		for _, want := range []string{`"alertname":"Stuck"`, `"cluster":"shore"`, `"summary":"in shore"`, "http://hub.example/graph"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("alerts %s lack %s", text, want)
			}
		}
		return nil
	})
	if strings.Contains(kept.all(), "replica") || dropped.all() != "null" {
		t.Errorf("kept %s, dropped %s", kept.all(), dropped.all())
	}
	if n, d := len(b.ruler.Alertmanagers()), len(b.ruler.DroppedAlertmanagers()); n != 1 || d != 1 {
		t.Errorf("got %d Alertmanagers and %d dropped, want 1 and 1", n, d)
	}
}
