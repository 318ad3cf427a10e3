// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/tls"
	"embed"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

//go:embed testdata/kwok.yaml
var kwokConfig embed.FS

// KubeletURL is where StartNodes has KWOK answer as the kubelet of all nodes; see [NodeMetricsPath].
func (c *Cluster) KubeletURL() string { return c.egress.kwok.String() }

// NodeName is the name of simulated node i: every fourth is a cloud node, the others are edge nodes
// with KubeEdge's labels.
func NodeName(i int) string {
	if cloudNode(i) {
		return fmt.Sprintf("cloud-%03d", i)
	}
	return fmt.Sprintf("edge-%03d", i)
}

func cloudNode(i int) bool { return i%4 == 3 }

// StartNodes starts KWOK and makes n nodes, all Ready when it returns. It may be called once.
func (c *Cluster) StartNodes(ctx context.Context, n int) error {
	if err := c.startKWOK(ctx); err != nil {
		return err
	}
	err := Each(ctx, n, 8, func(ctx context.Context, i int) error { return c.createNode(ctx, i) })
	if err != nil {
		return err
	}
	nodes := c.Dynamic.Resource(Core("nodes"))
	return Poll(ctx, func() bool { return countReady(ctx, nodes, readyNode) >= n })
}

func (c *Cluster) startKWOK(ctx context.Context) error {
	config, err := kwokObjects(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(c.Dir, "kwok.yaml")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	crt := filepath.Join(c.certificates(), "apiserver.crt")
	key := filepath.Join(c.certificates(), "apiserver.key")
	pair, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		return fmt.Errorf("load certificate: %w", err)
	}
	if err := c.egress.start(&url.URL{Scheme: "https", Host: address}, pair); err != nil {
		return err
	}
	c.kwok, err = startProcess(c.Dir, filepath.Join(c.bin, "kwok"),
		"--kubeconfig="+c.Kubeconfig, "--manage-all-nodes=true", "--config="+path,
		"--node-ip=127.0.0.1", "--node-port="+strconv.Itoa(port), "--server-address="+address,
		"--tls-cert-file="+crt, "--tls-private-key-file="+key,
		"--node-lease-duration-seconds=40", "--cidr=10.244.0.0/16")
	if err != nil {
		return err
	}
	return c.kwok.ready(ctx, insecure(), "https://"+address+"/healthz", "")
}

// kwokObjects is KWOK's configuration: ours and the fast stages that its module brings.
func kwokObjects(ctx context.Context) ([]byte, error) {
	text, err := kwokConfig.ReadFile("testdata/kwok.yaml")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	cmd.Dir = filepath.Join(folder(), "..", "k8sbin")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find the module of kwok: %w", err)
	}
	for _, kind := range []string{"node", "pod"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "kustomize", "stage", kind, "fast", "*.yaml"))
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("no %s stages in the module of kwok", kind)
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			stage, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			text = append(append(text, "\n---\n"...), stage...)
		}
	}
	return text, nil
}

func (c *Cluster) createNode(ctx context.Context, i int) error {
	name := NodeName(i)
	address := fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250) // documentation range: nothing is there
	c.egress.add(address, name)
	labels := map[string]any{"kubernetes.io/hostname": name}
	if !cloudNode(i) {
		labels["node-role.kubernetes.io/edge"] = ""
		labels["node-role.kubernetes.io/agent"] = ""
	}
	node := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": name, "labels": labels, "annotations": map[string]any{"kwok.x-k8s.io/node": "fake"}},
		"status": map[string]any{"addresses": []any{
			map[string]any{"type": "InternalIP", "address": address},
			map[string]any{"type": "Hostname", "address": name},
		}},
	}}
	_, err := c.Dynamic.Resource(Core("nodes")).Create(ctx, node, metav1.CreateOptions{})
	return err
}

// StartPods makes n pods on the first nodes nodes, in a namespace that exists, and waits until all
// run. They look like train workers of lifelong jobs: pod i is a worker of job ll-N, N = i modulo jobs.
func (c *Cluster) StartPods(ctx context.Context, namespace string, n, nodes, jobs int) error {
	pods := c.Dynamic.Resource(Core("pods")).Namespace(namespace)
	err := Each(ctx, n, 16, func(ctx context.Context, i int) error {
		_, err := pods.Create(ctx, &unstructured.Unstructured{Object: WorkerPod(namespace, i, NodeName(i%nodes), fmt.Sprintf("ll-%05d", i%jobs))}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return Poll(ctx, func() bool { return countReady(ctx, pods, runningPod) >= n })
}

// WorkerPod is a train worker as Sedna makes it.
func WorkerPod(namespace string, i int, node, job string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"namespace": namespace, "name": fmt.Sprintf("%s-train-%05d", job, i),
			"labels": map[string]any{
				"lifelonglearningjob.sedna.io/name": job, "lifelonglearningjob.sedna.io/uid": job + "-uid",
				"lifelonglearningjob.sedna.io/worker-type": "train",
			},
			"annotations": map[string]any{"kwok.x-k8s.io/usage-cpu": "250m", "kwok.x-k8s.io/usage-memory": "64Mi"},
		},
		"spec": map[string]any{
			"nodeName": node,
			"containers": []any{map[string]any{
				"name": "train-worker", "image": "registry.example/lifelong:v1",
				"env": []any{
					map[string]any{"name": "JOB_NAME", "value": job},
					map[string]any{"name": "WORKER_NAME", "value": fmt.Sprintf("trainworker-%05d", i)},
					map[string]any{"name": "NAMESPACE", "value": namespace},
					map[string]any{"name": "KB_SERVER", "value": "http://kb.example:9020"},
					map[string]any{"name": "UNREAD", "value": "nobody reads this"},
				},
			}},
		},
	}
}

type lister interface {
	List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error)
}

// countReady counts what satisfies ready; errors count nothing.
func countReady(ctx context.Context, l lister, ready func(unstructured.Unstructured) bool) (n int) {
	list, err := l.List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return 0
	}
	for _, o := range list.Items {
		if ready(o) {
			n++
		}
	}
	return n
}

func runningPod(o unstructured.Unstructured) bool {
	phase, _, _ := unstructured.NestedString(o.Object, "status", "phase")
	return phase == "Running"
}

func readyNode(o unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Ready" && m["status"] == "True" {
			return true
		}
	}
	return false
}
