// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"fmt"
	"time"

	"github.com/grafana/regexp"
)

// Config bounds what one reader can ask. The bounds of queries themselves (time, samples, concurrency)
// are the engine's.
type Config struct {
	// MaxBody is the size of a request's body, in bytes.
	MaxBody int64 `yaml:"max_body_bytes"`
	// CORSOrigin is a regular expression, anchored at both ends, of the origins that browsers may read from.
	CORSOrigin string `yaml:"cors_origin"`
	// ReadSamples is the number of samples that one remote read may return.
	ReadSamples int `yaml:"read_max_samples"`
	// ReadConcurrency is the number of remote reads at a time.
	ReadConcurrency int `yaml:"read_concurrency"`
	// ReadFrameBytes is the size of one frame of a streamed remote read.
	ReadFrameBytes int `yaml:"read_frame_bytes"`
	// QueueTimeout is how long a query waits for one of the engine's places before it answers 503.
	QueueTimeout time.Duration `yaml:"query_queue_timeout"`
	// SearchLimit is the number of results that one search may return.
	SearchLimit int `yaml:"search_max_results"`
	// FederateSeries is the number of series that one federation request may return.
	FederateSeries int `yaml:"federate_max_series"`
}

// DefaultConfig has Prometheus' defaults where Prometheus has them.
func DefaultConfig() Config {
	return Config{
		MaxBody:         32 << 20,
		CORSOrigin:      ".*",
		ReadSamples:     50_000_000,
		ReadConcurrency: 10,
		ReadFrameBytes:  1 << 20,
		QueueTimeout:    30 * time.Second,
		SearchLimit:     10_000,
		FederateSeries:  1_000_000,
	}
}

// Validate says which value is missing or unusable.
func (c Config) Validate() error {
	for name, value := range map[string]int64{
		"max_body_bytes":      c.MaxBody,
		"read_max_samples":    int64(c.ReadSamples),
		"read_concurrency":    int64(c.ReadConcurrency),
		"read_frame_bytes":    int64(c.ReadFrameBytes),
		"query_queue_timeout": int64(c.QueueTimeout),
		"search_max_results":  int64(c.SearchLimit),
		"federate_max_series": int64(c.FederateSeries),
	} {
		if value <= 0 {
			return fmt.Errorf("%s must be positive, got %d", name, value)
		}
	}
	_, err := c.corsOrigin()
	return err
}

func (c Config) corsOrigin() (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?s:" + c.CORSOrigin + ")$")
	if err != nil {
		return nil, fmt.Errorf("cors_origin: %w", err)
	}
	return re, nil
}
