// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	promconfig "github.com/prometheus/prometheus/config"

	"github.com/periplus-io/periplus/internal/config"
	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/promapi"
	"github.com/periplus-io/periplus/internal/receive"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/rule"
	"github.com/periplus-io/periplus/internal/scrape"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/watch"
)

// settings are a whole, checked configuration: what the file says, with the command line put over it.
type settings struct {
	metrics    metricdb.Settings
	api        promapi.Config
	receive    receive.Config
	rules      rule.Config
	kubernetes watch.Config
	resource   state.Config
	learning   learn.Config
	jobs       scrape.Config

	// prometheus is the part in Prometheus' syntax, default jobs and limits put in.
	prometheus *promconfig.Config
	specs      []*spec.Spec
	file       *config.Config
}

func defaults() *settings {
	return &settings{
		metrics:    metricdb.DefaultSettings(),
		api:        promapi.DefaultConfig(),
		receive:    receive.DefaultConfig(),
		rules:      rule.DefaultConfig(),
		kubernetes: watch.DefaultConfig(),
		resource:   state.Default(),
		learning:   learn.DefaultConfig(),
		jobs:       scrape.DefaultConfig(),
	}
}

// sections ties the keys of the file to the rooms' settings.
func (s *settings) sections() []config.Section {
	return []config.Section{
		config.Bind("cluster", &s.metrics.Cluster),
		config.Bind("retention", &s.metrics.Retention),
		config.Bind("limits", &s.metrics.Limits),
		config.Bind("api", &s.api),
		config.Bind("receive", &s.receive),
		config.Bind("rules", &s.rules),
		config.Bind("kubernetes", (*sources)(&s.kubernetes)),
		config.Bind("resource_state", (*specifications)(&s.resource)),
		config.Bind("learning", &s.learning),
		config.Bind("default_jobs", &s.jobs),
	}
}

// sources is the section kubernetes of a file, whose faults include what it names and is not there.
type sources watch.Config

// Validate also looks for the kubeconfig and the manifest folders.
func (s *sources) Validate() error { return watch.Config(*s).Check() }

// SetDirectory makes paths relative to dir.
func (s *sources) SetDirectory(dir string) { (*watch.Config)(s).SetDirectory(dir) }

// specifications is the section resource_state of a file, whose faults include files that are not there.
type specifications state.Config

// Validate also looks for the files.
func (s *specifications) Validate() error {
	errs := []error{state.Config(*s).Validate()}
	for i, f := range s.Files {
		if _, err := os.Stat(f.Path); err != nil {
			errs = append(errs, fmt.Errorf("files[%d].path: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// SetDirectory makes paths relative to dir.
func (s *specifications) SetDirectory(dir string) { (*state.Config)(s).SetDirectory(dir) }

// load reads the configuration and builds all of it that can be built without starting anything. Its
// error names every fault that it could find.
func load(o Options) (*settings, error) {
	s := defaults()
	var err error
	if s.file, err = config.Load(config.Options{
		Path: o.ConfigFile, Sections: s.sections(), CheckRules: rule.CheckFile, Log: o.Log,
	}); err != nil {
		return nil, err
	}
	s.overlay(o)
	if err := s.kubernetes.Check(); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if s.specs, err = s.resource.Load(); err != nil {
		return nil, fmt.Errorf("resource_state: %w", err)
	}
	s.prometheus = s.file.Prometheus
	d := scrape.Defaults{Dir: o.DataDir, Log: o.Log}
	if k := s.kubernetes; k.Kubeconfig != "" || k.InCluster {
		d.Cluster = &scrape.Cluster{Kubeconfig: k.Kubeconfig, Context: k.Context, ThroughAPIServer: s.jobs.ThroughAPIServer()}
	}
	if err := scrape.Complete(s.prometheus, d); err != nil {
		return nil, fmt.Errorf("default jobs: %w", err)
	}
	return s, nil
}

// overlay puts what the command line says about sources over the file's section.
func (s *settings) overlay(o Options) {
	k := &s.kubernetes
	if o.Kubeconfig != "" || o.InCluster {
		k.Kubeconfig, k.Context, k.InCluster = o.Kubeconfig, o.Context, o.InCluster
	}
	if path, err := filepath.Abs(k.Kubeconfig); err == nil && k.Kubeconfig != "" {
		k.Kubeconfig = path // discovery takes relative paths from the data folder
	}
	k.Manifests = append(slices.Clone(k.Manifests), o.Manifests...)
}

// wants is what has to be watched for the specifications and the learning model.
func wants(e *state.Engine, l *learn.Learn) []watch.Want {
	var all []watch.Want
	for _, k := range append(e.Kinds(), l.Kinds()...) {
		w := watch.Want{Group: k.Group, Version: k.Version, Kind: k.Kind}
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// fixed names the sections that differ from those the hub was started with and do not reload.
func (s *settings) fixed(next *settings) []string {
	var names []string
	for name, same := range map[string]bool{
		"cluster": s.metrics.Cluster == next.metrics.Cluster,
		"limits":  s.metrics.Limits == next.metrics.Limits,
		"api":     s.api == next.api,
		"receive": s.receive == next.receive,
		"rules":   s.rules == next.rules,

		"resource_state.store": s.resource.Store == next.resource.Store,
	} {
		if !same {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Check runs what a start would run short of opening the data folder and listening, and gives every
// fault it finds. The result is the configuration as it would be in force, without secrets.
func Check(o Options) (string, error) {
	s, err := load(o)
	if err != nil {
		return "", err
	}
	return s.file.String(), nil
}

// DefaultJobs gives the scrape jobs of every install, as the YAML to start a file of one's own from.
func DefaultJobs() (string, error) {
	return scrape.DefaultJobs(scrape.Defaults{Cluster: &scrape.Cluster{}})
}

// CheckSpecification checks a resource specification.
func CheckSpecification(path string, naming spec.Naming) error {
	_, err := specification(path, naming).Load()
	return err
}

// Explain writes what object gives under the specification at path.
func Explain(w io.Writer, path string, naming spec.Naming, object resource.Object) error {
	c := specification(path, naming)
	specs, err := c.Load()
	if err != nil {
		return err
	}
	return state.Explain(w, specs, c, object)
}

// specification is a resource_state section with one file.
func specification(path string, naming spec.Naming) state.Config {
	c := state.Default()
	c.Shipped, c.Files = nil, []state.File{{Path: path, Naming: naming}}
	return c
}
