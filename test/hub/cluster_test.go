// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/test/kube"
)

// namespace makes a namespace for a test.
func namespace(t *testing.T, name string) string {
	t.Helper()
	if err := cluster.CreateNamespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestJobsOfAClusterBecomeExactHistory(t *testing.T) {
	ns := namespace(t, "history")
	driver := cluster.Driver(ns)
	begin := time.Now().Add(-36 * time.Hour).Truncate(time.Second)
	outcomes := []kube.Outcome{kube.Deployed, kube.TrainFailed, kube.NotDeployed, kube.Deployed}
	if err := driver.Play(t.Context(), "road", begin, 10*time.Minute, outcomes...); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	hub := start(t, "hub", "--kubeconfig", cluster.Kubeconfig, "--data-dir", data)

	// In the middle of every condition the history says which it was: asked of the list itself.
	check := func(hub *process, round float64) {
		at := begin
		for i, o := range outcomes {
			for _, c := range kube.Round(i+1, at, 10*time.Minute, o) {
				hub.want(fmt.Sprintf(`learning_job_stage_condition{namespace=%q,stage=%q,condition=%q}`, ns, c.Stage, c.Type), c.At.Add(5*time.Minute), 1)
				at = c.At.Add(10 * time.Minute)
			}
		}
		hub.want(fmt.Sprintf(`learning_job_round{namespace=%q}`, ns), present, round)
		hub.want(fmt.Sprintf(`learning_job_stage_transitions_total{namespace=%q,stage="Train",condition="Failed"}`, ns), present, 1)
		hub.want(fmt.Sprintf(`sum(max_over_time(learning_job_stage_condition{namespace=%q,stage="Train",condition="Failed"}[36h]))`, ns), present, 1)
	}
	check(hub, 4)

	// A change that happens now is there at its own time, at once.
	now := time.Now().Truncate(time.Second)
	if err := driver.Append(t.Context(), "road", kube.Condition{Stage: "Train", Type: "Waiting", At: now}); err != nil {
		t.Fatal(err)
	}
	hub.want(fmt.Sprintf(`learning_job_round{namespace=%q}`, ns), present, 5)
	before := spans(t, hub, ns)

	if out := hub.cli("jobs", "-n", ns); !strings.Contains(out, "history/road") || !strings.Contains(out, "Waiting") {
		t.Errorf("jobs prints\n%s", out)
	}
	if out := hub.cli("jobs", "show", ns+"/road"); !strings.Contains(out, "ROUND") || !strings.Contains(out, "Failed") {
		t.Errorf("jobs show prints\n%s", out)
	}

	// The same again after a kill and after an orderly restart, and from a hub that starts only now.
	hub.stop(syscall.SIGKILL)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		hub = start(t, "hub", "--kubeconfig", cluster.Kubeconfig, "--data-dir", data)
		check(hub, 5)
		if after := spans(t, hub, ns); !slices.Equal(after, before) {
			t.Errorf("after a restart the spans are\n%v, were\n%v", after, before)
		}
		hub.stop(s)
	}
	late := start(t, "hub", "--kubeconfig", cluster.Kubeconfig, "--data-dir", t.TempDir())
	check(late, 5)
	if after := spans(t, late, ns); !slices.Equal(after, before) {
		t.Errorf("a hub that started late says\n%v, the other one\n%v", after, before)
	}

	// A job that goes takes its series along, and is found in history.
	if err := driver.Delete(t.Context(), "road"); err != nil {
		t.Fatal(err)
	}
	late.wantNone(fmt.Sprintf(`{__name__=~"learning_job_.*",namespace=%q}`, ns))
	page, err := late.learning().Jobs(t.Context(), learning.JobQuery{Namespaces: []string{ns}, Deleted: true})
	if err != nil || page.Total != 1 {
		t.Errorf("got %d deleted jobs, %v, want 1", page.Total, err)
	}
}

// spans gives the spans of the job road as text.
func spans(t *testing.T, hub *process, ns string) []string {
	t.Helper()
	d, err := hub.learning().Job(t.Context(), ns, "LifelongLearningJob", "road", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Spans) < 20 {
		t.Fatalf("got %d spans", len(d.Spans))
	}
	var all []string
	for _, s := range d.Spans {
		all = append(all, fmt.Sprintf("%d %s %s %s", s.Round, s.Stage, s.Condition, s.Start.UTC().Format(time.RFC3339Nano)))
	}
	return all
}

func TestWorkersHaveALocation(t *testing.T) {
	ns := namespace(t, "workers")
	if err := cluster.StartNodes(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	driver := cluster.Driver(ns)
	if err := driver.Create(t.Context(), "ll-00000"); err != nil {
		t.Fatal(err)
	}
	job, err := cluster.Dynamic.Resource(kube.Sedna("lifelonglearningjobs")).Namespace(ns).Get(t.Context(), "ll-00000", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods := cluster.Dynamic.Resource(kube.Core("pods")).Namespace(ns)
	for i := range 4 {
		pod := &unstructured.Unstructured{Object: kube.WorkerPod(ns, i, kube.NodeName(i), "ll-00000")}
		pod.SetLabels(map[string]string{
			"lifelonglearningjob.sedna.io/name": "ll-00000", "lifelonglearningjob.sedna.io/uid": string(job.GetUID()),
			"lifelonglearningjob.sedna.io/worker-type": "train",
		})
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	hub := start(t, "hub", "--kubeconfig", cluster.Kubeconfig, "--data-dir", t.TempDir())
	// Every fourth node is in the cloud, and each of the first four has one pod.
	hub.want(fmt.Sprintf(`learning_job_workers_active{namespace=%q,location="edge"}`, ns), present, 3)
	hub.want(fmt.Sprintf(`learning_job_workers_active{namespace=%q,location="cloud"}`, ns), present, 1)
	hub.want(fmt.Sprintf(`learning_job_tasks_active{namespace=%q}`, ns), present, 4)
	hub.want(fmt.Sprintf(`count(kube_pod_info{namespace=%q})`, ns), present, 4)
	hub.want(`count(kube_node_info)`, present, 8)
}

func TestAHubWithAnUnreachableClusterStartsAndSaysSo(t *testing.T) {
	kubeconfig := t.TempDir() + "/kubeconfig"
	writeFile(t, kubeconfig, `{apiVersion: v1, kind: Config, current-context: a,
clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}],
contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: x}}]}`)
	hub := start(t, "hub", "--kubeconfig", kubeconfig, "--data-dir", t.TempDir())
	hub.eventually("error in the status", func() error {
		s, err := hub.learning().Status(t.Context())
		if err == nil && !strings.Contains(s.Kubernetes.Error, "127.0.0.1:1") {
			err = fmt.Errorf("got %+v", s.Kubernetes)
		}
		return err
	})
	hub.want("vector(1)", present, 1)
}

func TestAHubWithoutSourcesSaysThatKubernetesIsNotConfigured(t *testing.T) {
	hub := start(t, "up", "--data-dir", t.TempDir())
	s, err := hub.learning().Status(t.Context())
	if err != nil || s.Kubernetes.State != "not configured" {
		t.Errorf("got %+v, %v", s.Kubernetes, err)
	}
	if out := hub.cli("jobs"); !strings.Contains(strings.ToLower(out), "no jobs") {
		t.Errorf("jobs prints %q", out)
	}
}

// keysOf gives the keys of a map in order.
func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
