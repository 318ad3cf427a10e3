// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
)

// Settings are the sections of the configuration file that this room reads.
type Settings struct {
	// Cluster, if set, is added to every sample as the label cluster unless the sample has one.
	Cluster string `yaml:"cluster,omitempty"`
	// Retention says how long samples stay.
	Retention Retention `yaml:"retention,omitempty"`
	// Limits bound what queries and writers may take.
	Limits Limits `yaml:"limits,omitempty"`
}

// Retention says how long samples stay. Whichever limit is reached first deletes whole blocks.
type Retention struct {
	// Time is the age of the oldest sample; 30 days by default.
	Time model.Duration `yaml:"time,omitempty"`
	// Size is the disk space of blocks, WAL and head chunks together; 0, the default, is unlimited.
	Size units.Base2Bytes `yaml:"size,omitempty"`
}

// Limits bound queries and the number of series. They are fixed at start.
type Limits struct {
	// QueryTimeout ends a query; 2 minutes by default.
	QueryTimeout model.Duration `yaml:"query_timeout,omitempty"`
	// QueryMaxSamples is how many samples a query may hold in memory; 50 million by default.
	QueryMaxSamples int `yaml:"query_max_samples,omitempty"`
	// QueryConcurrency is how many queries run at once, the others wait; 20 by default.
	QueryConcurrency int `yaml:"query_concurrency,omitempty"`
	// QueryLookback is how long after its last sample a series counts as present; 5 minutes by default.
	QueryLookback model.Duration `yaml:"query_lookback,omitempty"`
	// Series is how many series the head may hold, new ones beyond are refused; 0, the default, is
	// unlimited.
	Series uint64 `yaml:"series,omitempty"`
}

// DefaultSettings are the settings of an empty configuration file.
func DefaultSettings() Settings {
	return Settings{
		Retention: Retention{Time: model.Duration(30 * 24 * time.Hour)},
		Limits: Limits{
			QueryTimeout:     model.Duration(2 * time.Minute),
			QueryMaxSamples:  50_000_000,
			QueryConcurrency: 20,
			QueryLookback:    model.Duration(5 * time.Minute),
		},
	}
}

// Validate reports every fault at once.
func (s Settings) Validate() error {
	var errs []error
	if s.Cluster != "" && !model.LabelValue(s.Cluster).IsValid() {
		errs = append(errs, fmt.Errorf("cluster: %q is not valid UTF-8", s.Cluster))
	}
	if t := time.Duration(s.Retention.Time); t < 2*time.Hour {
		errs = append(errs, fmt.Errorf("retention.time: %s is less than 2h", t))
	}
	if s.Retention.Size < 0 {
		errs = append(errs, errors.New("retention.size: must not be negative"))
	}
	if s.Limits.QueryTimeout <= 0 {
		errs = append(errs, errors.New("limits.query_timeout: must be positive"))
	}
	if s.Limits.QueryMaxSamples <= 0 {
		errs = append(errs, errors.New("limits.query_max_samples: must be positive"))
	}
	if s.Limits.QueryConcurrency <= 0 {
		errs = append(errs, errors.New("limits.query_concurrency: must be positive"))
	}
	if s.Limits.QueryLookback <= 0 {
		errs = append(errs, errors.New("limits.query_lookback: must be positive"))
	}
	return errors.Join(errs...)
}
