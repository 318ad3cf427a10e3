// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"github.com/periplus-io/periplus/internal/durable"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := durable.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// recent moves the times in a manifest by whole days, so that the newest is of yesterday: history ends at the retention.
func recent(t *testing.T, manifest []byte) (moved []byte, shift time.Duration) {
	t.Helper()
	const day = 24 * time.Hour
	times := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	var newest time.Time
	for _, m := range times.FindAll(manifest, -1) {
		at, err := time.Parse(time.RFC3339, string(m))
		if err != nil {
			t.Fatal(err)
		}
		if at.After(newest) {
			newest = at
		}
	}
	shift = time.Now().UTC().Truncate(day).Sub(newest.Truncate(day)) - day
	return times.ReplaceAllFunc(manifest, func(m []byte) []byte {
		at, _ := time.Parse(time.RFC3339, string(m))
		return []byte(at.Add(shift).Format(time.RFC3339))
	}), shift
}

func TestManifestsAreFollowed(t *testing.T) {
	example, err := os.ReadFile("../../examples/manifests/lifelong.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, shift := recent(t, example)
	dir := t.TempDir()
	writeFile(t, dir+"/job.yaml", string(example))
	hub := start(t, "up", "--manifests", dir, "--data-dir", t.TempDir())
	hub.want(`learning_job_round`, present, 2)
	hub.want(`learning_job_stage_condition == 1 and learning_job_stage_condition{stage="Eval"}`, time.Date(2026, 11, 20, 8, 55, 0, 0, time.UTC).Add(shift), 1)
	hub.want(`learning_eval_score{metric="precision",task=""}`, present, 0.78)

	// A half-written file keeps what was there, and is reported with its place.
	writeFile(t, dir+"/job.yaml", string(example[:len(example)/2])+"\n  - {")
	hub.eventually("report of the broken file", func() error {
		s, err := hub.learning().Status(t.Context())
		if err == nil && !strings.Contains(s.Kubernetes.Error, "job.yaml") {
			err = fmt.Errorf("got %+v", s.Kubernetes.Error)
		}
		return err
	})
	hub.want(`learning_job_round`, present, 2)

	// The next good one counts, and a removed one ends its series.
	writeFile(t, dir+"/job.yaml", strings.ReplaceAll(string(example), "trainProb: 0.8", "trainProb: 0.6"))
	hub.want(`learning_job_train_ratio`, present, 0.6)
	if err := os.Remove(dir + "/job.yaml"); err != nil {
		t.Fatal(err)
	}
	hub.wantNone(`{__name__=~"learning_.*"}`)
}

// push writes one sample of a series by remote write and gives an error unless it was acknowledged.
func push(url, name string, value float64, at time.Time) error {
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "job", Value: "push"}},
		Samples: []prompb.Sample{{Value: value, Timestamp: at.UnixMilli()}},
	}}}).Marshal()
	if err != nil {
		return err
	}
	resp, err := http.Post(url+"/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		body, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}

func TestAKillDuringIngestLosesNothingAcknowledged(t *testing.T) {
	data := t.TempDir()
	hub := start(t, "up", "--data-dir", data)
	begin := time.Now().Add(-time.Hour)
	acknowledged := 0
	ended := time.After(2 * time.Second)
	go func() {
		<-ended
		_ = hub.cmd.Process.Signal(syscall.SIGKILL)
	}()
	for push(hub.url, "pushed", float64(acknowledged), begin.Add(time.Duration(acknowledged)*10*time.Millisecond)) == nil {
		acknowledged++
	}
	if acknowledged < 100 {
		t.Fatalf("only %d samples were acknowledged", acknowledged)
	}
	<-hub.ended
	hub = start(t, "up", "--data-dir", data)
	got, err := hub.query(`count_over_time(pushed[2h])`, present)
	if err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	for _, n := range got {
		// The request that was cut off may be in or not.
		if int(n) != acknowledged && int(n) != acknowledged+1 {
			t.Errorf("%v samples are there, %d were acknowledged", n, acknowledged)
		}
	}
}

func TestReloadIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "periplus.yaml")
	good := "cluster: north\nrule_files: [rules.yaml]\nglobal: {evaluation_interval: 200ms}\n"
	writeFile(t, file, good)
	writeFile(t, dir+"/rules.yaml", "groups: [{name: a, rules: [{record: first, expr: vector(1)}]}]\n")
	hub := start(t, "up", "--config", file, "--data-dir", t.TempDir())
	hub.want(`first{cluster="north"}`, present, 1)

	reload := func() (int, string) {
		resp, err := http.Post(hub.url+"/-/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	writeFile(t, file, good+"scrape_configs:\n  - job_name: x\n    scrape_intervall: 5s\n")
	code, body := reload()
	if code == http.StatusOK || !strings.Contains(body, "periplus.yaml:6") || !strings.Contains(body, "scrape_intervall") {
		t.Errorf("got %d %s", code, body)
	}
	writeFile(t, file, good)
	writeFile(t, dir+"/rules.yaml", "groups: [{name: a, rules: [{record: second, expr: 'vector('}]}]\n")
	if code, body := reload(); code == http.StatusOK || !strings.Contains(body, "rules.yaml") {
		t.Errorf("got %d %s", code, body)
	}
	hub.want(`first{cluster="north"}`, present, 1)

	// SIGHUP takes the next good one.
	writeFile(t, dir+"/rules.yaml", "groups: [{name: a, rules: [{record: second, expr: vector(2)}]}]\n")
	if err := hub.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hub.want(`second{cluster="north"}`, present, 2)
	hub.wantNone(`first`)
}

func TestPeersReallyLearn(t *testing.T) {
	data := t.TempDir()
	hub := start(t, "up", "--data-dir", data)
	fleet := exec.Command(filepath.Join(binaries, "fleet"), "--peers", "3", "--python", "1", "--sd", data+"/peers/fleet.json", "--log-dir", t.TempDir())
	fleet.Dir = "../.."
	fleet.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	fleet.Stdout, fleet.Stderr = &log, &log
	if err := fleet.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = fleet.Process.Signal(syscall.SIGTERM)
		_ = fleet.Wait()
		if t.Failed() {
			t.Logf("log of the fleet:\n%s", log.String())
		}
	}()
	// Ten classes: one in ten by chance.
	hub.want(`count(learning_peer_accuracy{job="peers",split="test"} > 0.5)`, present, 3)
	hub.want(`count(increase(learning_peer_models_received_total[2m]) > 0)`, present, 3)
}

// TestOwnMetricsAreDocumented compares what a hub says of itself with docs/own-metrics.md.
func TestOwnMetricsAreDocumented(t *testing.T) {
	hub := start(t, "up", "--data-dir", t.TempDir())
	resp, err := http.Get(hub.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/own-metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (periplus_\w+) `).FindAllStringSubmatch(string(body), -1) {
		exported[m[1]] = true
	}
	if len(exported) < 20 {
		t.Fatalf("got %d metrics", len(exported))
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(periplus_\\w+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
	}
	for _, name := range keysOf(exported) {
		if !documented[name] {
			t.Errorf("%s is not in docs/own-metrics.md", name)
		}
	}
}
