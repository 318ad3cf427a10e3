// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

// TestAnUnreadableBlockDoesNotTakeTheOthersAlong damages one of two blocks.
func TestAnUnreadableBlockDoesNotTakeTheOthersAlong(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"index cut":     func(dir string) error { return os.Truncate(dir+"/index", 100) },
		"no meta.json":  func(dir string) error { return os.Remove(dir + "/meta.json") },
		"bad meta.json": func(dir string) error { return os.WriteFile(dir+"/meta.json", []byte("?"), 0o600) },
		"other block":   func(dir string) error { return os.Rename(dir, filepath.Dir(dir)+"/00000000000000000000000001") },
	} {
		t.Run(name, func(t *testing.T) {
			dir, now := t.TempDir(), time.Now()
			d := open(t, dir)
			for days := range 2 {
				at := now.Add(-time.Duration(20+5*days) * 24 * time.Hour)
				if err := d.KeepStore().Backfill(t.Context(), []wire.Sample{stage("Train", at, 1)}); err != nil {
					t.Fatal(err)
				}
				eventually(t, "a block", func() bool { return d.Status().Pending == 0 && d.Status().Blocks == days+1 })
			}
			d.stop()
			blocks, err := filepath.Glob(dir + "/01*")
			if err != nil || len(blocks) != 2 {
				t.Fatal(blocks, err)
			}
			if err := damage(blocks[0]); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			d = open(t, dir, func(o *metricdb.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			if got := d.Status().Blocks; got != 1 {
				t.Errorf("got %d blocks, want the good one", got)
			}
			if got := d.value(t, "count_over_time(learning_job_stage[30d])", now); got != "1" {
				t.Errorf("got %s samples, want 1", got)
			}
			d.stop()
			aside, err := filepath.Glob(dir + "/*.corrupt")
			if err != nil || len(aside) != 1 || !strings.Contains(log.String(), aside[0]) {
				t.Errorf("put aside: %v, %v; log:\n%s", aside, err, &log)
			}
		})
	}
}

// TestTheLogKnowsASeriesBeforeItsSamples has two appenders meet in a series that neither has logged.
func TestTheLogKnowsASeriesBeforeItsSamples(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	store, now := d.KeepStore(), time.Now()
	series := labels.FromStrings("__name__", "met")
	if _, err := store.Append(0, series, now.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- store.Backfill(t.Context(), []wire.Sample{{Labels: series, Time: now.Add(-time.Hour).UnixMilli(), Value: 1}})
	}()
	select {
	case <-done:
		t.Fatal("back-fill went before the batch that has the series")
	case <-time.After(100 * time.Millisecond):
	}
	if err := store.Cut()(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d.stop()
	if got := open(t, dir).value(t, "count_over_time(met[2h])", now); got != "2" {
		t.Errorf("after a restart there are %s samples, want 2", got)
	}
}
