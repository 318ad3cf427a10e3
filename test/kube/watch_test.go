// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/test/kube"
)

// inNamespace makes a namespace for a test and limits the configuration to it.
func inNamespace(t *testing.T, c watch.Config) (watch.Config, string) {
	t.Helper()
	name := fmt.Sprintf("t%x", time.Now().UnixNano())
	must(t, cluster.CreateNamespace(t.Context(), name))
	c.Namespaces = []string{name}
	return c, name
}

func TestEveryStepOfALifelongJobIsSeenOnceAndInOrder(t *testing.T) {
	c, ns := inNamespace(t, config(cluster.Kubeconfig))
	r := newRecorder(t)
	w := watching(t, r.handle, c, sedna("LifelongLearningJob"))
	eventually(t, 20*time.Second, "listed", func() bool { return slices.Equal(r.kind("LifelongLearningJob"), []resource.EventType{resource.Listed}) })

	driver := cluster.Driver(ns)
	must(t, driver.Play(t.Context(), "surface", time.Now().Add(-time.Hour), time.Second, kube.Deployed, kube.TrainFailed, kube.NotDeployed))
	const steps = 1 + 13 + 5 + 12
	eventually(t, 10*time.Second, "all steps", func() bool { return len(r.history("LifelongLearningJob", ns, "surface")) == steps })

	job := r.get("LifelongLearningJob", ns, "surface")
	conditions, _ := job.Field("status", "conditions").([]any)
	if len(conditions) != steps-1 {
		t.Errorf("got %d conditions, want %d", len(conditions), steps-1)
	}
	if got := job.Field("spec", "trainSpec", "template", "spec", "dnsPolicy"); got != nil {
		t.Errorf("dnsPolicy was kept: %v", got)
	}
	kept, ok := w.Get(resource.Kind{Group: "sedna.io", Version: "v1alpha1", Kind: "LifelongLearningJob", Plural: "lifelonglearningjobs"}, ns, "surface")
	if !ok || kept.Text("metadata", "resourceVersion") != job.Text("metadata", "resourceVersion") {
		t.Errorf("Get gives %v", kept)
	}
	must(t, driver.Delete(t.Context(), "surface"))
	eventually(t, 10*time.Second, "deletion", func() bool { return r.get("LifelongLearningJob", ns, "surface") == nil })
}

func TestKindComesAndGoesWithItsDefinition(t *testing.T) {
	r := newRecorder(t)
	w := watching(t, r.handle, config(cluster.Kubeconfig), sedna("ReidJob"), sedna("Dataset"))
	eventually(t, 20*time.Second, "dataset is watched", func() bool { return state(w, "Dataset") == watch.StateWatching })
	if got := state(w, "ReidJob"); got != watch.StateMissing {
		t.Fatalf("got state %q, want missing", got)
	}
	for round := range 2 {
		must(t, cluster.CreateDefinitions(t.Context(), "reidjobs"))
		must(t, cluster.Apply(t.Context(), kube.Sedna("reidjobs"), "{apiVersion: sedna.io/v1alpha1, kind: ReidJob, metadata: {name: a, namespace: default}}"))
		eventually(t, 10*time.Second, "object of the new kind", func() bool { return r.get("ReidJob", "default", "a") != nil })
		must(t, cluster.DeleteDefinition(t.Context(), "reidjobs"))
		want := slices.Repeat([]resource.EventType{resource.Listed, resource.Gone}, round+1)
		eventually(t, 20*time.Second, "kind is gone", func() bool { return slices.Equal(r.kind("ReidJob"), want) })
		if r.get("ReidJob", "default", "a") != nil {
			t.Error("the object outlived its kind")
		}
		eventually(t, 5*time.Second, "missing again", func() bool { return state(w, "ReidJob") == watch.StateMissing })
	}
}

func TestForbiddenKindDoesNotStopTheRest(t *testing.T) {
	const role = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [sedna.io], resources: [videoanalyticsjobs, %s], verbs: [list, watch]}
`
	kubeconfig, err := cluster.User(t.Context(), fmt.Sprintf(role, "datasets"))
	must(t, err)
	r := newRecorder(t)
	c, ns := inNamespace(t, config(kubeconfig))
	w := watching(t, r.handle, c, sedna("Dataset"), sedna("Model"), sedna("VideoAnalyticsJob"))
	eventually(t, 20*time.Second, "states", func() bool {
		return state(w, "Dataset") == watch.StateWatching && state(w, "Model") == watch.StateForbidden
	})
	must(t, cluster.Apply(t.Context(), kube.Sedna("datasets"), fmt.Sprintf("{apiVersion: sedna.io/v1alpha1, kind: Dataset, metadata: {name: d, namespace: %s}}", ns)))
	eventually(t, 5*time.Second, "dataset", func() bool { return r.get("Dataset", ns, "d") != nil })

	_, err = cluster.User(t.Context(), fmt.Sprintf(role, "datasets, models"))
	must(t, err)
	// Without a right to watch definitions, discovery finds new kinds at its next round.
	must(t, cluster.CreateDefinitions(t.Context(), "videoanalyticsjobs"))
	eventually(t, 40*time.Second, "model is allowed", func() bool { return state(w, "Model") == watch.StateWatching })
	eventually(t, 40*time.Second, "new kind is found", func() bool { return state(w, "VideoAnalyticsJob") == watch.StateWatching })
}

func TestServerRestartLosesAndRepeatsNothing(t *testing.T) {
	c, ns := inNamespace(t, config(cluster.Kubeconfig))
	driver := cluster.Driver(ns)
	for i := range 20 {
		must(t, driver.Create(t.Context(), fmt.Sprintf("job-%02d", i)))
	}
	r := newRecorder(t) // fails the test if a version comes twice
	w := watching(t, r.handle, c, sedna("LifelongLearningJob"))
	eventually(t, 20*time.Second, "all jobs", func() bool { return r.size() == 20 })

	must(t, cluster.KillServer())
	eventually(t, 20*time.Second, "the loss is noticed", func() bool { return state(w, "LifelongLearningJob") == watch.StateError })
	must(t, cluster.StartServer(t.Context()))
	for i := range 20 {
		must(t, driver.Append(t.Context(), fmt.Sprintf("job-%02d", i), kube.Condition{Stage: "Train", Type: "Waiting", At: time.Now()}))
	}
	must(t, driver.Delete(t.Context(), "job-00"))
	eventually(t, 30*time.Second, "all changes", func() bool {
		for i := range 19 {
			if len(r.history("LifelongLearningJob", ns, fmt.Sprintf("job-%02d", i+1))) != 2 {
				return false
			}
		}
		return r.get("LifelongLearningJob", ns, "job-00") == nil
	})
	eventually(t, 20*time.Second, "watching again", func() bool { return state(w, "LifelongLearningJob") == watch.StateWatching })
}

func TestReloadKeepsWhatStaysAndLetsGoOfWhatLeaves(t *testing.T) {
	c, ns := inNamespace(t, config(cluster.Kubeconfig))
	must(t, cluster.Apply(t.Context(), kube.Sedna("datasets"), fmt.Sprintf("{apiVersion: sedna.io/v1alpha1, kind: Dataset, metadata: {name: d, namespace: %s}}", ns)))
	must(t, cluster.Driver(ns).Create(t.Context(), "j"))
	r := newRecorder(t)
	w := watching(t, r.handle, c, sedna("Dataset"), sedna("LifelongLearningJob"))
	eventually(t, 20*time.Second, "both", func() bool { return r.size() == 2 })

	must(t, w.Apply(c, []watch.Want{sedna("LifelongLearningJob"), {Version: "v1", Kind: "Namespace"}}))
	eventually(t, 10*time.Second, "dataset is let go", func() bool {
		return slices.Equal(r.kind("Dataset"), []resource.EventType{resource.Listed, resource.Gone})
	})
	eventually(t, 10*time.Second, "namespaces", func() bool { return r.get("Namespace", "", ns) != nil })
	must(t, cluster.Driver(ns).Append(t.Context(), "j", kube.Condition{Stage: "Train", Type: "Waiting", At: time.Now()}))
	eventually(t, 10*time.Second, "job goes on", func() bool { return len(r.history("LifelongLearningJob", ns, "j")) == 2 })

	must(t, w.Apply(watch.DefaultConfig(), nil))
	eventually(t, 10*time.Second, "nothing is left", func() bool { return r.size() == 0 && len(w.Status().Kinds) == 0 })
}

func TestUnreachableAndUnreadableAreToldAndRetried(t *testing.T) {
	r := newRecorder(t)
	c := config(t.TempDir() + "/none")
	if err := c.Check(); err == nil {
		t.Error("Check accepts a kubeconfig that is not there")
	}
	w := watching(t, r.handle, c, sedna("Dataset"))
	eventually(t, 5*time.Second, "error in status", func() bool { return w.Status().Sources[0].Err != "" })
	must(t, w.Apply(config(cluster.Kubeconfig), []watch.Want{sedna("Dataset")}))
	eventually(t, 20*time.Second, "watching", func() bool { return w.Status().Ready() && state(w, "Dataset") == watch.StateWatching })
}
