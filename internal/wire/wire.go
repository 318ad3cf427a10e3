// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is the vocabulary in which rooms hand measurements to one another. It has no behaviour.
package wire

import "github.com/prometheus/prometheus/model/labels"

// Sample is one value of one series at one time.
type Sample struct {
	// Labels identify the series, the metric name included. They are immutable.
	Labels labels.Labels
	// Time is in milliseconds since the Unix epoch.
	Time int64
	// Value is the sample's value; a staleness marker is written as the NaN that Prometheus defines for it.
	Value float64
}
