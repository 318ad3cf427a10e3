// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"

	"github.com/periplus-io/periplus/internal/receive"
)

// notebook is a store that writes down what it is given.
type notebook struct{ lines []string }

func (n *notebook) Appender(context.Context) storage.Appender   { return page{notebook: n} }
func (*notebook) AppenderV2(context.Context) storage.AppenderV2 { return nil } // remote write asks for none

// page is a notebook's appender. The methods that it inherits from nil are not called.
type page struct {
	storage.Appender
	*notebook
}

func (page) Commit() error     { return nil }
func (n page) Rollback() error { n.lines = nil; return nil }

func (n page) Append(_ storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	n.lines = append(n.lines, fmt.Sprint(ls, t, math.Float64bits(v)))
	return 1, nil
}

func (n page) AppendHistogram(_ storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	n.lines = append(n.lines, fmt.Sprint(ls, t, h != nil, fh != nil))
	return 1, nil
}

func (n page) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 1, nil
}

// decode gives a message to a fresh receiver twice, the second time out of its cache, and returns what
// reached the store.
func decode(t *testing.T, contentType string, message []byte) (status int, lines []string) {
	t.Helper()
	store := &notebook{}
	r, err := receive.New(receive.Options{
		Log: slog.New(slog.DiscardHandler), RemoteWrite: store, OTLP: store, Prometheus: func() config.Config { return config.Config{} }, Limits: receive.DefaultConfig(),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.Register(mux)
	var first []string
	for n := range 2 {
		first, store.lines = store.lines, nil
		req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, message)))
		req.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req)
		if n == 1 {
			if diff := cmp.Diff(first, store.lines); diff != "" {
				t.Errorf("the cache changes what is stored (-first +second):\n%s", diff)
			}
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("a message made the intake answer %d", w.Code)
			}
		}
		status = w.Code
	}
	return status, store.lines
}

// acceptable says whether labels that a generated decoder made are to be stored, and as what.
func acceptable(ls labels.Labels) (labels.Labels, bool) {
	_, dup := ls.HasDuplicateLabelNames()
	ls = ls.WithoutEmpty()
	size := 0
	ls.Range(func(l labels.Label) { size += len(l.Name) + len(l.Value) })
	return ls, !dup && ls.Has(model.MetricNameLabel) && ls.IsValid(model.UTF8Validation) && size <= receive.DefaultConfig().MaxLabels
}

// Whatever the generated decoder makes of a message, ours makes the same of its canonical form, and ours
// survives the message as it is.
func FuzzDecodeV1(f *testing.F) {
	seed, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:    []prompb.Label{{Name: "__name__", Value: "a"}, {Name: "b", Value: "c"}},
		Samples:   []prompb.Sample{{Timestamp: 1, Value: 2}, {Timestamp: -3}},
		Exemplars: []prompb.Exemplar{{Value: 1}},
	}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, message []byte) {
		decode(t, typeV1, message)
		var req prompb.WriteRequest
		if req.Unmarshal(message) != nil {
			return
		}
		var want []string
		b := labels.NewScratchBuilder(0)
		for n, ts := range req.Timeseries {
			req.Timeseries[n].Histograms = nil // their values are checked by the store
			if ls, ok := acceptable(ts.ToLabels(&b, nil)); ok {
				for _, s := range ts.Samples {
					want = append(want, fmt.Sprint(ls, s.Timestamp, math.Float64bits(s.Value)))
				}
			}
		}
		req.XXX_unrecognized = nil // fields of the other version are refused
		canonical, err := req.Marshal()
		if err != nil {
			return
		}
		if _, got := decode(t, typeV1, canonical); !cmp.Equal(got, want) {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	})
}

func FuzzDecodeV2(f *testing.F) {
	table := writev2.NewSymbolTable()
	seed := &writev2.Request{Timeseries: []writev2.TimeSeries{{
		LabelsRefs: table.SymbolizeLabels(labels.FromStrings("__name__", "a", "b", "c"), nil),
		Samples:    []writev2.Sample{{Timestamp: 1, Value: 2}, {Timestamp: -3}},
		Exemplars:  []writev2.Exemplar{{Value: 1}},
	}}}
	seed.Symbols = table.Symbols()
	b, err := seed.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, message []byte) {
		decode(t, typeV2, message)
		var req writev2.Request
		if req.Unmarshal(message) != nil || len(req.Symbols) == 0 || req.Symbols[0] != "" {
			return
		}
		var want []string
		b := labels.NewScratchBuilder(0)
		for n, ts := range req.Timeseries {
			req.Timeseries[n].Histograms, req.Timeseries[n].Exemplars = nil, nil
			ls, err := ts.ToLabels(&b, req.Symbols)
			if err != nil {
				continue
			}
			if ls, ok := acceptable(ls); ok {
				for _, s := range ts.Samples {
					want = append(want, fmt.Sprint(ls, s.Timestamp, math.Float64bits(s.Value)))
				}
			}
		}
		req.XXX_unrecognized = nil // fields of the other version are refused
		canonical, err := req.Marshal()
		if err != nil {
			return
		}
		if _, got := decode(t, typeV2, canonical); !cmp.Equal(got, want) {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	})
}
