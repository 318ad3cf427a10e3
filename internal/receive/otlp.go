// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	otlptranslator "github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

const (
	mediaProto = "application/x-protobuf"
	mediaJSON  = "application/json"
)

func (r *Receiver) serveOTLP(w http.ResponseWriter, req *http.Request) {
	media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || (media != mediaProto && media != mediaJSON) {
		r.fail(w, refuse(http.StatusUnsupportedMediaType, "content_type",
			"content type %q is not supported, only %s and %s", req.Header.Get("Content-Type"), mediaProto, mediaJSON))
		return
	}
	body, err := r.readGzip(w, req)
	if err != nil {
		r.fail(w, err)
		return
	}
	r.metrics.bytes.WithLabelValues(protocolOTLP).Add(float64(len(body)))
	export := pmetricotlp.NewExportRequest()
	decode := export.UnmarshalProto
	if media == mediaJSON {
		decode = export.UnmarshalJSON
	}
	if err := decode(body); err != nil {
		r.fail(w, refuse(http.StatusBadRequest, "protobuf", "decode OTLP request: %w", err))
		return
	}
	out, err := r.translate(req.Context(), export.Metrics())
	if err != nil {
		r.fail(w, err)
		return
	}
	r.answerOTLP(w, media, out)
}

// translate stores what can be stored of an OTLP request. An error concerns the whole of it.
func (r *Receiver) translate(ctx context.Context, md pmetric.Metrics) (*otlpAppender, error) {
	app := &otlpAppender{AppenderV2: r.otlp.AppenderV2(ctx), r: r}
	app.dropDelta(md)
	converter := otlptranslator.NewPrometheusConverter(app)
	// What does not translate (a name without a legal character, an unknown type) is skipped by the converter
	// and named in err; the rest has been appended.
	annots, err := converter.FromMetrics(ctx, md, r.otlpSettings())
	if fatal := errors.Join(app.fatal, ctx.Err()); fatal != nil {
		return nil, errors.Join(fatal, app.Rollback())
	}
	if err != nil {
		app.refusals.add(reasonOTLP, 1, err)
	}
	warnings, infos := annots.CountWarningsAndInfo()
	r.metrics.warnings.Add(float64(warnings + infos))
	if err := app.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	r.metrics.samples.WithLabelValues(protocolOTLP).Add(float64(app.samples))
	app.refusals.count(r.metrics)
	return app, nil
}

// otlpSettings is the adapter from the configuration's otlp section.
func (r *Receiver) otlpSettings() otlptranslator.Settings {
	c := r.config().OTLPConfig
	return otlptranslator.Settings{
		AddMetricSuffixes:                    c.TranslationStrategy.ShouldAddSuffixes(),
		AllowUTF8:                            !c.TranslationStrategy.ShouldEscape(),
		PromoteResourceAttributes:            otlptranslator.NewPromoteResourceAttributes(c),
		KeepIdentifyingResourceAttributes:    c.KeepIdentifyingResourceAttributes,
		ConvertHistogramsToNHCB:              c.ConvertHistogramsToNHCB,
		PromoteScopeMetadata:                 c.PromoteScopeMetadata,
		LookbackDelta:                        r.lookback,
		LabelNameUnderscoreSanitization:      c.LabelNameUnderscoreSanitization,
		LabelNamePreserveMultipleUnderscores: c.LabelNamePreserveMultipleUnderscores,
	}
}

// answerOTLP tells the sender what was stored, in its own encoding.
func (r *Receiver) answerOTLP(w http.ResponseWriter, media string, app *otlpAppender) {
	answer := pmetricotlp.NewExportResponse()
	if app.refusals.total > 0 {
		answer.PartialSuccess().SetRejectedDataPoints(int64(app.refusals.total))
		answer.PartialSuccess().SetErrorMessage(app.refusals.Error())
	}
	encode := answer.MarshalProto
	if media == mediaJSON {
		encode = answer.MarshalJSON
	}
	body, err := encode()
	if err != nil {
		r.fail(w, fmt.Errorf("encode answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // the sender is gone: nothing to do
}

// readGzip reads the body, compressed or not, within the limits.
func (r *Receiver) readGzip(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if req.ContentLength > r.limits.MaxBody {
		return nil, refuse(http.StatusRequestEntityTooLarge, "too_large", "request of %d bytes exceeds the limit of %d", req.ContentLength, r.limits.MaxBody)
	}
	var in io.Reader = http.MaxBytesReader(w, req.Body, r.limits.MaxBody)
	switch enc := req.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "gzip", "decompress request: %w", err)
		}
		in = z
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "encoding", "content encoding %q is not supported, only gzip", enc)
	}
	body, err := io.ReadAll(io.LimitReader(in, r.limits.MaxDecoded+1))
	if err != nil {
		return nil, readError(err, r.limits.MaxBody)
	}
	if int64(len(body)) > r.limits.MaxDecoded {
		return nil, refuse(http.StatusRequestEntityTooLarge, "too_large", "request exceeds the limit of %d bytes after decompression", r.limits.MaxDecoded)
	}
	return body, nil
}

// otlpAppender stands between the translation and the store: it keeps refusals of single samples from
// ending the translation, and counts.
type otlpAppender struct {
	storage.AppenderV2

	r        *Receiver
	samples  int
	refusals refusals
	fatal    error
	family   string // described last
}

// Append stores one sample. After a fatal error it takes nothing more.
func (a *otlpAppender) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if a.fatal != nil {
		return 0, a.fatal
	}
	if a.samples+a.refusals.total >= a.r.limits.MaxSeries {
		a.fatal = refuse(http.StatusRequestEntityTooLarge, "too_many_series", "request makes more than %d samples", a.r.limits.MaxSeries)
		return 0, a.fatal
	}
	if err := a.r.checkOTLP(ls); err != nil {
		a.refusals.add(reasonLabels, 1, err)
		return 0, nil
	}
	ref, err := a.AppenderV2.Append(0, ls, st, t, v, h, fh, opts)
	var partial *storage.AppendPartialError
	if err == nil || errors.As(err, &partial) { // partial: the sample is stored, an exemplar is not
		a.samples++
		if opts.MetricFamilyName != a.family {
			a.family = opts.MetricFamilyName
			a.r.described.note(a.family, opts.Metadata)
		}
		return ref, nil
	}
	why, soft := reasonOf(err)
	if !soft {
		a.fatal = fmt.Errorf("append: %w", err)
		return 0, a.fatal
	}
	a.refusals.add(why, 1, fmt.Errorf("%w for %s at %d", err, abbreviate(ls.String()), t))
	return 0, nil
}

// dropDelta removes metrics of delta temporality, which the store cannot hold, and counts their points.
func (a *otlpAppender) dropDelta(md pmetric.Metrics) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			sm.Metrics().RemoveIf(func(m pmetric.Metric) bool {
				var (
					temporality pmetric.AggregationTemporality
					points      int
				)
				switch m.Type() {
				case pmetric.MetricTypeSum:
					temporality, points = m.Sum().AggregationTemporality(), m.Sum().DataPoints().Len()
				case pmetric.MetricTypeHistogram:
					temporality, points = m.Histogram().AggregationTemporality(), m.Histogram().DataPoints().Len()
				case pmetric.MetricTypeExponentialHistogram:
					temporality, points = m.ExponentialHistogram().AggregationTemporality(), m.ExponentialHistogram().DataPoints().Len()
				default:
					return false
				}
				if temporality == pmetric.AggregationTemporalityCumulative {
					return false
				}
				if points > 0 {
					a.refusals.add(reasonDelta, points, fmt.Errorf("metric %q has %s temporality, only cumulative is stored", abbreviate(m.Name()), temporality))
				}
				return true
			})
		}
	}
}

// checkOTLP refuses what the translation lets through: attribute bytes are not checked on the way.
func (r *Receiver) checkOTLP(ls labels.Labels) error {
	if !ls.IsValid(model.UTF8Validation) {
		return fmt.Errorf("metric or label that is not UTF-8 in %s", abbreviate(ls.String()))
	}
	size := 0
	ls.Range(func(l labels.Label) { size += len(l.Name) + len(l.Value) })
	if size > r.limits.MaxLabels {
		return fmt.Errorf("labels of %d bytes exceed the limit of %d in %s", size, r.limits.MaxLabels, abbreviate(ls.String()))
	}
	return nil
}
