// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
)

const everything = `
naming: legacy
spec:
  resources:
    - groupVersionKind: {group: g, version: v1, kind: K}
      labelsFromPath: {name: [metadata, name], "l_*": [metadata, labels]}
      metrics:
        - {name: a, each: {type: Gauge, gauge: {path: [status, a]}}}
        - {name: b, each: {type: Gauge, gauge: {path: [status, a, "*:k", b], labelFromKey: x, labelsFromPath: {y: [y]}, valueFrom: [v], nilIsZero: true}}}
        - {name: c, each: {type: Gauge, gauge: {path: [status, conditions, "-1", t]}}}
        - {name: d, each: {type: StateSet, stateSet: {path: [status, conditions, "[-1:type=A]"], valueFrom: [status], labelName: s, list: [A, B], ignoreCase: true}}}
        - {name: e, each: {type: Info, info: {path: [status, j, "@json"], labelFromKey: k, labelsFromPath: {z: [], "*": [o]}}}}
        - {name: f, each: {type: Count, count: {path: [status, conditions], labelsFromPath: {t: [type]}}}}
        - {name: g, each: {type: Gauge, gauge: {path: [status, a], labelFromKey: k, valueFrom: {cel: "number(value) + 1.0"}}}}
        - {name: h, each: {type: Info, info: {path: {cel: "object.status.?a.orValue([])"}, labelsFromPath: {v: {cel: "key"}, w: []}}}}
        - {name: i, selector: {label: "a in (b)", field: "status.a=1"}, each: {type: Gauge, gauge: {path: [status, a], valueFrom: [b], exists: true}}}
`

// FuzzObject: whatever an object holds, evaluation ends and gives labels in order.
func FuzzObject(f *testing.F) {
	s, err := spec.Parse("spec.yaml", []byte(everything), spec.Choices{})
	if err != nil {
		f.Fatal(err)
	}
	r := s.Resources[0]
	metrics := r.Bind(resource.Kind{Group: "g", Version: "v1", Kind: "K"})
	f.Add([]byte(`{"metadata":{"name":"x","labels":{"a":"b"}},"status":{"a":{"k":{"b":{"v":1}}},"conditions":[{"type":"A","status":"b","t":"2026-01-02T03:04:05Z"}],"j":"{\"o\":{\"p\":1}}"}}`))
	f.Add([]byte(`{"metadata":[],"status":{"a":[1,"2",null,[],{}],"conditions":{},"j":"["}}`))
	f.Add([]byte(`{"status":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var o map[string]any
		if json.Unmarshal(data, &o) != nil {
			return
		}
		var e spec.Evaluator
		e.Begin(o)
		_ = r.Selects(o)
		for _, m := range metrics {
			n := 0
			e.Metric(m, func(labels []spec.Label, _ float64) bool {
				for i := 1; i < len(labels); i++ {
					if labels[i-1].Name >= labels[i].Name {
						t.Errorf("labels out of order or twice: %v", labels)
					}
				}
				n++
				return n < 100
			})
			if n > 100 {
				t.Errorf("%s went on after it was told to stop", m.Name)
			}
			_ = m.Missing(o)
		}
	})
}

// FuzzParse: whatever a file holds, decoding ends with a specification or with errors that name it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no corpus: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range txtar.Parse(data).Files {
			if part.Name == "spec.yaml" {
				f.Add(part.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := spec.Parse("spec.yaml", data, spec.Choices{})
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "spec.yaml:") {
					t.Errorf("a fault without its place: %q", line)
				}
			}
			return
		}
		for _, r := range s.Resources {
			r.Bind(resource.Kind{Group: r.Group, Version: r.Version, Kind: r.Kind})
		}
	})
}

// FuzzPath: a path that compiles can be walked anywhere.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"a/b", "a/-1", "[a=b]", "[a=b,c=d]", "[-1:a=b]", "*/x", "*:k/x", "*:k=n/x", "@json/x", "a=b"} {
		f.Add(p, []byte(`{"a":[{"b":"{}"}]}`))
	}
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		words := strings.Split(path, "/")
		if _, err := spec.ParsePath(words); err != nil {
			return
		}
		quoted, err := json.Marshal(words)
		if err != nil {
			return
		}
		file := `{"naming":"legacy","spec":{"resources":[{"groupVersionKind":{"group":"g","version":"v","kind":"k"},"metrics":[` +
			`{"name":"a","each":{"type":"Info","info":{"path":` + string(quoted) + `,"labelsFromPath":{"v":[]}}}}]}]}}`
		s, err := spec.Parse("spec.yaml", []byte(file), spec.Choices{})
		var o map[string]any
		if err != nil || json.Unmarshal(data, &o) != nil {
			return
		}
		var e spec.Evaluator
		e.Begin(o)
		for _, m := range s.Resources[0].Bind(resource.Kind{}) {
			e.Metric(m, func([]spec.Label, float64) bool { return true })
			_ = m.Missing(o)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"1", "250m", "1.5Gi", "25%", "2026-01-02T03:04:05Z", "1h30m", "True", "1e3", "-.5", "0x1p-2", "Ki", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = spec.Number(s) })
}
