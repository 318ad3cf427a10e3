// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/resource"
)

func TestStrip(t *testing.T) {
	tests := []struct {
		name     string
		kind     resource.Kind
		in, want string
	}{
		{
			"every object",
			resource.Kind{Group: "a.b", Kind: "C"},
			"{metadata: {name: n, managedFields: [{}], annotations: {kubectl.kubernetes.io/last-applied-configuration: x, keep: y}}, spec: {a: {template: {x: 1}}}}",
			"{metadata: {name: n, annotations: {keep: y}}, spec: {a: {template: {x: 1}}}}",
		},
		{
			"secrets",
			resource.Kind{Kind: "Secret"},
			"{metadata: {name: n}, data: {a: b}, stringData: {a: b}, type: Opaque}", "{metadata: {name: n}, type: Opaque}",
		},
		{
			"other kinds of that name",
			resource.Kind{Group: "a.b", Kind: "Secret"},
			"{data: {a: b}}", "{data: {a: b}}",
		},
		{
			"definitions",
			resource.Kind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"},
			"{spec: {versions: [{name: v1, schema: {a: b}}, {name: v2}]}}", "{spec: {versions: [{name: v1}, {name: v2}]}}",
		},
		{
			"pods keep their status",
			resource.Kind{Kind: "Pod"},
			`
spec:
  nodeName: edge-1
  dnsPolicy: Default
  volumes: [{name: v, persistentVolumeClaim: {claimName: c}}, {name: w, hostPath: {path: /}}]
  initContainers: [{name: i, image: x, command: [a]}]
  containers:
  - name: c
    image: x
    args: [a]
    volumeMounts: [{}]
    resources: {limits: {cpu: "1"}}
    env: [{name: WORKER_NAME, value: w}, {name: Learning_Rate, value: "0.1"}, {name: TOKEN, value: secret}, {name: MINE, value: m}]
status: {phase: Running, containerStatuses: [{name: c, image: x}]}
`,
			`
spec:
  nodeName: edge-1
  volumes: [{name: v, persistentVolumeClaim: {claimName: c}}, {name: w}]
  initContainers: [{name: i, image: x}]
  containers:
  - name: c
    image: x
    resources: {limits: {cpu: "1"}}
    env: [{name: WORKER_NAME, value: w}, {name: Learning_Rate, value: "0.1"}, {name: MINE, value: m}]
status: {phase: Running, containerStatuses: [{name: c, image: x}]}
`,
		},
		{
			"templates at any depth",
			resource.Kind{Group: "sedna.io", Kind: "FederatedLearningJob"},
			"{spec: {trainingWorkers: [{dataset: {name: d}, template: {metadata: {labels: {a: b}}, spec: {affinity: {}, containers: [{name: c, env: [{name: epochs, value: '3'}], args: [x]}]}}}]}}",
			"{spec: {trainingWorkers: [{dataset: {name: d}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, env: [{name: epochs, value: '3'}]}]}}}]}}",
		},
		{
			"nonsense stays",
			resource.Kind{Kind: "Pod"},
			"{metadata: x, spec: {containers: [1, {name: c, env: y}], volumes: 3}}",
			"{metadata: x, spec: {containers: [1, {name: c}], volumes: 3}}",
		},
	}
	s, err := newStripper([]string{"mine"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, want := parse(t, tt.in), parse(t, tt.want)
			s.strip(tt.kind, got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func parse(t *testing.T, text string) (o resource.Object) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}
