// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/periplus-io/periplus/internal/receive"
)

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// intake is a receiver on a real TSDB behind a real listener-less server.
type intake struct {
	t        *testing.T
	db       *tsdb.DB
	mux      *http.ServeMux
	registry *prometheus.Registry
	receiver *receive.Receiver
}

func newIntake(t *testing.T, limits receive.Config) *intake {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	o.EnableExemplarStorage, o.MaxExemplars = true, 100
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	i := &intake{t: t, db: db, mux: http.NewServeMux(), registry: prometheus.NewRegistry()}
	cfg, err := config.Load("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, err := receive.New(receive.Options{
		Log:         slog.New(slog.DiscardHandler),
		Registry:    i.registry,
		RemoteWrite: futureGate{db}, OTLP: futureGate{db},
		Prometheus: func() config.Config { return *cfg },
		Limits:     limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Register(i.mux)
	i.receiver = r
	return i
}

// post sends a body and returns the answer.
func (i *intake) post(path string, body []byte, header map[string]string) *httptest.ResponseRecorder {
	i.t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	for k, v := range header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	i.mux.ServeHTTP(w, req)
	return w
}

func (i *intake) write(contentType string, message []byte) *httptest.ResponseRecorder {
	i.t.Helper()
	return i.post("/api/v1/write", snappy.Encode(nil, message), map[string]string{"Content-Type": contentType, "Content-Encoding": "snappy"})
}

// stored returns every float sample of the store as "series time value" and every histogram as "series
// time histogram".
func (i *intake) stored() []string {
	i.t.Helper()
	q, err := i.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(i.t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	var (
		found []string
		it    chunkenc.Iterator
	)
	for set.Next() {
		it = set.At().Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if vt == chunkenc.ValFloat {
				t, v := it.At()
				found = append(found, fmt.Sprint(set.At().Labels(), " ", t, " ", v))
				continue
			}
			t, h := it.AtFloatHistogram(nil)
			found = append(found, fmt.Sprint(set.At().Labels(), " ", t, " histogram of ", h.Count))
		}
	}
	if err := set.Err(); err != nil {
		i.t.Fatal(err)
	}
	return found
}

// counter reads one of the room's counters.
func (i *intake) counter(name, labelValue string) float64 {
	i.t.Helper()
	families, err := i.registry.Gather()
	if err != nil {
		i.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (labelValue == "" || slices.ContainsFunc(m.GetLabel(), func(l *labelPair) bool { return l.GetValue() == labelValue })) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func v1(t *testing.T, series ...prompb.TimeSeries) []byte {
	t.Helper()
	b, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func series(name string, samples ...prompb.Sample) prompb.TimeSeries {
	return prompb.TimeSeries{
		Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "peer", Value: "a"}},
		Samples: samples,
	}
}

// v2 encodes series with a fresh symbol table.
func v2(t *testing.T, fill func(symbols *writev2.SymbolsTable) []writev2.TimeSeries) []byte {
	t.Helper()
	table := writev2.NewSymbolTable()
	req := &writev2.Request{Timeseries: fill(&table)}
	req.Symbols = table.Symbols()
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteV1StoresFloatsHistogramsAndExemplars(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	s := series("learning_peer_loss", prompb.Sample{Timestamp: now, Value: 0.5}, prompb.Sample{Timestamp: now + 1})
	s.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}}, Value: 1, Timestamp: now}}
	h := series("learning_peer_training_seconds")
	h.Histograms = []prompb.Histogram{
		prompb.FromIntHistogram(now, tsdbutil.GenerateTestHistogram(1)),
		prompb.FromFloatHistogram(now+1, tsdbutil.GenerateTestFloatHistogram(2)),
	}
	for range 2 { // the second time out of the series cache, as equal duplicates
		if w := i.write(typeV1, v1(t, s, h)); w.Code != http.StatusNoContent {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	check(t, i.stored(), []string{
		fmt.Sprintf(`{__name__="learning_peer_loss", peer="a"} %d 0.5`, now),
		fmt.Sprintf(`{__name__="learning_peer_loss", peer="a"} %d 0`, now+1),
		fmt.Sprintf(`{__name__="learning_peer_training_seconds", peer="a"} %d histogram of 21`, now),
		fmt.Sprintf(`{__name__="learning_peer_training_seconds", peer="a"} %d histogram of 30`, now+1),
	})
	check(t, i.counter("periplus_receive_exemplars_total", "") >= 1, true)
	check(t, i.counter("periplus_receive_requests_total", "2xx"), 2.0)
}

func TestWriteV2StoresAndReportsWhatWasWritten(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	body := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		ls := labels.FromStrings("__name__", "learning_peer_round", "peer", "ä")
		return []writev2.TimeSeries{
			{
				LabelsRefs: s.SymbolizeLabels(ls, nil),
				Samples:    []writev2.Sample{{Timestamp: now, Value: 3}, {Timestamp: now + 1, Value: 4, StartTimestamp: now - 1000}},
				Exemplars:  []writev2.Exemplar{{LabelsRefs: s.SymbolizeLabels(labels.FromStrings("trace_id", "y"), nil), Value: 1, Timestamp: now}},
				Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: s.Symbolize("help")},
			},
			{
				LabelsRefs: s.SymbolizeLabels(labels.FromStrings("__name__", "h"), nil),
				Histograms: []writev2.Histogram{writev2.FromIntHistogram(0, now, tsdbutil.GenerateTestHistogram(1))},
			},
		}
	})
	w := i.write(typeV2, body)
	check(t, w.Code, http.StatusNoContent)
	for header, want := range map[string]string{"Samples": "2", "Histograms": "1", "Exemplars": "1"} {
		check(t, w.Header().Get("X-Prometheus-Remote-Write-"+header+"-Written"), want)
	}
	check(t, i.stored(), []string{
		fmt.Sprintf(`{__name__="h"} %d histogram of 21`, now),
		fmt.Sprintf(`{__name__="learning_peer_round", peer="ä"} %d 3`, now),
		fmt.Sprintf(`{__name__="learning_peer_round", peer="ä"} %d 4`, now+1),
	})
}

// One refused sample must not cost the sender the others, nor may it be refused silently.
func TestRefusedSampleLeavesTheRestStored(t *testing.T) {
	now := time.Now().UnixMilli()
	future := now + time.Hour.Milliseconds()
	bodies := map[string][]byte{
		typeV1: v1(t,
			series("b", prompb.Sample{Timestamp: future, Value: 2}, prompb.Sample{Timestamp: now, Value: 3}),
			series("c", prompb.Sample{Timestamp: now - 2*time.Hour.Milliseconds(), Value: 4}),
			series("a", prompb.Sample{Timestamp: now, Value: 5}),
			series("d", prompb.Sample{Timestamp: now, Value: 6})),
		typeV2: v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
			mk := func(name string, samples ...writev2.Sample) writev2.TimeSeries {
				return writev2.TimeSeries{LabelsRefs: s.SymbolizeLabels(labels.FromStrings("__name__", name, "peer", "a"), nil), Samples: samples}
			}
			return []writev2.TimeSeries{
				mk("b", writev2.Sample{Timestamp: future, Value: 2}, writev2.Sample{Timestamp: now, Value: 3}),
				mk("c", writev2.Sample{Timestamp: now - 2*time.Hour.Milliseconds(), Value: 4}),
				mk("a", writev2.Sample{Timestamp: now, Value: 5}),
				mk("d", writev2.Sample{Timestamp: now, Value: 6}),
			}
		}),
	}
	for contentType, body := range bodies {
		t.Run(contentType, func(t *testing.T) {
			i := newIntake(t, receive.DefaultConfig())
			check(t, i.write(typeV1, v1(t, series("a", prompb.Sample{Timestamp: now, Value: 1}))).Code, http.StatusNoContent)
			w := i.write(contentType, body)
			check(t, w.Code, http.StatusBadRequest)
			for _, want := range []string{"3 samples refused", "future", `{__name__="b", peer="a"}`} {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("answer %q lacks %q", w.Body, want)
				}
			}
			check(t, i.stored(), []string{
				fmt.Sprintf(`{__name__="a", peer="a"} %d 1`, now),
				fmt.Sprintf(`{__name__="b", peer="a"} %d 3`, now),
				fmt.Sprintf(`{__name__="d", peer="a"} %d 6`, now),
			})
			check(t, i.counter("periplus_receive_samples_refused_total", "out_of_bounds"), 1.0)
			check(t, i.counter("periplus_receive_samples_refused_total", "duplicate"), 1.0)
			check(t, i.counter("periplus_receive_samples_refused_total", "too_old"), 1.0)
		})
	}
}

func TestStoreErrorUndoesTheRequest(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	w := i.write(typeV1, v1(t, series("a", prompb.Sample{Timestamp: now, Value: 1}), series(brokenSeries, prompb.Sample{Timestamp: now, Value: 1})))
	check(t, w.Code, http.StatusInternalServerError)
	check(t, i.stored(), []string(nil))
}

// Labels in an unusual place of the message are still the series' labels.
func TestLabelsAfterSamplesAreRead(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	first := v1(t, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "late"}}, Samples: []prompb.Sample{{Timestamp: now, Value: 1}}})
	inner := first[2:] // one series: tag, length, content
	second, err := (&prompb.TimeSeries{Labels: []prompb.Label{{Name: "peer", Value: "z"}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	inner = append(slices.Clone(inner), second...)
	message := append([]byte{0x0a, byte(len(inner))}, inner...)
	if w := i.write(typeV1, message); w.Code != http.StatusNoContent {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	check(t, i.stored(), []string{fmt.Sprintf(`{__name__="late", peer="z"} %d 1`, now)})
}

// Writers on the same series at a time each get their samples stored, once.
func TestConcurrentWritersShareSeries(t *testing.T) {
	const writers, requests = 8, 25
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	var group sync.WaitGroup
	for writer := range writers {
		group.Go(func() {
			for n := range requests {
				at := now - int64(writer*requests+n)
				body := v1(t, series("a", prompb.Sample{Timestamp: at, Value: 1}), series("b", prompb.Sample{Timestamp: at, Value: 2}))
				if w := i.write(typeV1, body); w.Code != http.StatusNoContent {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			}
		})
	}
	group.Wait()
	check(t, len(i.stored()), 2*writers*requests)
	check(t, i.counter("periplus_receive_samples_total", "remote_write"), 2.0*writers*requests)
}

func TestSeriesCacheSurvivesHeadGarbageCollection(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	now := time.Now().UnixMilli()
	old := now - 4*time.Hour.Milliseconds()
	send := func(name string, ts int64) {
		t.Helper()
		if w := i.write(typeV1, v1(t, series(name, prompb.Sample{Timestamp: ts, Value: 1}))); w.Code != http.StatusNoContent {
			t.Fatalf("%s at %d: %d %s", name, ts, w.Code, w.Body)
		}
	}
	send("gone", old)
	send("other", now)
	if err := i.db.CompactHead(tsdb.NewRangeHead(i.db.Head(), old, old+time.Hour.Milliseconds())); err != nil {
		t.Fatal(err)
	}
	if n := i.db.Head().NumSeries(); n != 1 {
		t.Fatalf("the head holds %d series, want 1", n)
	}
	send("gone", now)
	check(t, i.stored()[1], fmt.Sprintf(`{__name__="gone", peer="a"} %d 1`, now))
}

func TestMetricsPassPromlint(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	i.write(typeV1, nil)
	problems, err := testutil.GatherAndLint(i.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("got %v %v", problems, err)
	}
}
