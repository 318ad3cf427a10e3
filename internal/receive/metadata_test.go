// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/periplus-io/periplus/internal/receive"
)

func TestSendersDescribeTheirMetrics(t *testing.T) {
	limits := receive.DefaultConfig()
	limits.Metadata = 4
	i := newIntake(t, limits)
	now := time.Now()
	message, err := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{MetricFamilyName: "learning_peer_loss", Type: prompb.MetricMetadata_GAUGE, Help: "loss\xff"},
		{MetricFamilyName: "", Type: prompb.MetricMetadata_GAUGE},
		{MetricFamilyName: "silent"},
	}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	check(t, i.write(typeV1, message).Code, http.StatusNoContent)
	body := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		mk := func(name string, kind writev2.Metadata_MetricType, help string) writev2.TimeSeries {
			return writev2.TimeSeries{
				LabelsRefs: s.SymbolizeLabels(labels.FromStrings("__name__", name), nil),
				Samples:    []writev2.Sample{{Timestamp: now.UnixMilli()}},
				Metadata:   writev2.Metadata{Type: kind, HelpRef: s.Symbolize(help), UnitRef: s.Symbolize("seconds")},
			}
		}
		return []writev2.TimeSeries{
			mk("training_seconds_bucket", writev2.Metadata_METRIC_TYPE_HISTOGRAM, "how long"),
			mk("training_seconds_sum", writev2.Metadata_METRIC_TYPE_HISTOGRAM, "how long"),
			mk("long", writev2.Metadata_METRIC_TYPE_UNSPECIFIED, strings.Repeat("x", 5000)),
		}
	})
	check(t, i.write(typeV2, body).Code, http.StatusNoContent)
	code, _, _ := i.otlp(otlpMetrics(now, func(ms pmetric.MetricSlice) {
		m := ms.AppendEmpty()
		m.SetName("rounds")
		m.SetDescription("rounds so far")
		m.SetEmptySum().SetIsMonotonic(true)
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		m.Sum().DataPoints().AppendEmpty().SetTimestamp(pcommon.NewTimestampFromTime(now))
	}), false)
	check(t, code, http.StatusOK)
	got := maps.Collect(i.receiver.Metadata)
	check(t, got["learning_peer_loss"], metadata.Metadata{Type: model.MetricTypeGauge, Help: "loss\uFFFD"})
	check(t, got["training_seconds"], metadata.Metadata{Type: model.MetricTypeHistogram, Unit: "seconds", Help: "how long"})
	check(t, len(got["long"].Help), 1024)
	check(t, len(got), 4) // the limit: one of OTLP's three found room

	bad := v2(t, func(s *writev2.SymbolsTable) []writev2.TimeSeries {
		return []writev2.TimeSeries{{
			LabelsRefs: s.SymbolizeLabels(labels.FromStrings("__name__", fmt.Sprint("new", now.UnixNano())), nil),
			Samples:    []writev2.Sample{{Timestamp: now.UnixMilli()}},
			Metadata:   writev2.Metadata{HelpRef: 99},
		}}
	})
	check(t, i.write(typeV2, bad).Code, http.StatusBadRequest)
}
