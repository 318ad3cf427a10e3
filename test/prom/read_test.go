// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

func TestPromtoolQueriesChecksAndPushes(t *testing.T) {
	tool := promtool(t)
	s := newSite(t, siteOptions{})
	s.add(0.5, "__name__", "learning_peer_accuracy", "peer", "a")
	out := runTool(t, tool, "query", "instant", s.url, "learning_peer_accuracy")
	mustContain(t, out, `learning_peer_accuracy{peer="a"} => 0.5`)
	out = runTool(t, tool, "query", "range", s.url, "learning_peer_accuracy")
	mustContain(t, out, `learning_peer_accuracy{peer="a"} =>`)
	out = runTool(t, tool, "query", "series", "--match=learning_peer_accuracy", s.url)
	mustContain(t, out, `peer="a"`)
	out = runTool(t, tool, "query", "labels", s.url, "peer")
	mustContain(t, out, "a\n")

	dir := t.TempDir()
	text := filepath.Join(dir, "metrics.txt")
	if err := os.WriteFile(text, []byte("# TYPE pushed gauge\npushed{peer=\"b\"} 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, tool, "push", "metrics", "--label=via=promtool", s.url, text)
	eventually(t, 10*time.Second, value(t, s.url, `pushed{peer="b",via="promtool"}`, 7))

	rules := filepath.Join(dir, "rules.yml")
	if err := os.WriteFile(rules, []byte("groups: [{name: g, rules: [{record: 'job:x:sum', expr: sum(x)}]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustContain(t, runTool(t, tool, "check", "rules", rules), "SUCCESS: 1 rules found")
}

func TestAPIClientReadsEveryRoute(t *testing.T) {
	s := newSite(t, siteOptions{
		config: "global: {external_labels: {cluster: shore}, evaluation_interval: 1s}\nrule_files: [rules.yml]\n",
		files:  map[string]string{"rules.yml": "groups: [{name: g, rules: [{record: one, expr: vector(1)}, {alert: Always, expr: vector(1)}]}]\n"},
	})
	s.add(0.5, "__name__", "learning_peer_accuracy", "peer", "a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := client(t, s.url)
	now := time.Now()
	calls := map[string]func() (any, error){
		"query": func() (any, error) { v, _, err := c.Query(ctx, "learning_peer_accuracy", now); return v, err },
		"query range": func() (any, error) {
			v, _, err := c.QueryRange(ctx, "learning_peer_accuracy", promv1.Range{Start: now.Add(-time.Minute), End: now.Add(time.Second), Step: time.Second})
			return v, err
		},
		"series": func() (any, error) {
			v, _, err := c.Series(ctx, []string{"learning_peer_accuracy"}, now.Add(-time.Hour), now)
			return v, err
		},
		"label names": func() (any, error) { v, _, err := c.LabelNames(ctx, nil, now.Add(-time.Hour), now); return v, err },
		"label values": func() (any, error) {
			v, _, err := c.LabelValues(ctx, "peer", nil, now.Add(-time.Hour), now)
			return v, err
		},
		"config":  func() (any, error) { return c.Config(ctx) },
		"runtime": func() (any, error) { return c.Runtimeinfo(ctx) },
		"build":   func() (any, error) { return c.Buildinfo(ctx) },
		"tsdb":    func() (any, error) { return c.TSDB(ctx) },
	}
	for name, call := range calls {
		v, err := call()
		if err != nil || fmt.Sprint(v) == "" || fmt.Sprint(v) == "[]" {
			t.Errorf("%s: got %v %v", name, v, err)
		}
	}
	empty := map[string]func() (any, error){
		"flags":           func() (any, error) { return c.Flags(ctx) },
		"targets":         func() (any, error) { return c.Targets(ctx) },
		"target metadata": func() (any, error) { return c.TargetsMetadata(ctx, "", "", "") },
		"metadata":        func() (any, error) { return c.Metadata(ctx, "", "") },
		"alertmanagers":   func() (any, error) { return c.AlertManagers(ctx) },
		"wal replay":      func() (any, error) { return c.WalReplay(ctx) },
		"exemplars":       func() (any, error) { return c.QueryExemplars(ctx, "learning_peer_accuracy", now.Add(-time.Hour), now) },
	}
	for name, call := range empty {
		if v, err := call(); err != nil {
			t.Errorf("%s: got %v %v", name, v, err)
		}
	}
	if _, err := c.Snapshot(ctx, false); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("snapshot: got %v", err)
	}
	eventually(t, 30*time.Second, func() error {
		alerts, err := c.Alerts(ctx)
		if err == nil && len(alerts.Alerts) != 1 {
			err = fmt.Errorf("alerts %v", alerts)
		}
		return err
	})
	rules, err := c.Rules(ctx, nil)
	if err != nil || len(rules.Groups) != 1 || len(rules.Groups[0].Rules) != 2 {
		t.Errorf("rules: got %v %v", rules, err)
	}
	eventually(t, 30*time.Second, value(t, s.url, "one", 1))
	if status, text, err := get(t, s.url+"/api/v1/search/metric_names?search[]=accuracy"); err != nil || status != 200 || !strings.Contains(text, "learning_peer_accuracy") {
		t.Errorf("search: got %d %s %v", status, text, err)
	}
}

// A Prometheus scrapes /federate, native histograms included where it negotiates protobuf.
func TestFederationByPrometheus(t *testing.T) {
	s := newSite(t, siteOptions{config: "global: {external_labels: {cluster: shore}}\n"})
	s.add(0.5, "__name__", "learning_peer_accuracy", "peer", "a", "instance", "own:1", "job", "peers")
	app := s.db.Appendable("state").Appender(t.Context())
	ls := labels.FromStrings("__name__", "learning_peer_training_seconds", "peer", "a")
	if _, err := app.AppendHistogram(0, ls, time.Now().UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	upper := prometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: federate
    honor_labels: true
    metrics_path: /federate
    params: {"match[]": ['{__name__=~"learning_.*"}']}
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(s.url, "http://")), "--enable-feature=native-histograms")
	eventually(t, 30*time.Second, value(t, upper, `learning_peer_accuracy{peer="a",instance="own:1",job="peers",cluster="shore"}`, 0.5))
	eventually(t, 30*time.Second, value(t, upper, `histogram_count(learning_peer_training_seconds{cluster="shore"})`, 21))
}

func TestRemoteReadByPrometheus(t *testing.T) {
	s := newSite(t, siteOptions{config: "global: {external_labels: {cluster: shore}}\n"})
	s.add(0.5, "__name__", "learning_peer_accuracy", "peer", "a")
	upper := prometheus(t, fmt.Sprintf("remote_read: [{url: %q, read_recent: true}]\n", s.url+"/api/v1/read"))
	eventually(t, 30*time.Second, value(t, upper, "learning_peer_accuracy", 0.5))
	out, err := instant(t, upper, "count_over_time(learning_peer_accuracy[5m])")
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, out, "=> 1 @")
}
