// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

func TestReloadTakesAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := newRecorded()
		h := start(t, t.TempDir(), sink)
		pod := objects(t, "corpus.yaml")[7]
		node := resource.Object{"metadata": map[string]any{"name": "edge-1", "uid": "n", "labels": map[string]any{"site": "harbour"}}}
		h.apply(kind("Node"), node, time.Now(), true)
		h.apply(kind("Pod"), pod, time.Now(), true)
		h.Handle(t.Context(), resource.Event{Type: resource.Listed, Kind: kind("Node"), Received: time.Now()})
		advance(time.Second)
		if got := sink.now("learning_worker_info"); !strings.Contains(got, `location="cloud"`) {
			t.Error(got)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("kind: X\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := learn.DefaultConfig()
		c.Mappings, c.EdgeSelector = dir, "site=harbour"
		if err := h.Reload(c); err == nil || c.Validate() == nil {
			t.Error("a broken mapping is taken")
		}
		c.Mappings = ""
		if err := h.Reload(c); err != nil {
			t.Fatal(err)
		}
		h.apply(kind("Node"), node, time.Now(), false)
		advance(time.Second)
		if got := sink.now("learning_worker_info"); !strings.Contains(got, `location="edge"`) {
			t.Error(got)
		}
		h.close()
	})
}

func TestBadSettingsAreNamed(t *testing.T) {
	for want, c := range map[string]learn.Config{
		"series_limit":  {SeriesLimit: 0},
		"keep_deleted":  {SeriesLimit: 1, KeepDeleted: -1},
		"edge_selector": {SeriesLimit: 1, EdgeSelector: "!a"},
		"mappings":      {SeriesLimit: 1, Mappings: "/nowhere"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v gives %v", c, err)
		}
	}
	c := learn.DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWhatToObserveIsKnown(t *testing.T) {
	h := start(t, t.TempDir(), newRecorded())
	if n := len(h.Kinds()); n != 8 {
		t.Errorf("%d kinds", n)
	}
	for _, e := range []string{"KB_SERVER", "WORKER_NAME", "epochs", "learning_rate", "batch_size", "model_threshold", "operator", "metrics"} {
		if !slices.Contains(h.Environment(), e) {
			t.Errorf("%s is not read", e)
		}
	}
}

// TestSeriesOfOneJobAreBounded gives a job more scores than it may have series.
func TestSeriesOfOneJobAreBounded(t *testing.T) {
	sink := newRecorded()
	h := startWith(t, t.TempDir(), sink, func(o *learn.Options) { o.Config.SeriesLimit = 5 })
	c := at(time.Now(), "Eval/Completed")
	c["data"] = `{"output":{"models":[{"metrics":{"a":[1,2,3,4,5,6,7,8,9]}}]}}`
	h.apply(ll(), job("u", time.Now(), c), time.Now(), false)
	if got := strings.Count(sink.now("learning_eval_score"), "\n") + 1; got != 5 {
		t.Errorf("%d scores", got)
	}
}

// TestCopiesOfAManifestAreObjectsOfTheirOwn gives objects that were copied with their uid and renamed.
func TestCopiesOfAManifestAreObjectsOfTheirOwn(t *testing.T) {
	h := start(t, t.TempDir(), newRecorded())
	for _, k := range []string{"LifelongLearningJob", "Dataset", "Model"} {
		for _, n := range []string{"first", "second"} {
			o := job("same", time.Now(), at(time.Now(), "Train/Waiting"))
			o["metadata"].(map[string]any)["name"] = n
			h.apply(kind(k), o, time.Now(), true)
		}
	}
	if page, err := h.Jobs(learning.JobQuery{}); err != nil || page.Total != 2 || len(h.Datasets()) != 2 || len(h.Models()) != 2 {
		t.Errorf("%+v %v", page, err)
	}
	gone := job("same", time.Now())
	gone["metadata"].(map[string]any)["name"] = "second"
	h.Handle(t.Context(), resource.Event{Type: resource.Deleted, Kind: ll(), Object: gone, Received: time.Now()})
	if page, err := h.Jobs(learning.JobQuery{}); err != nil || page.Total != 1 || page.Jobs[0].Name != "first" {
		t.Errorf("%+v %v", page, err)
	}
}

func TestAJobTakesLittleMemory(t *testing.T) {
	const jobs = 2000
	l, err := learn.Open(learn.Options{
		Dir: t.TempDir(), Config: learn.DefaultConfig(), Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Sink: &counted{},
	})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	begin := time.Now().Add(-time.Hour)
	for i := range jobs {
		l.Handle(t.Context(), resource.Event{Type: resource.Applied, Kind: ll(), Object: benchJob(i, 1, begin), Received: time.Now(), Initial: true})
	}
	if _, err := l.Job("default", "", "ll-00000", ""); err != nil { // commits what is pending
		t.Fatal(err)
	}
	if per := (heap() - before) / jobs; per > 10<<10 {
		t.Errorf("%d bytes a job", per)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzObject hands any object to the model, as each kind, and asks for the whole picture.
func FuzzObject(f *testing.F) {
	for _, file := range []string{"corpus.yaml", "lifelong.yaml"} {
		for _, o := range objects(f, file) {
			text, err := json.Marshal(o)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	h := start(f, f.TempDir(), newRecorded())
	f.Fuzz(func(t *testing.T, text []byte) {
		var o map[string]any
		if json.Unmarshal(text, &o) != nil {
			return
		}
		for _, k := range h.Kinds() {
			h.apply(k, o, time.Now(), false)
		}
		page, err := h.Jobs(learning.JobQuery{Deleted: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			d, err := h.Job(j.Namespace, j.Kind, j.Name, j.UID)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := json.Marshal(d); err != nil {
				t.Fatal(err)
			}
		}
		if wrong := h.sink.wrong(); len(wrong) > 0 {
			t.Error(wrong)
		}
		for _, k := range h.Kinds() {
			h.Handle(t.Context(), resource.Event{Type: resource.Deleted, Kind: k, Object: o, Received: time.Now()})
		}
	})
}
