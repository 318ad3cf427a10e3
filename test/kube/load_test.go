// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"flag"
	"fmt"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/test/kube"
)

// jobs is 10,000 for the figures in docs/kubernetes.md.
var jobs = flag.Int("jobs", 1000, "learning jobs in the load test")

// createJobs makes n jobs with one round of conditions each.
func createJobs(t *testing.T, ns string, n int) {
	t.Helper()
	client := cluster.Dynamic.Resource(kube.Sedna("lifelonglearningjobs")).Namespace(ns)
	start := time.Now()
	must(t, kube.Each(t.Context(), n, 16, func(ctx context.Context, i int) error {
		job := kube.LifelongJob(ns, fmt.Sprintf("ll-%05d", i))
		o, err := client.Create(ctx, &unstructured.Unstructured{Object: job}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		kube.AppendConditions(o.Object, kube.Round(1, start.Add(-time.Hour), time.Minute, kube.Deployed)...)
		_, err = client.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		return err
	}))
	t.Logf("%d jobs made in %v", n, time.Since(start).Round(time.Millisecond))
}

// peak samples the heap until stop is called, which gives its highest size.
func peak() (stop func() uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var highest uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			highest = max(highest, sample[0].Value.Uint64())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return highest
	}
}

func TestManyJobsAreListedInLittleMemoryAndFollowedAtOnce(t *testing.T) {
	c, ns := inNamespace(t, config(cluster.Kubeconfig))
	createJobs(t, ns, *jobs)

	var mu sync.Mutex
	seen := map[string]time.Time{} // by name and version
	var count atomic.Int64
	listed := make(chan time.Time, 1)
	handle := func(_ context.Context, e resource.Event) {
		if e.Type == resource.Listed {
			listed <- time.Now()
		}
		if e.Type != resource.Applied {
			return
		}
		count.Add(1)
		if !e.Initial {
			mu.Lock()
			seen[e.Object.Name()+e.Object.Text("metadata", "resourceVersion")] = time.Now()
			mu.Unlock()
		}
	}
	stop := peak()
	start := time.Now()
	watching(t, handle, c, sedna("LifelongLearningJob"))
	select {
	case at := <-listed:
		t.Logf("listed in %v, heap at most %d MiB", at.Sub(start).Round(time.Millisecond), stop()>>20)
	case <-time.After(time.Minute):
		t.Fatal("not listed within a minute")
	}
	if got := count.Load(); got != int64(*jobs) {
		t.Fatalf("got %d jobs, want %d", got, *jobs)
	}

	client := cluster.Dynamic.Resource(kube.Sedna("lifelonglearningjobs")).Namespace(ns)
	const updates = 300
	written := make([]time.Time, updates)
	ids := make([]string, updates)
	must(t, kube.Each(t.Context(), updates, 4, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("ll-%05d", i%*jobs)
		o, err := client.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		kube.AppendConditions(o.Object, kube.Condition{Stage: "Train", Type: "Waiting", At: time.Now()})
		o, err = client.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		if err == nil {
			written[i], ids[i] = time.Now(), name+o.GetResourceVersion()
		}
		return err
	}))
	eventually(t, 10*time.Second, "all updates", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == updates
	})
	var late []time.Duration
	for i, id := range ids {
		late = append(late, max(0, seen[id].Sub(written[i])))
	}
	slices.Sort(late)
	t.Logf("from the answer to the update to the handler: median %v, p99 %v, most %v", late[updates/2], late[updates*99/100], late[updates-1])
	if p99 := late[updates*99/100]; p99 > 100*time.Millisecond {
		t.Errorf("p99 is %v", p99)
	}
}
