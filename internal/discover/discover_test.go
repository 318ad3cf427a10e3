// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package discover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"github.com/periplus-io/periplus/internal/discover"
)

func load(t *testing.T, text string) *promconfig.Config {
	t.Helper()
	cfg, err := promconfig.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func start(t *testing.T, m *discover.Mechanisms, name string) *discover.Discovery {
	t.Helper()
	d, err := discover.New(discover.Options{Name: name, Mechanisms: m, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d
}

// want reads updates until they hold these addresses.
func want(t *testing.T, d *discover.Discovery, addresses map[string][]string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	var diff string
	for {
		select {
		case u := <-d.Updates():
			if diff = cmp.Diff(addresses, flat(u)); diff == "" {
				return
			}
		case <-deadline:
			t.Fatalf("(-want +got)\n%s", diff)
		}
	}
}

func flat(u map[string][]*targetgroup.Group) map[string][]string {
	out := map[string][]string{}
	for job, groups := range u {
		out[job] = []string{}
		for _, g := range groups {
			for _, t := range g.Targets {
				out[job] = append(out[job], string(t["__address__"]))
			}
		}
		slices.Sort(out[job])
	}
	return out
}

func apply(t *testing.T, d *discover.Discovery, text string) {
	t.Helper()
	jobs, err := discover.Targets(load(t, text))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(jobs); err != nil {
		t.Fatal(err)
	}
}

func TestTargetsComeFromEveryMechanismAndFollowChanges(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := discover.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, m, "scrape")
	api := kubernetesAPI(t)
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`[{"targets": ["h:1"]}]`))
	}))
	t.Cleanup(list.Close)
	file := filepath.Join(t.TempDir(), "targets.json")
	write(t, file, `[{"targets": ["f:1", "f:2"]}]`)
	text := fmt.Sprintf(`
scrape_configs:
  - {job_name: static, static_configs: [{targets: ["s:1"]}]}
  - {job_name: file, file_sd_configs: [{files: [%q], refresh_interval: 1s}]}
  - {job_name: http, http_sd_configs: [{url: %q}]}
  - {job_name: nodes, kubernetes_sd_configs: [{role: node, api_server: %q}]}
`, file, list.URL, api)
	apply(t, d, text)
	all := map[string][]string{
		"static": {"s:1"}, "file": {"f:1", "f:2"}, "http": {"h:1"}, "nodes": {"10.0.0.7:10250"},
	}
	want(t, d, all)

	write(t, file, `[{"targets": ["f:3"]}]`)
	all["file"] = []string{"f:3"}
	want(t, d, all)

	apply(t, d, `scrape_configs: [{job_name: static, static_configs: [{targets: ["s:2"]}]}]`)
	want(t, d, map[string][]string{"static": {"s:2"}})
}

func TestTwoDiscoveriesShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := discover.Register(reg)
	if err != nil {
		t.Fatal(err)
	}
	start(t, m, "scrape")
	notify := start(t, m, "notify")
	cfg := load(t, `alerting: {alertmanagers: [{static_configs: [{targets: ["am:9093"]}]}]}`)
	if err := notify.Apply(discover.Alertmanagers(cfg)); err != nil {
		t.Fatal(err)
	}
	want(t, notify, map[string][]string{"config-0": {"am:9093"}})
	if _, err := discover.New(discover.Options{Name: "notify", Mechanisms: m, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a second discovery of the same name: got no error")
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

// TestUnreachableMechanismHurtsNobody: what cannot be asked gives nothing, the others give theirs.
func TestUnreachableMechanismHurtsNobody(t *testing.T) {
	m, err := discover.Register(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, m, "scrape")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	_ = l.Close()
	apply(t, d, fmt.Sprintf(`
scrape_configs:
  - {job_name: dead, http_sd_configs: [{url: %q}], kubernetes_sd_configs: [{role: pod, api_server: %q}]}
  - {job_name: missing, file_sd_configs: [{files: [/does/not/exist/*.json]}]}
  - {job_name: static, static_configs: [{targets: ["s:1"]}]}
`, dead, dead))
	want(t, d, map[string][]string{"dead": {}, "missing": {}, "static": {"s:1"}})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// kubernetesAPI serves one node the way an API server does that knows no streaming lists. (test/kube has a real one.)
func kubernetesAPI(t *testing.T) string {
	t.Helper()
	node := map[string]any{
		"metadata": map[string]any{"name": "edge-7", "resourceVersion": "1"},
		"status": map[string]any{
			"addresses":       []any{map[string]any{"type": "InternalIP", "address": "10.0.0.7"}},
			"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": 10250}},
		},
	}
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case q.Get("sendInitialEvents") != "":
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`, http.StatusUnprocessableEntity)
		case q.Get("watch") != "":
			w.Header().Set("Content-Type", "application/json")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		case strings.HasSuffix(r.URL.Path, "/nodes"):
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{
				"kind": "NodeList", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{node},
			})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(func() { close(stop); srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}
