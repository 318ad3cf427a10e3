// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	pmodel "github.com/prometheus/common/model"

	"github.com/periplus-io/periplus/internal/learn/mapping"
)

// Config is the learning section of the configuration file.
type Config struct {
	// Disabled turns the learning model off: nothing is watched for it. What it knows is kept.
	Disabled bool `yaml:"disabled"`
	// Mappings is a folder of mapping files that replace or add kinds.
	Mappings string `yaml:"mappings"`
	// EdgeSelector are conditions on a node's labels, key=value or key, that all hold for an edge node, beside KubeEdge's own.
	EdgeSelector string `yaml:"edge_selector"`
	// SeriesLimit bounds the series of one name that one job can have.
	SeriesLimit int `yaml:"series_limit"`
	// KeepDeleted is how long a deleted job stays findable.
	KeepDeleted Duration `yaml:"keep_deleted"`
}

// DefaultConfig gives the settings used where the file says nothing.
func DefaultConfig() Config {
	return Config{SeriesLimit: 10_000, KeepDeleted: Duration(90 * 24 * time.Hour)}
}

// SetDirectory makes a relative path relative to dir, the folder of the configuration.
func (c *Config) SetDirectory(dir string) {
	if c.Mappings != "" && !filepath.IsAbs(c.Mappings) {
		c.Mappings = filepath.Join(dir, c.Mappings)
	}
}

// load reads the mappings in use.
func (c Config) load() (*mapping.Set, error) {
	if c.Disabled {
		return &mapping.Set{}, nil
	}
	return mapping.Load(c.Mappings)
}

// Validate checks the section, mapping files included.
func (c *Config) Validate() error {
	var errs []error
	if c.SeriesLimit < 1 {
		errs = append(errs, errors.New("series_limit must be at least 1"))
	}
	if c.KeepDeleted < 0 {
		errs = append(errs, errors.New("keep_deleted must not be negative"))
	}
	if _, err := parseSelector(c.EdgeSelector); err != nil {
		errs = append(errs, fmt.Errorf("edge_selector: %w", err))
	}
	if _, err := mapping.Load(c.Mappings); err != nil {
		errs = append(errs, fmt.Errorf("mappings: %w", err))
	}
	return errors.Join(errs...)
}

// Duration is a time span as Prometheus writes it, such as 90d.
type Duration time.Duration

// UnmarshalText reads 1h30m, 90d and the like.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := pmodel.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(pmodel.Duration(d).String()), nil }

// selector is a list of conditions on labels that must all hold. The empty selector matches nothing.
type selector []struct {
	key, value string
	any        bool
}

func parseSelector(text string) (selector, error) {
	var s selector
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		value = strings.TrimPrefix(value, "=")
		if key == "" || strings.ContainsAny(key, "! ()") {
			return nil, fmt.Errorf("%q is neither key nor key=value", part)
		}
		s = append(s, struct {
			key, value string
			any        bool
		}{key, value, !ok})
	}
	return s, nil
}

func (s selector) matches(labels map[string]any) bool {
	for _, c := range s {
		v, ok := labels[c.key].(string)
		if !ok || (!c.any && v != c.value) {
			return false
		}
	}
	return len(s) > 0
}
