// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

type labelPair = dto.LabelPair

// brokenSeries is the name of the series on which the store breaks.
const brokenSeries = "broken"

var errBroken = errors.New("disk on fire")

// futureGate refuses samples over ten minutes ahead, as the hub's store does.
type futureGate struct{ *tsdb.DB }

func (g futureGate) Appender(ctx context.Context) storage.Appender {
	return futureAppender{g.DB.Appender(ctx)}
}

func (g futureGate) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return futureAppenderV2{g.DB.AppenderV2(ctx)}
}

func refusal(ls labels.Labels, t int64) error {
	switch {
	case ls.Get(model.MetricNameLabel) == brokenSeries:
		return errBroken
	case t > time.Now().Add(10*time.Minute).UnixMilli():
		return fmt.Errorf("%w: timestamp is too far in the future", storage.ErrOutOfBounds)
	}
	return nil
}

type futureAppender struct{ storage.Appender }

func (a futureAppender) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if err := refusal(ls, t); err != nil {
		return 0, err
	}
	return a.Appender.Append(ref, ls, t, v)
}

type futureAppenderV2 struct{ storage.AppenderV2 }

func (a futureAppenderV2) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	if err := refusal(ls, t); err != nil {
		return 0, err
	}
	return a.AppenderV2.Append(ref, ls, st, t, v, h, fh, o)
}
