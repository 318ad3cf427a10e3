// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
)

// batch is one remote-write request on its way into the store.
type batch struct {
	r       *Receiver
	app     storage.Appender
	builder labels.ScratchBuilder

	series, samples, histograms, exemplars int
	refusals                               refusals
}

func newBatch(r *Receiver, ctx context.Context) *batch { //nolint:revive // a batch belongs to its receiver first
	return &batch{r: r, app: r.written.Appender(ctx), builder: labels.NewScratchBuilder(16)}
}

// nextSeries counts a series of the request against the limit.
func (b *batch) nextSeries() error {
	b.series++
	if b.series > b.r.limits.MaxSeries {
		return refuse(http.StatusRequestEntityTooLarge, "too_many_series", "request has more than %d series", b.r.limits.MaxSeries)
	}
	return nil
}

// admitLabels checks a decoded label set and makes it the one to store.
func (b *batch) admitLabels(ls labels.Labels) (labels.Labels, error) {
	if name, dup := ls.HasDuplicateLabelNames(); dup {
		return ls, fmt.Errorf("label %q appears twice in %s", name, abbreviate(ls.String()))
	}
	ls = ls.WithoutEmpty()
	if !ls.Has(model.MetricNameLabel) {
		return ls, fmt.Errorf("no metric name in %s", abbreviate(ls.String()))
	}
	if !ls.IsValid(model.UTF8Validation) {
		return ls, fmt.Errorf("metric or label that is not UTF-8 in %s", abbreviate(ls.String()))
	}
	size := 0
	ls.Range(func(l labels.Label) { size += len(l.Name) + len(l.Value) })
	if size > b.r.limits.MaxLabels {
		return ls, fmt.Errorf("labels of %d bytes exceed the limit of %d in %s", size, b.r.limits.MaxLabels, abbreviate(ls.String()))
	}
	return ls, nil
}

// appendSample stores one float sample. An error concerns the whole request.
func (b *batch) appendSample(e *seriesEntry, t int64, v float64) error {
	ref := storage.SeriesRef(e.ref.Load())
	got, err := b.app.Append(ref, e.labels, t, v)
	if err == nil {
		if got != ref {
			e.ref.Store(uint64(got))
		}
		b.samples++
		return nil
	}
	return b.refused(err, e, t)
}

// appendHistogram stores one native histogram in its encoded form, which both message versions share.
func (b *batch) appendHistogram(e *seriesEntry, encoded []byte) error {
	var hp writev2.Histogram
	if err := hp.Unmarshal(encoded); err != nil {
		return malformed("histogram: %w", err)
	}
	var (
		h   *histogram.Histogram
		fh  *histogram.FloatHistogram
		err error
	)
	if hp.IsFloatHistogram() {
		fh = hp.ToFloatHistogram()
		if tooFine(fh.Schema) {
			err = fh.ReduceResolution(histogram.ExponentialSchemaMax)
		}
	} else {
		h = hp.ToIntHistogram()
		if tooFine(h.Schema) {
			err = h.ReduceResolution(histogram.ExponentialSchemaMax)
		}
	}
	if err != nil {
		b.refusals.add(reasonHistogram, 1, fmt.Errorf("%w for %s at %d", err, abbreviate(e.labels.String()), hp.Timestamp))
		return nil
	}
	ref := storage.SeriesRef(e.ref.Load())
	got, err := b.app.AppendHistogram(ref, e.labels, hp.Timestamp, h, fh)
	if err == nil {
		if got != ref {
			e.ref.Store(uint64(got))
		}
		b.histograms++
		return nil
	}
	return b.refused(err, e, hp.Timestamp)
}

// tooFine says whether a schema is of the reserved kind that must be read but not stored.
func tooFine(schema int32) bool {
	return histogram.IsExponentialSchemaReserved(schema) && schema > histogram.ExponentialSchemaMax
}

// appendExemplar stores an exemplar; one that the store does not take is no reason to refuse anything.
func (b *batch) appendExemplar(e *seriesEntry, ex exemplar.Exemplar) {
	if !ex.Labels.IsValid(model.UTF8Validation) {
		return
	}
	if _, err := b.app.AppendExemplar(storage.SeriesRef(e.ref.Load()), e.labels, ex); err == nil {
		b.exemplars++
	}
}

func (b *batch) refused(err error, e *seriesEntry, t int64) error {
	why, soft := reasonOf(err)
	if !soft {
		return fmt.Errorf("append: %w", err)
	}
	b.refusals.add(why, 1, fmt.Errorf("%w for %s at %d", err, abbreviate(e.labels.String()), t))
	return nil
}

// finish commits what was taken, or undoes everything when err is not nil.
func (b *batch) finish(err error) error {
	if err != nil {
		return errors.Join(err, b.app.Rollback())
	}
	if err := b.app.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	b.r.metrics.samples.WithLabelValues(protocolWrite).Add(float64(b.samples + b.histograms))
	b.r.metrics.exemplars.Add(float64(b.exemplars))
	b.refusals.count(b.r.metrics)
	return nil
}

// refusals gathers what the store did not take: counts by reason and the first few texts.
type refusals struct {
	total    int
	byReason map[reason]int
	texts    []string
}

const maxTexts = 10

func (f *refusals) add(why reason, n int, err error) {
	if f.byReason == nil {
		f.byReason = map[reason]int{}
	}
	f.total += n
	f.byReason[why] += n
	if len(f.texts) < maxTexts {
		f.texts = append(f.texts, err.Error())
	}
}

func (f *refusals) count(m *metrics) {
	for why, n := range f.byReason {
		m.refused.WithLabelValues(string(why)).Add(float64(n))
	}
}

// Error is the answer to the sender.
func (f *refusals) Error() string {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%d samples refused, the others are stored", f.total)
	for _, text := range f.texts {
		sb.WriteString("\n")
		sb.WriteString(text)
	}
	if more := f.total - len(f.texts); more > 0 && len(f.texts) == maxTexts {
		fmt.Fprintf(&sb, "\nand %d more", more)
	}
	return strings.ToValidUTF8(sb.String(), "\uFFFD")
}

// abbreviate bounds what a hostile series can put into an answer.
func abbreviate(s string) string {
	const limit = 512
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
