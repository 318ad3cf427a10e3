// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"iter"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// families groups samples, ordered by name, into metric families. A name whose series are of several types
// gives a family for each run of a type, which Prometheus reads without complaint. The type of floats is
// not known to the store: they are untyped. A family is valid until the next one is asked for.
func (a *API) families(found []latest, external []*dto.LabelPair, format expfmt.FormatType) iter.Seq[*dto.MetricFamily] {
	native := format == expfmt.TypeProtoDelim || format == expfmt.TypeProtoText || format == expfmt.TypeProtoCompact
	sent, leftOut := a.metrics.federate.WithLabelValues("sent"), a.metrics.federate.WithLabelValues("histogram_in_text")
	return func(yield func(*dto.MetricFamily) bool) {
		var family *dto.MetricFamily
		for _, s := range found {
			if s.hist != nil && !native && !s.hist.UsesCustomBuckets() {
				leftOut.Inc() // the text format has no native histograms
				continue
			}
			kind := familyType(s.hist)
			if family == nil || family.GetName() != s.name || family.GetType() != kind {
				if family != nil && !yield(family) {
					return
				}
				family = &dto.MetricFamily{Name: new(s.name), Type: kind.Enum()}
			}
			family.Metric = append(family.Metric, metric(s, external))
			sent.Inc()
		}
		if family != nil {
			yield(family)
		}
	}
}

func familyType(h *histogram.FloatHistogram) dto.MetricType {
	switch {
	case h == nil:
		return dto.MetricType_UNTYPED
	case h.CounterResetHint == histogram.GaugeType:
		return dto.MetricType_GAUGE_HISTOGRAM
	default:
		return dto.MetricType_HISTOGRAM
	}
}

func metric(s latest, external []*dto.LabelPair) *dto.Metric {
	m := &dto.Metric{TimestampMs: new(s.time)}
	s.labels.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && l.Value != "" {
			m.Label = append(m.Label, pair(l.Name, l.Value))
		}
	})
	for _, p := range external {
		if !s.labels.Has(p.GetName()) {
			m.Label = append(m.Label, p)
		}
	}
	switch {
	case s.hist == nil:
		m.Untyped = &dto.Untyped{Value: new(s.value)}
	case s.hist.UsesCustomBuckets():
		m.Histogram = classicHistogram(s.hist)
	default:
		m.Histogram = nativeHistogram(s.hist)
	}
	return m
}

// nativeHistogram is a histogram of exponential schema in the exposition's form.
func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: new(h.Count),
		SampleSum:        new(h.Sum),
		Schema:           new(h.Schema),
		ZeroThreshold:    new(h.ZeroThreshold),
		ZeroCountFloat:   new(h.ZeroCount),
		PositiveSpan:     spans(h.PositiveSpans),
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     spans(h.NegativeSpans),
		NegativeCount:    h.NegativeBuckets,
	}
}

func spans(from []histogram.Span) []*dto.BucketSpan {
	to := make([]*dto.BucketSpan, len(from))
	for i, s := range from {
		to[i] = &dto.BucketSpan{Offset: new(s.Offset), Length: new(s.Length)}
	}
	return to
}

// classicHistogram is a histogram with custom bounds as cumulative buckets; the one up to +Inf is implied.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	counts := make([]float64, len(h.CustomValues))
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); b.Index >= 0 && int(b.Index) < len(counts) {
			counts[b.Index] = b.Count
		}
	}
	out := &dto.Histogram{SampleCountFloat: new(h.Count), SampleSum: new(h.Sum)}
	cumulative := 0.0
	for i, bound := range h.CustomValues {
		cumulative += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: new(bound), CumulativeCountFloat: new(cumulative)})
	}
	return out
}
