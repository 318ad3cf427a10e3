// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/test/kube"
)

var (
	nodes = flag.Int("nodes", 200, "simulated nodes")
	pods  = flag.Int("pods", 2000, "simulated pods")
)

// TestNodesAndPodsWithTheMinimalRole watches simulated nodes and pods as a hub with the shipped role
// would, and reads their kubelets' metrics directly and through the API server.
func TestNodesAndPodsWithTheMinimalRole(t *testing.T) {
	role, err := os.ReadFile(filepath.Join("..", "..", "deploy", "rbac", "clusterrole.yaml"))
	must(t, err)
	kubeconfig, err := cluster.User(t.Context(), string(role))
	must(t, err)
	c, ns := inNamespace(t, config(kubeconfig))

	start := time.Now()
	must(t, cluster.StartNodes(t.Context(), *nodes))
	t.Logf("%d nodes ready after %v", *nodes, time.Since(start).Round(time.Millisecond))
	start = time.Now()
	must(t, cluster.StartPods(t.Context(), ns, *pods, *nodes, 100))
	t.Logf("%d pods running after %v", *pods, time.Since(start).Round(time.Millisecond))

	r := newRecorder(t)
	w := watching(t, r.handle, c,
		watch.Want{Version: "v1", Kind: "Node"}, watch.Want{Version: "*", Kind: "Pod"}, watch.Want{Version: "v1", Kind: "Secret"},
		sedna("*"), watch.Want{Group: "apps", Version: "*", Kind: "Deployment"})
	eventually(t, 30*time.Second, "all nodes and pods", func() bool {
		return state(w, "Pod") == watch.StateWatching && state(w, "Node") == watch.StateWatching && state(w, "Deployment") == watch.StateWatching
	})
	for kind, want := range map[string]int{"Node": *nodes, "Pod": *pods} {
		if got := objects(w, kind); got != want {
			t.Errorf("got %d of %s, want %d", got, kind, want)
		}
	}
	if got := state(w, "Secret"); got != watch.StateForbidden {
		t.Errorf("secrets are %s, want forbidden", got)
	}
	pod := r.get("Pod", ns, "ll-00000-train-00000")
	if got := fmt.Sprint(pod.Field("spec", "containers")); strings.Contains(got, "UNREAD") || !strings.Contains(got, "WORKER_NAME") {
		t.Errorf("got containers %s", got)
	}
	if got := pod.Text("status", "phase"); got != "Running" {
		t.Errorf("got phase %q", got)
	}
	if _, edge := r.get("Node", "", kube.NodeName(0)).Field("metadata", "labels").(map[string]any)["node-role.kubernetes.io/edge"]; !edge {
		t.Error("node 0 is not an edge node")
	}
	t.Run("kubelet metrics", func(t *testing.T) { kubeletMetrics(t) })
}

// kubeletMetrics reads a node's container metrics in both ways. KWOK fills its caches at the first
// scrape, so it is asked until they are there.
func kubeletMetrics(t *testing.T) {
	admin, err := rest.HTTPClientFor(cluster.Config)
	must(t, err)
	kwok, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	must(t, err)
	node := kube.NodeName(2)
	for url, client := range map[string]*http.Client{
		cluster.KubeletURL() + kube.NodeMetricsPath(node, "cadvisor"):                         kwok,
		cluster.Config.Host + "/api/v1/nodes/" + node + "/proxy/metrics/cadvisor":             admin,
		cluster.Config.Host + "/api/v1/nodes/" + node + "/proxy/metrics/resource":             admin,
		cluster.Config.Host + "/api/v1/nodes/" + kube.NodeName(7) + "/proxy/metrics/resource": admin,
	} {
		text := ""
		eventually(t, 10*time.Second, url, func() bool {
			text = fetch(t, client, url)
			return strings.Contains(text, `container="train-worker"`)
		})
		if !strings.Contains(text, "container_cpu_usage_seconds_total{") {
			t.Errorf("%s: no CPU usage in\n%.500s", url, text)
		}
	}
}

func fetch(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(text)
}

func objects(w *watch.Watcher, kind string) int {
	for _, k := range w.Status().Kinds {
		if k.Kind.Kind == kind {
			return k.Objects
		}
	}
	return -1
}
