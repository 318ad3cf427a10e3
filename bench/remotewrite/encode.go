// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// encode makes all requests of a turn, whose series carry run: a wave for every round, in which each series has one sample.
func encode(s settings, v2 bool, run string) ([][][]byte, error) {
	const interval = 15 * time.Second
	begin := time.Now().Add(-time.Duration(s.rounds) * interval)
	waves := make([][][]byte, s.rounds)
	for round := range waves {
		at := begin.Add(time.Duration(round) * interval).UnixMilli()
		for first := 0; first < s.series; first += s.perRequest {
			message, err := encodeV1(run, round, first, min(first+s.perRequest, s.series), at)
			if v2 {
				message, err = encodeV2(run, round, first, min(first+s.perRequest, s.series), at)
			}
			if err != nil {
				return nil, fmt.Errorf("encode: %w", err)
			}
			waves[round] = append(waves[round], snappy.Encode(nil, message))
		}
	}
	return waves, nil
}

// valueOf is a gauge that moves.
func valueOf(round, n int) float64 { return 1 / float64(1+round+n%13) }

func encodeV1(run string, round, first, end int, at int64) ([]byte, error) {
	req := &prompb.WriteRequest{}
	for n := first; n < end; n++ {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: at, Value: valueOf(round, n)}}}
		ls := seriesLabels(run, n)
		for k := 0; k < len(ls); k += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: ls[k], Value: ls[k+1]})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	return req.Marshal() //nolint:wrapcheck // encode says it
}

func encodeV2(run string, round, first, end int, at int64) ([]byte, error) {
	table := writev2.NewSymbolTable()
	req := &writev2.Request{}
	for n := first; n < end; n++ {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Timestamp: at, Value: valueOf(round, n)}}}
		for _, text := range seriesLabels(run, n) {
			ts.LabelsRefs = append(ts.LabelsRefs, table.Symbolize(text))
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = table.Symbols()
	return req.Marshal() //nolint:wrapcheck // encode says it
}
