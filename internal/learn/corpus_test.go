// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/resource"
)

var update = flag.Bool("update", false, "write the golden files anew")

func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// corpus starts a hub that has seen all objects of testdata.
func corpus(t testing.TB) *hub {
	t.Helper()
	h := start(t, t.TempDir(), newRecorded())
	for _, file := range []string{"corpus.yaml", "lifelong.yaml"} {
		for _, o := range objects(t, file) {
			h.apply(kind(o.Text("kind")), o, noon(), true)
		}
	}
	for _, k := range []string{"Node", "Pod", "LifelongLearningJob"} {
		h.Handle(t.Context(), resource.Event{Type: resource.Listed, Kind: kind(k), Received: noon()})
	}
	h.settled()
	h.wait("worker series", func() bool { return strings.Contains(h.sink.now("learning_worker"), "surface-defect") })
	return h
}

func TestCorpusGivesExactlyTheseSeries(t *testing.T) {
	h := corpus(t)
	got := h.sink.now()
	got = regexp.MustCompile(`(?m)^(.*learning_task_duration_seconds.*inference-q9w1e.*) .*$`).ReplaceAllString(got, "$1 VARIES") + "\n"
	path := filepath.Join("testdata", "corpus.series")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Error(diff)
	}
}

// TestMetricsAreDocumentedAsExported compares docs/metrics.md, the metadata and what the corpus exports.
func TestMetricsAreDocumentedAsExported(t *testing.T) {
	h := corpus(t)
	known := map[string][]string{}
	for _, m := range learn.Metadata() {
		known[m.Name] = m.Labels
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| [^|]*\\| `(learning_[a-z_]+)` \\| ([^|]*) \\| learn \\|").FindAllStringSubmatch(string(text), -1) {
		var labels []string
		for _, l := range regexp.MustCompile("`([a-z_]+)`|J").FindAllStringSubmatch(row[2], -1) {
			if l[0] == "J" {
				labels = append(labels, "namespace", "job_kind", "job_name")
			} else {
				labels = append(labels, l[1])
			}
		}
		slices.Sort(labels)
		documented[row[1]] = labels
	}
	if diff := cmp.Diff(known, documented); diff != "" {
		t.Errorf("metadata and docs/metrics.md differ: %s", diff)
	}
	exported := map[string]bool{}
	for series := range h.sink.series {
		name := regexp.MustCompile(`__name__="([^"]+)"`).FindStringSubmatch(series)[1]
		exported[name] = true
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(series, -1) {
			if l[1] != "__name__" && !slices.Contains(known[name], l[1]) {
				t.Errorf("%s carries label %s, which is not documented", name, l[1])
			}
		}
	}
	for name := range known {
		if !exported[name] {
			t.Errorf("%s is documented but the corpus does not export it", name)
		}
	}
}

func TestJobsAreFound(t *testing.T) {
	h := corpus(t)
	d, err := h.Job("factory", "lifelonglearningjobs", "atcii-classifier", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Rounds) != 2 || d.Rounds[0].Deploy != "Ok" || d.Rounds[1].Deploy != "Waiting" || len(d.Spans) != 14 {
		t.Errorf("rounds %+v, %d spans", d.Rounds, len(d.Spans))
	}
	if d.KnowledgeBase.Node != "cloud-1" || d.KnowledgeBase.NodeType != "cloud" {
		t.Errorf("knowledge base %+v", d.KnowledgeBase)
	}
	want := []string{
		"worker atcii-classifier-inference-q9w1e restarts in a loop: CrashLoopBackOff, 4 times so far",
		"Train begins when num_of_samples > 500; dataset thermal-comfort has 1000 samples in all; checked every 60 s",
		"Train begins between 02:00 and 24:00 only",
	}
	if diff := cmp.Diff(want, d.Why); diff != "" {
		t.Error(diff)
	}
	if d, err = h.Job("factory", "", "surface-defect", ""); err != nil || d.Round != 3 || d.Phase != "Succeeded" || d.Stages[0].Condition != "Completed" {
		t.Errorf("federated job %+v, %v", d.Job, err)
	}
	if d, err = h.Job("factory", "", "helmet-detection", ""); err != nil || d.Round != 2 || d.Rounds[0].Deploy != "NotOk" {
		t.Errorf("incremental job %+v, %v", d.Rounds, err)
	}
}
