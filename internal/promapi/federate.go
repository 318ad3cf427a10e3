// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// latest is the newest sample of one series within the look-back.
type latest struct {
	name   string
	labels labels.Labels
	time   int64
	value  float64
	hist   *histogram.FloatHistogram
}

// federate answers the newest sample of every series that any match[] selects, with the external labels
// added where the series has no such label. An instance label is always there, if empty, so that a scrape
// with honor_labels does not put its own in its place.
func (a *API) federate(w http.ResponseWriter, req *http.Request) {
	if err := req.ParseForm(); err != nil {
		http.Error(w, fmt.Sprintf("parse form: %v", err), http.StatusBadRequest)
		return
	}
	selectors, err := a.o.Parser.ParseMetricSelectors(req.Form["match[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found, err := a.newest(req.Context(), selectors, time.Now())
	switch {
	case errors.Is(err, tsdb.ErrNotReady):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case errors.Is(err, errTooMany):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	case err != nil:
		a.o.Log.Warn("read for federation", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}

	format := expfmt.NegotiateAccept(req.Header, expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText),
		expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain))
	w.Header().Set("Content-Type", string(format))
	enc := expfmt.NewEncoder(w, format)
	external := externalLabels(a.o.Prometheus().GlobalConfig.ExternalLabels)
	for family := range a.families(found, external, format.FormatType()) {
		if err := enc.Encode(family); err != nil {
			a.o.Log.Debug("write federation answer", "err", err)
			return
		}
	}
}

var errTooMany = errors.New("too many series for one federation request: use narrower match[] selectors")

// newest reads the newest sample of every selected series, ordered by metric name.
func (a *API) newest(ctx context.Context, selectors [][]*labels.Matcher, now time.Time) ([]latest, error) {
	end := now.UnixMilli()
	start := end - a.o.Lookback.Milliseconds()
	q, err := a.o.Local.Querier(start, end)
	if err != nil {
		return nil, fmt.Errorf("open querier: %w", err)
	}
	defer func() { _ = q.Close() }() // read only

	hints := &storage.SelectHints{Start: start, End: end}
	sets := make([]storage.SeriesSet, len(selectors))
	for i, matchers := range selectors {
		sets[i] = q.Select(ctx, true, hints, matchers...)
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	var (
		found []latest
		it    chunkenc.Iterator
	)
	for set.Next() {
		series := set.At()
		it = series.Iterator(it)
		s, ok, err := lastOf(it, start, end)
		if err != nil {
			return nil, err
		}
		if s.name = series.Labels().Get(model.MetricNameLabel); !ok || s.name == "" {
			continue
		}
		if len(found) == a.o.Limits.FederateSeries {
			return nil, fmt.Errorf("%w (limit %d)", errTooMany, a.o.Limits.FederateSeries)
		}
		s.labels = series.Labels()
		found = append(found, s)
	}
	if err := set.Err(); err != nil {
		return nil, fmt.Errorf("select: %w", err)
	}
	slices.SortStableFunc(found, func(x, y latest) int { return cmp.Compare(x.name, y.name) })
	return found, nil
}

// lastOf returns the newest sample in [start, end]; false when there is none or the series has ended, since
// the exposition formats have no staleness marker.
func lastOf(it chunkenc.Iterator, start, end int64) (s latest, ok bool, err error) {
	for vt := it.Seek(start); vt != chunkenc.ValNone && it.AtT() <= end; vt = it.Next() {
		ok = true
		s.hist = nil
		if vt == chunkenc.ValFloat {
			s.time, s.value = it.At()
		} else {
			s.time, s.hist = it.AtFloatHistogram(nil)
		}
	}
	if err := it.Err(); err != nil {
		return s, false, fmt.Errorf("read series: %w", err)
	}
	stale := value.IsStaleNaN(s.value) && s.hist == nil || s.hist != nil && value.IsStaleNaN(s.hist.Sum)
	return s, ok && !stale, nil
}

// externalLabels are the configured ones, sorted, with an instance.
func externalLabels(configured labels.Labels) []*dto.LabelPair {
	var pairs []*dto.LabelPair
	configured.Range(func(l labels.Label) { pairs = append(pairs, pair(l.Name, l.Value)) })
	if !configured.Has(model.InstanceLabel) {
		pairs = append(pairs, pair(model.InstanceLabel, ""))
	}
	slices.SortFunc(pairs, func(x, y *dto.LabelPair) int { return strings.Compare(x.GetName(), y.GetName()) })
	return pairs
}

func pair(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: new(name), Value: new(value)}
}
