// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/periplus-io/periplus/internal/receive"
)

// BenchmarkWrite sends requests of 2,000 samples of known series to our intake and to Prometheus' own
// handler, each on a store of its own.
func BenchmarkWrite(b *testing.B) {
	const perRequest = 2000
	for _, contentType := range []string{typeV1, typeV2} {
		for _, whose := range []string{"ours", "prometheus"} {
			version := map[string]string{typeV1: "v1", typeV2: "v2"}[contentType]
			b.Run(version+"/"+whose, func(b *testing.B) {
				db, err := tsdb.Open(b.TempDir(), slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = db.Close() }()
				db.DisableCompactions()
				mux := http.NewServeMux()
				if whose == "ours" {
					r, err := receive.New(receive.Options{
						Log: slog.New(slog.DiscardHandler), RemoteWrite: db, OTLP: db, Prometheus: func() config.Config { return config.Config{} }, Limits: receive.DefaultConfig(),
					})
					if err != nil {
						b.Fatal(err)
					}
					r.Register(mux)
				} else {
					accepted := remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}
					mux.Handle("/api/v1/write", remote.NewWriteHandler(slog.New(slog.DiscardHandler), nil, db, accepted, false, false, false))
				}
				begin := time.Now().UnixMilli()
				n := int64(0)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					body := benchRequest(b, contentType, perRequest, begin+n)
					n++
					b.StartTimer()
					req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
					req.Header.Set("Content-Type", contentType)
					req.Header.Set("Content-Encoding", "snappy")
					w := httptest.NewRecorder()
					mux.ServeHTTP(w, req)
					if w.Code != http.StatusNoContent {
						b.Fatalf("answer %d: %s", w.Code, w.Body)
					}
				}
				b.ReportMetric(float64(perRequest)*float64(n)/b.Elapsed().Seconds(), "samples/s")
			})
		}
	}
}

func benchRequest(b *testing.B, contentType string, samples int, at int64) []byte {
	b.Helper()
	table := writev2.NewSymbolTable()
	v1, v2 := &prompb.WriteRequest{}, &writev2.Request{}
	for n := range samples {
		ls := labels.FromStrings("__name__", fmt.Sprint("learning_worker_train_loss_", n%50), "cluster", "shore", "instance", fmt.Sprint("10.42.0.", n%250, ":9100"),
			"job", "peers", "job_kind", "LifelongLearningJob", "job_name", fmt.Sprint("job-", n/100), "namespace", fmt.Sprint("team-", n%7), "worker", fmt.Sprint("worker-", n))
		v1.Timeseries = append(v1.Timeseries, prompb.TimeSeries{Labels: prompb.FromLabels(ls, nil), Samples: []prompb.Sample{{Timestamp: at, Value: float64(n)}}})
		v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{LabelsRefs: table.SymbolizeLabels(ls, nil), Samples: []writev2.Sample{{Timestamp: at, Value: float64(n)}}})
	}
	v2.Symbols = table.Symbols()
	message, err := v1.Marshal()
	if contentType == typeV2 {
		message, err = v2.Marshal()
	}
	if err != nil {
		b.Fatal(err)
	}
	return snappy.Encode(nil, message)
}
