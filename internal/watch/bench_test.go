// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch/frame"
)

// jobJSON is a job of about 6 kB as an API server sends it: 13 conditions, managed fields.
func jobJSON(i, version int) []byte {
	at := time.Unix(1_780_000_000, 0).UTC()
	conditions := []any{}
	for k := range 13 {
		conditions = append(conditions, map[string]any{
			"type": "Completed", "status": "True", "stage": "Train",
			"lastHeartbeatTime": at.Add(time.Duration(k) * time.Minute), "lastTransitionTime": at.Add(time.Duration(k) * time.Minute),
			"data": fmt.Sprintf(`{"input":{"models":[{"format":"pkl","url":"/output/train/%d/index.pkl"}],"dataURL":"/data/train/%d/data.txt","outputDir":"/output/train/%d"}}`, i, k, k),
		})
	}
	env := []any{}
	for k := range 12 {
		env = append(env, map[string]any{"name": fmt.Sprintf("variable_%d", k), "value": "0.001"})
	}
	template := map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "registry.example/lifelong:v1", "env": env}}}}}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "sedna.io/v1alpha1", "kind": "LifelongLearningJob",
		"metadata": map[string]any{
			"name": fmt.Sprintf("ll-%06d", i), "namespace": "default", "uid": fmt.Sprintf("7c9e6679-7425-40de-944b-%012d", i),
			"resourceVersion": fmt.Sprint(version), "managedFields": []any{map[string]any{"fieldsV1": string(make([]byte, 400))}},
		},
		"spec":   map[string]any{"dataset": map[string]any{"name": "d", "trainProb": 0.8}, "trainSpec": template, "evalSpec": template, "deploySpec": template},
		"status": map[string]any{"startTime": at, "conditions": conditions},
	})
	if err != nil {
		panic(err) // constant input
	}
	return b
}

func testListWatch(tb testing.TB, handle func(resource.Event)) *listWatch {
	tb.Helper()
	p, err := newPacker()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newStripper(nil)
	if err != nil {
		tb.Fatal(err)
	}
	kind := resource.Kind{Group: "sedna.io", Version: "v1alpha1", Kind: "LifelongLearningJob", Plural: "lifelonglearningjobs"}
	l := &listWatch{feed: &feed{rank: rankCluster}, table: newTable(kind, handle, p), strip: s}
	l.table.join(l.feed)
	return l
}

// BenchmarkUpdate is all that a status update costs this room: cutting, decoding, stripping, packing.
func BenchmarkUpdate(b *testing.B) {
	l := testListWatch(b, func(resource.Event) {})
	frames := make([][]byte, 100)
	for i := range frames {
		frames[i] = fmt.Appendf(nil, "{\"type\":\"MODIFIED\",\"object\":%s}\n", jobJSON(i, i))
	}
	b.SetBytes(int64(len(frames[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := frame.NewReader(bytes.NewReader(frames[i%100]), 1<<20)
		raw, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		f, err := frame.ParseEvent(raw)
		if err != nil {
			b.Fatal(err)
		}
		l.object(f, time.Now())
	}
}

// TestMemoryPerObject holds what an object costs in this room to a few KiB, at any number.
func TestMemoryPerObject(t *testing.T) {
	measure := func(n int) float64 {
		l := testListWatch(t, func(resource.Event) {})
		before := heap()
		for i := range n {
			l.object(frame.Event{Type: "ADDED", Object: jobJSON(i, i)}, time.Now())
		}
		per := float64(heap()-before) / float64(n)
		runtime.KeepAlive(l)
		return per
	}
	small, large := measure(1000), measure(8000)
	t.Logf("%.0f bytes per object of %d at 1,000, %.0f at 8,000", small, len(jobJSON(0, 0)), large)
	if large > 4<<10 || large > 1.3*small {
		t.Errorf("an object costs %.0f bytes at 8,000 objects, %.0f at 1,000", large, small)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
