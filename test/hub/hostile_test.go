// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// job is a manifest of a job with a text in it and conditions.
func job(name, text, conditions string) string {
	return fmt.Sprintf(`{"apiVersion":"sedna.io/v1alpha1","kind":"LifelongLearningJob",
"metadata":{"name":%q,"namespace":"hostile","uid":"uid-%s","creationTimestamp":"2026-01-01T00:00:00Z"},
"spec":{"dataset":{"name":"%s"}},"status":{"conditions":[%s]}}`, name, name, text, conditions)
}

func condition(stage, kind string, at time.Time) string {
	return fmt.Sprintf(`{"stage":%q,"type":%q,"status":"True","lastTransitionTime":%q}`, stage, kind, at.UTC().Format(time.RFC3339))
}

func TestBadManifestsHarmNoOther(t *testing.T) {
	dir, now := t.TempDir(), time.Now().Truncate(time.Second)
	one := condition("Train", "Waiting", now.Add(-time.Hour))
	for name, text := range map[string]string{
		"million.json":   job("million", "d", strings.Repeat(one+",", 999_999)+one),
		"long.json":      job("long", strings.Repeat("x", 10<<20), one),
		"deep.json":      strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"encoding.json":  job("encoding", "\xff\xfe", one),
		"surrogate.json": job("surrogate", `\ud800`, one),
		"ahead.json":     job("ahead", "d", condition("Train", "Waiting", now.Add(4*time.Minute))+","+condition("Train", "Running", now.Add(5*time.Minute))),
		"good.json":      job("good", "d", one),
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	hub := start(t, "up", "--manifests", dir, "--data-dir", t.TempDir())
	hub.want(`learning_job_round{job_name="good"}`, present, 1)
	hub.want(`learning_job_round{job_name="long"}`, present, 1)
	hub.want(`learning_job_round{job_name="encoding"}`, present, 1)
	hub.want(`learning_job_stage_condition{job_name="good",stage="Train",condition="Waiting"}`, now.Add(-30*time.Minute), 1)
	hub.wantNone(`{job_name="million"}`)
	if out := hub.output(); !strings.Contains(out, "million.json") || !strings.Contains(out, "max_file_size") {
		t.Errorf("the log says nothing of the million:\n%s", out)
	}
	// A clock that is five minutes behind the cluster's: what comes from the future holds now, and is counted.
	hub.want(`learning_job_stage_condition{job_name="ahead",stage="Train",condition="Running"}`, present, 1)
	if text := hub.page("/metrics"); !strings.Contains(text, "periplus_learn_skewed_conditions_total 2") || !strings.Contains(text, `periplus_watch_lost_total{reason="too_large"} 1`) {
		t.Error("the future or the million is not counted")
	}
	for line := range strings.Lines(hub.page("/metrics/state")) {
		if len(line) > 8<<10 {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
	}
}

func TestAManifestFolderGoesAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "jobs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/a.json", job("a", "d", condition("Train", "Waiting", time.Now().Add(-time.Hour))))
	hub := start(t, "up", "--manifests", dir, "--data-dir", t.TempDir())
	hub.want(`learning_job_round`, present, 1)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	hub.eventually("the fault", func() error {
		s, err := hub.learning().Status(t.Context())
		if err == nil && !strings.Contains(s.Kubernetes.Error, "no such file") {
			err = fmt.Errorf("got %+v", s.Kubernetes)
		}
		return err
	})
	hub.want(`learning_job_round`, present, 1)
	writeFile(t, dir+"-away/b.json", job("b", "d", condition("Train", "Waiting", time.Now())))
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	hub.want(`count(learning_job_round)`, present, 2)
}

func TestBadTargetsHarmNoOther(t *testing.T) {
	targets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		flush := http.NewResponseController(w)
		switch r.URL.Path {
		case "/stream":
			for i := 0; r.Context().Err() == nil; i++ {
				if _, err := fmt.Fprintf(w, "m{i=\"%d\"} 1\n", i); err != nil || flush.Flush() != nil {
					return
				}
			}
		case "/encoding":
			_, _ = io.WriteString(w, "bad{l=\"\xff\xfe\"} 1\n")
		case "/good":
			_, _ = io.WriteString(w, "good 1\n")
		}
	}))
	t.Cleanup(targets.Close)
	address := targets.Listener.Addr().String()
	file := filepath.Join(t.TempDir(), "periplus.yaml")
	text := "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
	for _, name := range []string{"stream", "encoding", "good"} {
		text += fmt.Sprintf("  - {job_name: %s, metrics_path: /%s, static_configs: [{targets: [%q]}]}\n", name, name, address)
	}
	writeFile(t, file, text)
	hub := start(t, "up", "--config", file, "--data-dir", t.TempDir())
	hub.want(`good`, present, 1)
	hub.want(`up{job="good"}`, present, 1)
	hub.want(`up{job="stream"}`, present, 0)
	hub.want(`up{job="encoding"}`, present, 0)
	if text := hub.page("/api/v1/targets"); !strings.Contains(text, "context deadline exceeded") || !strings.Contains(text, "invalid UTF-8") {
		t.Errorf("targets do not say why: %s", text)
	}

	// Reloads by the hundred, while scrapes go on.
	for range 100 {
		if err := hub.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		resp, err := http.Post(hub.url+"/-/reload", "", nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_ = resp.Body.Close()
	}
	hub.want(`good`, present, 1)
	hub.want(`min_over_time(up{job="good"}[20s])`, present, 1)
}

func TestReadersThatDoNotReadHarmNoOther(t *testing.T) {
	hub := start(t, "up", "--data-dir", t.TempDir())
	address := strings.TrimPrefix(hub.url, "http://")
	for range 300 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /api/v1/learning/events?after=0 HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	hub.eventually("the bound", func() error {
		if text := hub.page("/metrics"); !strings.Contains(text, "periplus_learnapi_streams 256") || !strings.Contains(text, `reason="too_many"} 44`) {
			return errors.New("not 256 streams and 44 refused")
		}
		return nil
	})
	hub.want("vector(1)", present, 1)
}

func TestSamplesFromTheFutureAreRefusedAlone(t *testing.T) {
	hub := start(t, "up", "--data-dir", t.TempDir())
	if err := push(hub.url, "ahead", 1, time.Now().Add(11*time.Minute)); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("11 minutes ahead: %v, want 400", err)
	}
	if err := push(hub.url, "ahead", 1, time.Now().Add(5*time.Minute)); err != nil {
		t.Errorf("5 minutes ahead: %v", err)
	}
	if err := push(hub.url, "ahead", 2, time.Now()); err != nil {
		t.Errorf("now: %v", err)
	}
	hub.want("ahead", present, 2)
	if text := hub.page("/metrics"); !strings.Contains(text, `periplus_metricdb_samples_refused_total{reason="future",writer="remote_write"} 1`) {
		t.Error("the refused sample is not counted")
	}
}

func TestQueryLimitsGiveTheErrorsOfPrometheus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "periplus.yaml")
	writeFile(t, file, "limits: {query_max_samples: 5, query_timeout: 2s}\n")
	hub := start(t, "up", "--config", file, "--data-dir", t.TempDir())
	for i := range 20 {
		if err := push(hub.url, fmt.Sprintf("limit_%d", i), 1, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		`/api/v1/query?query=count({__name__=~"limit_.*"})`:       "query processing would load too many samples into memory in query execution",
		`/api/v1/query_range?query=up&start=0&end=100000&step=1s`: "exceeded maximum resolution of 11,000 points per timeseries",
	} {
		if got := hub.page(query); !strings.Contains(got, want) {
			t.Errorf("%s gives %s", query, got)
		}
	}
}
