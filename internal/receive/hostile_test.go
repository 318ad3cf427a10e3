// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/periplus-io/periplus/internal/receive"
)

func TestHostileWritesAreRefusedInWords(t *testing.T) {
	limits := receive.DefaultConfig()
	limits.MaxBody, limits.MaxDecoded, limits.MaxSeries, limits.MaxLabels = 64<<10, 256<<10, 3, 1000
	now := time.Now().UnixMilli()
	one := []prompb.Sample{{Timestamp: now, Value: 1}}
	bare := func(pairs ...string) prompb.TimeSeries {
		s := prompb.TimeSeries{Samples: one}
		for n := 0; n < len(pairs); n += 2 {
			s.Labels = append(s.Labels, prompb.Label{Name: pairs[n], Value: pairs[n+1]})
		}
		return s
	}
	lying := binary.AppendUvarint(nil, 200<<10)
	packed := func(message []byte) []byte { return snappy.Encode(nil, message) }
	badSymbols := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		return []writev2.TimeSeries{{LabelsRefs: []uint32{1, 99}, Samples: []writev2.Sample{{Timestamp: now}}}}
	})
	oddSymbols := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		return []writev2.TimeSeries{{LabelsRefs: []uint32{s.Symbolize("__name__")}, Samples: []writev2.Sample{{Timestamp: now}}}}
	})
	noSamples := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		return []writev2.TimeSeries{{LabelsRefs: []uint32{s.Symbolize("__name__"), s.Symbolize("x")}}}
	})
	firstSymbol, err := (&writev2.Request{Symbols: []string{"x"}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		contentType, encoding string
		body                  []byte
		status                int
		text                  string
	}{
		"empty":                  {typeV1, "snappy", nil, 400, "decompress"},
		"text":                   {typeV1, "snappy", []byte("hello, is this the intake?"), 400, ""},
		"gzip for snappy":        {typeV1, "gzip", packed(nil), 415, "only snappy"},
		"json":                   {"application/json", "snappy", []byte("{}"), 415, "only application/x-protobuf"},
		"unknown message":        {typeV1 + ";proto=x.Y", "snappy", packed(nil), 415, `"x.Y"`},
		"unreadable type":        {";;", "snappy", packed(nil), 415, ";;"},
		"large body":             {typeV1, "snappy", make([]byte, 64<<10+1), 413, "exceeds"},
		"bomb":                   {typeV1, "snappy", packed(make([]byte, 300<<10)), 413, "after decompression"},
		"claim larger than sent": {typeV1, "snappy", append(lying, 0, 0), 400, "claimed"},
		"truncated snappy":       {typeV1, "snappy", packed(v1(t, series("a", one...)))[:9], 400, "decompress"},
		"garbage protobuf":       {typeV1, "snappy", packed([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), 400, "decode"},
		"truncated protobuf":     {typeV1, "snappy", packed(v1(t, series("a", one...))[:20]), 400, "decode"},
		"truncated v2":           {typeV2, "snappy", packed(noSamples[:len(noSamples)-1]), 400, "decode"},
		"too many series":        {typeV1, "snappy", packed(v1(t, series("a", one...), series("b", one...), series("c", one...), series("d", one...))), 413, "more than 3 series"},
		"no name":                {typeV1, "snappy", packed(v1(t, bare("peer", "a"))), 400, "no metric name"},
		"empty name":             {typeV1, "snappy", packed(v1(t, bare("__name__", ""))), 400, "no metric name"},
		"twice the same label":   {typeV1, "snappy", packed(v1(t, bare("__name__", "a", "x", "1", "x", "2"))), 400, `"x" appears twice`},
		"label not UTF-8":        {typeV1, "snappy", packed(v1(t, bare("__name__", "a", "x", "\xff\xfe"))), 400, "not UTF-8"},
		"label name not UTF-8":   {typeV1, "snappy", packed(v1(t, bare("__name__", "a", "\xff", "x"))), 400, "not UTF-8"},
		"huge label":             {typeV1, "snappy", packed(v1(t, bare("__name__", "a", "x", strings.Repeat("y", 1001)))), 400, "exceed the limit of 1000"},
		"bad histogram": {typeV1, "snappy", packed(v1(t, prompb.TimeSeries{
			Labels: []prompb.Label{{Name: "__name__", Value: "h"}},
			Histograms: []prompb.Histogram{{
				Timestamp: now, Count: &prompb.Histogram_CountInt{CountInt: 3}, PositiveDeltas: []int64{1, 2, 3},
			}},
		})), 400, "1 samples refused"},
		"unknown schema": {typeV1, "snappy", packed(v1(t, prompb.TimeSeries{
			Labels:     []prompb.Label{{Name: "__name__", Value: "h"}},
			Histograms: []prompb.Histogram{{Timestamp: now, Schema: 2000, Count: &prompb.Histogram_CountInt{}}},
		})), 400, "1 samples refused"},
		"symbol out of range": {typeV2, "snappy", packed(badSymbols), 400, "symbol"},
		"odd references":      {typeV2, "snappy", packed(oddSymbols), 400, "has no value"},
		"no samples":          {typeV2, "snappy", packed(noSamples), 400, "no samples"},
		"2.0 that is 1.0":     {typeV2, "snappy", packed(v1(t, series("a", one...))), 400, "the body is prometheus.WriteRequest"},
		"1.0 that is 2.0":     {typeV1, "snappy", packed(noSamples), 400, "the body is io.prometheus.write.v2.Request"},
		"first symbol":        {typeV2, "snappy", packed(firstSymbol), 400, "first one must be empty"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			i := newIntake(t, limits)
			w := i.post("/api/v1/write", test.body, map[string]string{"Content-Type": test.contentType, "Content-Encoding": test.encoding})
			check(t, w.Code, test.status)
			if !strings.Contains(w.Body.String(), test.text) || w.Body.Len() > 4096 {
				t.Errorf("answer %q, want %q in it", w.Body, test.text)
			}
			check(t, i.stored(), []string(nil))
			refused := i.counter("periplus_receive_requests_refused_total", "") + i.counter("periplus_receive_samples_refused_total", "")
			if refused == 0 {
				t.Error("not counted")
			}
		})
	}
}

func TestHostileOTLPIsRefusedInWords(t *testing.T) {
	limits := receive.DefaultConfig()
	limits.MaxBody, limits.MaxDecoded = 64<<10, 256<<10
	packed := func(b []byte) []byte {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, err := z.Write(b)
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	tests := map[string]struct {
		contentType, encoding string
		body                  []byte
		status                int
		text                  string
	}{
		"text":             {"text/plain", "", []byte("hello"), 415, "only application/x-protobuf"},
		"snappy":           {typeV1, "snappy", []byte("hello"), 415, "only gzip"},
		"not gzip":         {typeV1, "gzip", []byte("hello"), 400, "decompress"},
		"truncated gzip":   {typeV1, "gzip", packed([]byte("hello"))[:15], 400, "read"},
		"bomb":             {typeV1, "gzip", packed(make([]byte, 300<<10)), 413, "after decompression"},
		"large":            {typeV1, "", make([]byte, 64<<10+1), 413, "exceeds"},
		"garbage protobuf": {typeV1, "", []byte("\xff\xff\xff"), 400, "decode"},
		"garbage json":     {"application/json; charset=utf-8", "", []byte("{"), 400, "decode"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			i := newIntake(t, limits)
			w := i.post("/api/v1/otlp/v1/metrics", test.body, map[string]string{"Content-Type": test.contentType, "Content-Encoding": test.encoding})
			check(t, w.Code, test.status)
			if !strings.Contains(w.Body.String(), test.text) {
				t.Errorf("answer %q, want %q in it", w.Body, test.text)
			}
			check(t, i.counter("periplus_receive_requests_refused_total", "") > 0, true)
		})
	}
}

// A request beyond the concurrency limit waits, and is told to come back when its patience ends.
func TestWriteBeyondConcurrencyAnswers503(t *testing.T) {
	limits := receive.DefaultConfig()
	limits.Concurrency, limits.QueueTimeout = 1, 20*time.Millisecond
	i := newIntake(t, limits)
	server := httptest.NewServer(i.mux)
	defer server.Close()

	// A sender that never ends its body holds the only place.
	ctx, cancel := context.WithCancel(t.Context())
	body := &slowBody{reading: make(chan struct{}), ctx: ctx}
	slow, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/v1/write", body)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := server.Client().Do(slow); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-body.reading
	deadline := time.Now().Add(10 * time.Second)
	for {
		w := i.write(typeV1, v1(t, series("a", prompb.Sample{Timestamp: time.Now().UnixMilli(), Value: 1})))
		if w.Code == http.StatusServiceUnavailable {
			check(t, w.Header().Get("Retry-After"), "5")
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d %s, want 503", w.Code, w.Body)
		}
	}
	cancel()
	<-done
}

// A sender that never ends its body does not keep its place.
func TestSlowSenderLosesItsPlace(t *testing.T) {
	limits := receive.DefaultConfig()
	limits.Concurrency, limits.QueueTimeout, limits.BodyTimeout = 1, 10*time.Second, 50*time.Millisecond
	i := newIntake(t, limits)
	server := httptest.NewServer(i.mux)
	defer server.Close()
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if _, err := io.WriteString(connection, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(connection).ReadString('\n') // comes when the hub gives up on the sender
	if err != nil || !strings.Contains(answer, "400") {
		t.Errorf("got %q %v", answer, err)
	}
	w := i.write(typeV1, v1(t, series("a", prompb.Sample{Timestamp: time.Now().UnixMilli(), Value: 1})))
	check(t, w.Code, http.StatusNoContent)
}

// slowBody gives one byte and then nothing until its context ends.
type slowBody struct {
	reading chan struct{}
	ctx     context.Context //nolint:containedctx // the life of the fake sender
	sent    bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.sent {
		b.sent = true
		close(b.reading)
		return copy(p, "x"), nil
	}
	<-b.ctx.Done()
	return 0, fmt.Errorf("sender left: %w", b.ctx.Err())
}
