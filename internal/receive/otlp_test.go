// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/periplus-io/periplus/internal/receive"
)

// otlpMetrics has a resource with a good gauge, and what fill adds.
func otlpMetrics(now time.Time, fill func(pmetric.MetricSlice)) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "trainer")
	rm.Resource().Attributes().PutStr("service.instance.id", "edge-1")
	rm.Resource().Attributes().PutStr("gpu", "none")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	gauge(ms, "learning.peer.accuracy", now, 0.75)
	if fill != nil {
		fill(ms)
	}
	return md
}

func gauge(ms pmetric.MetricSlice, name string, at time.Time, v float64) pmetric.NumberDataPoint {
	m := ms.AppendEmpty()
	m.SetName(name)
	dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
	dp.SetTimestamp(pcommon.NewTimestampFromTime(at))
	dp.SetDoubleValue(v)
	return dp
}

func (i *intake) otlp(md pmetric.Metrics, json bool) (int, pmetricotlp.ExportResponse, string) {
	i.t.Helper()
	req, contentType := pmetricotlp.NewExportRequestFromMetrics(md), typeV1
	encode := req.MarshalProto
	if json {
		encode, contentType = req.MarshalJSON, "application/json"
	}
	body, err := encode()
	if err != nil {
		i.t.Fatal(err)
	}
	w := i.post("/api/v1/otlp/v1/metrics", body, map[string]string{"Content-Type": contentType})
	answer := pmetricotlp.NewExportResponse()
	if w.Code == http.StatusOK {
		check(i.t, w.Header().Get("Content-Type"), contentType)
		decode := answer.UnmarshalProto
		if json {
			decode = answer.UnmarshalJSON
		}
		if err := decode(w.Body.Bytes()); err != nil {
			i.t.Fatal(err)
		}
	}
	return w.Code, answer, w.Body.String()
}

func TestOTLPStoresMetricsAndTargetInfo(t *testing.T) {
	now := time.Now()
	for _, json := range []bool{false, true} {
		i := newIntake(t, receive.DefaultConfig())
		code, answer, text := i.otlp(otlpMetrics(now, func(ms pmetric.MetricSlice) {
			m := ms.AppendEmpty()
			m.SetName("trainings")
			sum := m.SetEmptySum()
			sum.SetIsMonotonic(true)
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			dp := sum.DataPoints().AppendEmpty()
			dp.SetTimestamp(pcommon.NewTimestampFromTime(now))
			dp.SetIntValue(7)
		}), json)
		check(t, code, http.StatusOK)
		check(t, answer.PartialSuccess().RejectedDataPoints(), int64(0))
		if t.Failed() {
			t.Fatal(text)
		}
		ms := now.UnixMilli()
		check(t, i.stored(), []string{
			fmt.Sprintf(`{__name__="learning_peer_accuracy", instance="edge-1", job="trainer"} %d 0.75`, ms),
			fmt.Sprintf(`{__name__="target_info", gpu="none", instance="edge-1", job="trainer"} %d 1`, ms),
			fmt.Sprintf(`{__name__="trainings_total", instance="edge-1", job="trainer"} %d 7`, ms),
		})
		check(t, i.counter("periplus_receive_samples_total", "otlp"), 3.0)
	}
}

// What cannot be stored is named in a partial success; the rest is stored.
func TestOTLPPartialSuccess(t *testing.T) {
	now := time.Now()
	tests := map[string]struct {
		fill   func(pmetric.MetricSlice)
		text   string
		reason string
	}{
		"future": {func(ms pmetric.MetricSlice) { gauge(ms, "ahead", now.Add(time.Hour), 1) }, "future", "out_of_bounds"},
		"delta": {func(ms pmetric.MetricSlice) {
			m := ms.AppendEmpty()
			m.SetName("steps")
			m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			m.Sum().DataPoints().AppendEmpty().SetTimestamp(pcommon.NewTimestampFromTime(now))
		}, "Delta", "delta"},
		"not UTF-8": {func(ms pmetric.MetricSlice) {
			gauge(ms, "odd", now, 1).Attributes().PutStr("path", "\xff\xfe")
		}, "not UTF-8", "invalid_labels"},
		"no type": {func(ms pmetric.MetricSlice) { ms.AppendEmpty().SetName("nothing") }, "unsupported metric type", "untranslatable"},
		"no name": {func(ms pmetric.MetricSlice) { gauge(ms, "", now, 1) }, "", "untranslatable"},
		"huge label": {func(ms pmetric.MetricSlice) {
			gauge(ms, "big", now, 1).Attributes().PutStr("x", strings.Repeat("y", 70_000))
		}, "exceed", "invalid_labels"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			i := newIntake(t, receive.DefaultConfig())
			code, answer, text := i.otlp(otlpMetrics(now, test.fill), false)
			if code != http.StatusOK {
				t.Fatalf("got %d %s", code, text)
			}
			if n := answer.PartialSuccess().RejectedDataPoints(); n < 1 {
				t.Errorf("%d points rejected, want 1 or more", n)
			}
			if !strings.Contains(answer.PartialSuccess().ErrorMessage(), test.text) {
				t.Errorf("message %q lacks %q", answer.PartialSuccess().ErrorMessage(), test.text)
			}
			good := fmt.Sprintf(`{__name__="learning_peer_accuracy", instance="edge-1", job="trainer"} %d 0.75`, now.UnixMilli())
			if !slices.Contains(i.stored(), good) {
				t.Errorf("the good sample is not stored: %q", i.stored())
			}
			check(t, i.counter("periplus_receive_samples_refused_total", test.reason) >= 1, true)
		})
	}
}

func TestOTLPStoreErrorUndoesTheRequest(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	code, _, _ := i.otlp(otlpMetrics(time.Now(), func(ms pmetric.MetricSlice) { gauge(ms, brokenSeries, time.Now(), 1) }), false)
	check(t, code, http.StatusInternalServerError)
	check(t, i.stored(), []string(nil))
}

// target_info is repeated between a resource's oldest and newest point: two points decades apart must not
// make the hub write millions of samples.
func TestOTLPTimeSpanIsBounded(t *testing.T) {
	i := newIntake(t, receive.DefaultConfig())
	code, _, text := i.otlp(otlpMetrics(time.Now(), func(ms pmetric.MetricSlice) { gauge(ms, "old", time.Unix(1, 0), 1) }), false)
	check(t, code, http.StatusRequestEntityTooLarge)
	if !strings.Contains(text, "more than") {
		t.Errorf("got %q", text)
	}
}
