// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/periplus-io/periplus/internal/state/spec"
)

// Config is the resource_state section.
type Config struct {
	// Shipped names the specifications in the program that are in use: sedna, kube.
	Shipped []string `yaml:"shipped"`
	// Files are specifications of the user.
	Files []File `yaml:"files"`
	// Store says whether the series are written into the metrics store. Without, they are only served as text, for
	// an external store that scrapes them. It is that of the start.
	Store bool `yaml:"store"`
	// SeriesLimit caps the series of one metric of one specification over all objects, where the
	// specification says nothing else.
	SeriesLimit int `yaml:"series_limit"`
	// ObjectSeriesLimit caps the series of one metric for one object.
	ObjectSeriesLimit int `yaml:"object_series_limit"`
	// LabelBytes is the length at which a label's value is cut.
	LabelBytes int `yaml:"label_value_bytes"`
}

// File is a specification file and what there is to say about it from outside.
type File struct {
	Path string `yaml:"path"`
	// Naming is legacy or current, empty for what the file says.
	Naming spec.Naming `yaml:"naming"`
	// History writes the past of the objects back from their conditions.
	History bool `yaml:"history"`
	// SeriesLimit is that of the section for this file.
	SeriesLimit int `yaml:"series_limit"`
}

// Default gives the section of a user who says nothing.
func Default() Config {
	return Config{
		Shipped:           Shipped(),
		Store:             true,
		SeriesLimit:       10_000,
		ObjectSeriesLimit: 1_000,
		LabelBytes:        1_024,
	}
}

// SetDirectory makes the paths of files relative to dir, the folder of the configuration.
func (c *Config) SetDirectory(dir string) {
	for i, f := range c.Files {
		if f.Path != "" && !filepath.IsAbs(f.Path) {
			c.Files[i].Path = filepath.Join(dir, f.Path)
		}
	}
}

// Validate says what is wrong with the section, files not read.
func (c Config) Validate() error {
	var errs []error
	for _, name := range c.Shipped {
		if !slices.Contains(Shipped(), name) {
			errs = append(errs, fmt.Errorf("shipped: %q is not one of %s", name, strings.Join(Shipped(), ", ")))
		}
	}
	for i, f := range c.Files {
		if f.Path == "" {
			errs = append(errs, fmt.Errorf("files[%d].path: empty", i))
		}
		if f.Naming != "" && f.Naming != spec.Legacy && f.Naming != spec.Current {
			errs = append(errs, fmt.Errorf("files[%d].naming: it is %q, want legacy or current", i, f.Naming))
		}
		if f.SeriesLimit < 0 {
			errs = append(errs, fmt.Errorf("files[%d].series_limit: negative", i))
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"series_limit", c.SeriesLimit}, {"object_series_limit", c.ObjectSeriesLimit}, {"label_value_bytes", c.LabelBytes},
	} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("%s: %d is not positive", n.name, n.value))
		}
	}
	return errors.Join(errs...)
}

// Load reads the specifications that the section names: all, or an error for every fault.
func (c Config) Load() ([]*spec.Spec, error) {
	var out []*spec.Spec
	var errs []error
	for _, name := range c.Shipped {
		s, err := loadShipped(name)
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, s)
	}
	for _, f := range c.Files {
		data, err := os.ReadFile(f.Path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		limit := c.SeriesLimit
		if f.SeriesLimit > 0 {
			limit = f.SeriesLimit
		}
		s, err := spec.Parse(f.Path, data, spec.Choices{Naming: f.Naming, History: f.History, Limit: limit})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}
