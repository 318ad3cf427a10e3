// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/periplus-io/periplus/internal/scrape"
	"github.com/periplus-io/periplus/test/kube"
)

const simulated = 6 // nodes

// TestDefaultJobsOnACluster runs the default jobs with the shipped role's access: kubelets are asked through the
// API server, peers and annotated pods are found and named.
func TestDefaultJobsOnACluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // a cold build included
	defer cancel()
	cluster, err := kube.Start(ctx, kube.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	role, err := os.ReadFile(filepath.Join("..", "..", "deploy", "rbac", "clusterrole.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := cluster.User(ctx, string(role))
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartNodes(ctx, simulated); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartPods(ctx, "default", simulated, simulated, 1); err != nil {
		t.Fatal(err)
	}
	addPod(t, cluster, "peer-a", map[string]any{"periplus.io/peer": "true"}, nil)
	addPod(t, cluster, "peer-b", map[string]any{"periplus.io/peer": "bob"}, map[string]any{"prometheus.io/port": "9200"})
	addPod(t, cluster, "kubo", map[string]any{"periplus.io/ipfs": ""}, nil)
	addPod(t, cluster, "asks", nil, map[string]any{"prometheus.io/scrape": "true", "prometheus.io/path": "/mine"})

	h := start(t)
	h.cluster = &scrape.Cluster{Kubeconfig: kubeconfig, ThroughAPIServer: true}
	h.reload("global: {scrape_timeout: 5s}")
	for _, job := range []string{"kubernetes-cadvisor", "kubernetes-resource"} {
		h.until(job+" is scraped on every node", 90*time.Second, func() bool {
			up := 0
			for _, v := range h.last(job, "__name__", "up") {
				up += int(v)
			}
			return up == simulated
		})
		for i := range simulated {
			node := kube.NodeName(i)
			if n := h.live(job, "__name__", "up", "instance", node, "node", node); n != 1 {
				t.Errorf("%s of %s: got %d series of up, want 1", job, node, n)
			}
		}
	}
	// KWOK fills its caches at the first scrape.
	h.until("containers have CPU times", 90*time.Second, func() bool {
		return h.live("kubernetes-cadvisor", "__name__", "container_cpu_usage_seconds_total", "container", "train-worker") > 0
	})
	for job, want := range map[string][]string{
		"peers":           {`9100/metrics peer="peer-a"`, `9200/metrics peer="bob"`},
		"ipfs":            {`5001/debug/metrics/prometheus peer=""`},
		"kubernetes-pods": {`9100/mine peer=""`},
	} {
		h.until(fmt.Sprintf("%s are %v", job, want), 30*time.Second, func() bool {
			var got []string
			for _, target := range h.scraper.Manager().TargetsActive()[job] {
				u := target.URL()
				got = append(got, fmt.Sprintf("%s%s peer=%q", u.Port(), u.Path, target.GetValue("peer")))
			}
			return sameSet(got, want)
		})
	}
}

func sameSet(a, b []string) bool {
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		count[s]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// addPod makes a pod with a port named metrics on a simulated node.
func addPod(t *testing.T, cluster *kube.Cluster, name string, labels, annotations map[string]any) {
	t.Helper()
	port := map[string]any{"name": "metrics", "containerPort": int64(9100)}
	if _, ok := labels["periplus.io/ipfs"]; ok {
		port = map[string]any{"name": "api", "containerPort": int64(5001)}
	}
	pod := kube.WorkerPod("default", 0, kube.NodeName(0), name)
	pod["metadata"] = map[string]any{"namespace": "default", "name": name, "labels": labels, "annotations": annotations}
	containers, ok := pod["spec"].(map[string]any)["containers"].([]any)
	if !ok {
		t.Fatal("the pod has no containers")
	}
	containers[0].(map[string]any)["ports"] = []any{port}
	_, err := cluster.Dynamic.Resource(kube.Core("pods")).Namespace("default").Create(t.Context(),
		&unstructured.Unstructured{Object: pod}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
