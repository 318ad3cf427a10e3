// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/periplus-io/periplus/internal/rule"
)

// pushV1 sends one sample of value 1 per name by remote write 1.0.
func pushV1(ctx context.Context, t *testing.T, url string, samples map[string]time.Time) (int, string) {
	t.Helper()
	req := &prompb.WriteRequest{}
	for name, at := range samples {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: name}},
			Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: 1}},
		})
	}
	message, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/write", bytes.NewReader(snappy.Encode(nil, message)))
	if err != nil {
		t.Fatal(err)
	}
	post.Header.Set("Content-Type", "application/x-protobuf")
	post.Header.Set("Content-Encoding", "snappy")
	resp, err := http.DefaultTransport.RoundTrip(post)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// alertmanager runs Debian's Alertmanager with a receiver that keeps everything to itself.
func alertmanager(t *testing.T) string {
	t.Helper()
	path := debian(t, "prometheus-alertmanager")
	dir, address := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "http://"+address+"/-/ready", path, "--config.file="+file, "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--cluster.listen-address=")
	return address
}

const stuckRule = `
groups:
  - name: learning
    interval: 1s
    rules:
      - {record: "learning:stage:stuck", expr: learning_job_stage_since_seconds > 0}
      - alert: StageStuck
        expr: learning:stage:stuck > 0
        labels: {severity: warn}
        annotations: {summary: "{{ $labels.job_name }} is stuck in {{ $externalLabels.cluster }}"}
`

// An alert reaches a real Alertmanager found by file discovery, with external labels, relabelling and the
// generator's URL, and is seen resolved when its cause is gone.
func TestAlertmanagerSeesAlertFireAndResolve(t *testing.T) {
	am := alertmanager(t)
	dir := t.TempDir()
	s := newSite(t, siteOptions{
		dir: dir,
		config: `
global: {evaluation_interval: 1s, external_labels: {cluster: shore, replica: "1"}}
rule_files: [rules.yml]
alerting:
  alert_relabel_configs: [{action: labeldrop, regex: replica}]
  alertmanagers: [{file_sd_configs: [{files: [am.json], refresh_interval: 1s}]}]
`,
		files: map[string]string{"rules.yml": stuckRule, "am.json": fmt.Sprintf(`[{"targets": [%q]}]`, am)},
		rules: rule.Config{OutageTolerance: time.Hour, GracePeriod: time.Second, ResendDelay: time.Second, Concurrency: 4, Queue: 100, Drain: true},
	})
	eventually(t, 30*time.Second, func() error {
		_, text, err := get(t, s.url+"/api/v1/alertmanagers")
		if err == nil && !strings.Contains(text, am) {
			err = fmt.Errorf("alertmanagers: %s", text)
		}
		return err
	})
	s.add(1, "__name__", "learning_job_stage_since_seconds", "job_name", "lifelong-1")
	alerts := func(query string) string {
		_, text, err := get(t, "http://"+am+"/api/v2/alerts?"+query)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	wants := []string{`"alertname":"StageStuck"`, `"cluster":"shore"`, `"severity":"warn"`, "lifelong-1 is stuck in shore", s.url + "/graph?g0.expr="}
	eventually(t, 30*time.Second, func() error {
		text := alerts("active=true")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				return fmt.Errorf("alerts %s lack %s", text, want)
			}
		}
		return nil
	})
	if text := alerts(""); strings.Contains(text, "replica") {
		t.Errorf("relabelling did not drop replica: %s", text)
	}
	// Its cause is gone: Alertmanager drops a resolved alert from its list at once.
	s.add(0, "__name__", "learning_job_stage_since_seconds", "job_name", "lifelong-1")
	eventually(t, 30*time.Second, func() error {
		if text := alerts(""); strings.TrimSpace(text) != "[]" {
			return fmt.Errorf("still there: %s", text)
		}
		return nil
	})
}

// The clock of a pending alert goes on over a restart.
func TestPendingAlertContinuesAfterRestart(t *testing.T) {
	o := siteOptions{
		dir:    t.TempDir(),
		config: "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n",
		files: map[string]string{"rules.yml": `
groups:
  - name: learning
    interval: 1s
    rules: [{alert: StageStuck, expr: "vector(1)", for: 2h}]
`},
		rules: rule.Config{OutageTolerance: time.Hour, GracePeriod: time.Second, ResendDelay: time.Second, Concurrency: 4, Queue: 100, Drain: true},
	}
	activeAt := func(s *site) time.Time {
		t.Helper()
		var at time.Time
		eventually(t, 30*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			found, err := client(t, s.url).Alerts(ctx)
			if err != nil {
				return err
			}
			if len(found.Alerts) != 1 || found.Alerts[0].State != "pending" {
				return fmt.Errorf("alerts %v", found.Alerts)
			}
			at = found.Alerts[0].ActiveAt
			return nil
		})
		return at
	}
	first := newSite(t, o)
	before := activeAt(first)
	eventually(t, 30*time.Second, present(t, first.url, `ALERTS_FOR_STATE{alertname="StageStuck"}`))
	first.stop()

	second := newSite(t, o)
	eventually(t, 30*time.Second, func() error {
		// A moment of being away is added to the clock, no more.
		if after := activeAt(second); after.Sub(before).Abs() > 5*time.Second || after.Sub(before) > time.Since(before)-time.Second {
			return fmt.Errorf("pending since %s, before the restart since %s", after, before)
		}
		return nil
	})
}
