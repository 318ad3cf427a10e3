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

// Settings are the sections of the configuration file that this room reads: one key of the file each.
type Settings struct {
	Cluster   Cluster   `yaml:"cluster,omitempty"`
	Retention Retention `yaml:"retention,omitempty"`
	Limits    Limits    `yaml:"limits,omitempty"`
}

// Cluster is added to every sample as the label cluster, unless it is empty or the sample has one.
type Cluster string

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

// Validate reports the faults of all sections.
func (s Settings) Validate() error {
	return errors.Join(
		within("cluster", s.Cluster.Validate()),
		within("retention", s.Retention.Validate()),
		within("limits", s.Limits.Validate()),
	)
}

func within(section string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", section, err)
}

// Validate checks that the name can be a label's value.
func (c Cluster) Validate() error {
	if !model.LabelValue(c).IsValid() {
		return fmt.Errorf("%q is not valid UTF-8", string(c))
	}
	return nil
}

// Validate reports every fault; each begins with its key.
func (r Retention) Validate() error {
	var errs []error
	if t := time.Duration(r.Time); t < 2*time.Hour {
		errs = append(errs, fmt.Errorf("time must be at least 2h, is %s", r.Time))
	}
	if r.Size < 0 {
		errs = append(errs, errors.New("size must not be negative"))
	}
	return errors.Join(errs...)
}

// Validate reports every fault; each begins with its key.
func (l Limits) Validate() error {
	var errs []error
	if l.QueryTimeout <= 0 {
		errs = append(errs, errors.New("query_timeout must be positive"))
	}
	if l.QueryMaxSamples <= 0 {
		errs = append(errs, errors.New("query_max_samples must be positive"))
	}
	if l.QueryConcurrency <= 0 {
		errs = append(errs, errors.New("query_concurrency must be positive"))
	}
	if t := time.Duration(l.QueryLookback); t < 2*time.Minute {
		errs = append(errs, fmt.Errorf("query_lookback must be at least 2m, as values are repeated every minute; is %s", l.QueryLookback))
	}
	return errors.Join(errs...)
}
