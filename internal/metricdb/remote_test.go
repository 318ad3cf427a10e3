// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/periplus-io/periplus/internal/metricdb"
)

// sink is a remote-write endpoint that keeps the names it was sent.
type sink struct {
	mu    sync.Mutex
	names map[string]int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	var req prompb.WriteRequest
	if err == nil {
		err = req.Unmarshal(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := labels.NewScratchBuilder(0)
	for _, ts := range req.Timeseries {
		s.names[ts.ToLabels(&b, nil).Get(model.MetricNameLabel)] += len(ts.Samples)
	}
}

func (s *sink) got(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name]
}

func apply(t *testing.T, d *db, yaml string) {
	t.Helper()
	cfg, err := promconfig.Load(yaml, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(cfg, metricdb.DefaultSettings()); err != nil {
		t.Fatal(err)
	}
}

func (d *db) put(t *testing.T, name string, at time.Time, v float64) {
	t.Helper()
	app := d.Appendable("scrape").Appender(t.Context())
	if _, err := app.Append(0, named(name), at.UnixMilli(), v); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestRemoteWriteSendsWhatIsTaken(t *testing.T) {
	s := &sink{names: make(map[string]int)}
	server := httptest.NewServer(s)
	defer server.Close()
	d := open(t, t.TempDir())
	d.put(t, "before", time.Now(), 1)
	apply(t, d, fmt.Sprintf("remote_write:\n- url: %s\n  queue_config: {batch_send_deadline: 100ms}\n  metadata_config: {send: false}\n", server.URL))
	eventually(t, "a sample at the endpoint", func() bool {
		d.put(t, "live", time.Now(), 1)
		return s.got("live") > 0
	})
	d.stop()
}

func TestDeadRemoteWriteDoesNotHoldUpTheStop(t *testing.T) {
	d := open(t, t.TempDir(), func(o *metricdb.Options) { o.FlushDeadline = 100 * time.Millisecond })
	apply(t, d, "remote_write:\n- url: http://127.0.0.1:1/\n")
	d.put(t, "live", time.Now(), 1)
	start := time.Now()
	d.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stop took %s", took)
	}
}

func TestRemoteReadIsMergedAndDoesNotFailQueries(t *testing.T) {
	other := open(t, t.TempDir())
	now := time.Now()
	other.put(t, "far", now, 7)
	server := httptest.NewServer(remote.NewReadHandler(slog.New(slog.DiscardHandler), nil, other.Queryable(),
		func() promconfig.Config { return promconfig.Config{} }, 1e6, 4, 1<<20))
	d := open(t, t.TempDir())
	d.put(t, "near", now, 3)
	apply(t, d, fmt.Sprintf("remote_read:\n- url: %s\n  read_recent: true\n", server.URL))
	if got := d.value(t, "far", now) + d.value(t, "near", now); got != "73" {
		t.Errorf("got %s", got)
	}
	server.Close()
	if got := d.value(t, "far", now) + d.value(t, "near", now); got != "none3" {
		t.Errorf("without the remote: %s", got)
	}
}
