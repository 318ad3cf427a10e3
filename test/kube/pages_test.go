// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/test/kube"
)

// TestServerThatRefusesStreamingListsIsPaged runs against an API server of its own, with the feature off.
func TestServerThatRefusesStreamingListsIsPaged(t *testing.T) {
	dir, err := os.MkdirTemp("", "kube")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	old, err := kube.Start(t.Context(), kube.Options{Dir: dir, Args: []string{"--feature-gates=WatchList=false"}})
	must(t, err)
	t.Cleanup(func() { must(t, old.Stop()) })

	const n = 1100 // three pages
	maps := old.Dynamic.Resource(kube.Core("configmaps")).Namespace("default")
	must(t, kube.Each(t.Context(), n, 16, func(ctx context.Context, i int) error {
		_, err := maps.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": fmt.Sprintf("m-%d", i)},
		}}, metav1.CreateOptions{})
		return err
	}))
	yes := true
	_, err = maps.Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	if !apierrors.IsInvalid(err) {
		t.Fatalf("the server does not refuse streaming lists: %v", err)
	}
	r := newRecorder(t)
	c := config(old.Kubeconfig)
	c.Namespaces = []string{"default"}
	w := watching(t, r.handle, c, watch.Want{Version: "v1", Kind: "ConfigMap"})
	eventually(t, 20*time.Second, "all objects", func() bool { return state(w, "ConfigMap") == watch.StateWatching })
	if got := r.size(); got < n {
		t.Errorf("got %d objects, want %d", got, n)
	}
	if o := r.get("ConfigMap", "default", "m-7"); o.Text("apiVersion") != "v1" || o.Text("kind") != "ConfigMap" {
		t.Errorf("an item of a list lost its kind: %v", o)
	}
	must(t, maps.Delete(t.Context(), "m-7", metav1.DeleteOptions{}))
	eventually(t, 5*time.Second, "deletion", func() bool { return r.get("ConfigMap", "default", "m-7") == nil })
}
