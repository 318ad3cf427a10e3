// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// kubectlList is what kubectl get -o yaml writes for n jobs.
func kubectlList(n int) []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nitems:\n")
	for i := range n {
		fmt.Fprintf(&b, "- apiVersion: sedna.io/v1alpha1\n  kind: LifelongLearningJob\n  metadata:\n    name: ll-%d\n    namespace: default\n  status:\n    conditions:\n", i)
		for k := range 13 {
			fmt.Fprintf(&b, "    - data: '{\"output\":{\"models\":[{\"url\":\"/output/train/%d/index.pkl\"}]}}'\n      lastTransitionTime: \"2026-01-02T03:04:05Z\"\n      stage: Train\n      status: \"True\"\n      type: Completed\n", k)
		}
	}
	b.WriteString("kind: List\nmetadata:\n  resourceVersion: \"\"\n")
	return b.Bytes()
}

func TestLargeManifestsTakeLittleMemory(t *testing.T) {
	million := "apiVersion: v1\nkind: A\nmetadata: {name: n}\nstatus:\n  conditions:\n" + strings.Repeat("  - {type: A, status: B}\n", 1_000_000)
	values := strings.Repeat(`{"t":1},`, 1_000_000)
	for _, tt := range []struct {
		name             string
		data             []byte
		objects, refused int
		allocated        uint64 // MiB, on the way
	}{
		{"a million conditions in YAML", []byte(million), 0, 1, 32},
		{"a million conditions in JSON", fmt.Appendf(nil, `{"apiVersion":"v1","kind":"A","metadata":{"name":"n"},"a":[%s1]}`, values), 0, 1, 64},
		{"a long string", fmt.Appendf(nil, "apiVersion: v1\nkind: A\nmetadata: {name: n}\ndata: %s\n", strings.Repeat("x", 10<<20)), 1, 0, 128},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			objects, _, refused, err := readAll(string(tt.data), 16<<20)
			runtime.ReadMemStats(&after)
			if err != nil || len(objects) != tt.objects || refused != tt.refused {
				t.Errorf("got %d objects, %d refused and error %v, want %d and %d", len(objects), refused, err, tt.objects, tt.refused)
			}
			if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > tt.allocated+uint64(len(tt.data)>>20) {
				t.Errorf("%d MiB allocated for %d MiB", got, len(tt.data)>>20)
			}
		})
	}
}

func TestListOfAllJobsIsReadOneByOne(t *testing.T) {
	const n = 500
	data := kubectlList(n)
	before := heap()
	objects := 0
	var highest int64
	r := Reader{Limit: 16 << 20, Each: func(Object) error {
		if objects++; objects%100 == 0 {
			highest = max(highest, heap()-before)
		}
		return nil
	}}
	if err := r.Read(data); err != nil || objects != n {
		t.Errorf("got %d objects and error %v", objects, err)
	}
	if highest > 2<<20 {
		t.Errorf("%d KiB were held for a list of %d KiB", highest>>10, len(data)>>10)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
