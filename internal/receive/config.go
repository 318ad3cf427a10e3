// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"fmt"
	"time"
)

// Config bounds what one sender can ask of the hub. Every bound must be positive.
type Config struct {
	// MaxBody is the size of a request as sent, in bytes.
	MaxBody int64 `yaml:"max_body_bytes"`
	// MaxDecoded is the size of a request after decompression, in bytes.
	MaxDecoded int64 `yaml:"max_decoded_bytes"`
	// MaxSeries is the number of series that one request may carry.
	MaxSeries int `yaml:"max_series"`
	// MaxLabels is the size of one series' names and values together, in bytes.
	MaxLabels int `yaml:"max_label_bytes"`
	// Concurrency is the number of requests decoded at a time; the others wait.
	Concurrency int `yaml:"concurrency"`
	// BodyTimeout is how long a sender may take to send a request's body, since it holds a place meanwhile.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// QueueTimeout is how long a request waits for its turn before it is answered 503.
	QueueTimeout time.Duration `yaml:"queue_timeout"`
	// SeriesCache is the number of series whose decoded labels are kept.
	SeriesCache int `yaml:"series_cache"`
	// Metadata is the number of metrics whose type, unit and help are kept.
	Metadata int `yaml:"metadata"`
}

// DefaultConfig is what a hub uses without a configuration.
func DefaultConfig() Config {
	return Config{
		MaxBody:      16 << 20,
		MaxDecoded:   32 << 20,
		MaxSeries:    200_000,
		MaxLabels:    64 << 10,
		Concurrency:  16,
		BodyTimeout:  30 * time.Second,
		QueueTimeout: 10 * time.Second,
		SeriesCache:  262_144,
		Metadata:     20_000,
	}
}

// Validate says which bound is missing or absurd.
func (c Config) Validate() error {
	for name, value := range map[string]int64{
		"max_body_bytes":    c.MaxBody,
		"max_decoded_bytes": c.MaxDecoded,
		"max_series":        int64(c.MaxSeries),
		"max_label_bytes":   int64(c.MaxLabels),
		"concurrency":       int64(c.Concurrency),
		"body_timeout":      int64(c.BodyTimeout),
		"queue_timeout":     int64(c.QueueTimeout),
		"series_cache":      int64(c.SeriesCache),
		"metadata":          int64(c.Metadata),
	} {
		if value <= 0 {
			return fmt.Errorf("%s must be positive, got %d", name, value)
		}
	}
	return nil
}
