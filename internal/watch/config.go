// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/units"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config is the section kubernetes of the configuration. Its zero value watches nothing.
type Config struct {
	// Kubeconfig is a file that says how to reach the API server; Context picks one of its contexts.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`
	// InCluster uses the service account of the pod that this process runs in.
	InCluster bool `yaml:"in_cluster,omitempty"`
	// Namespaces limits namespaced kinds to these; empty means all.
	Namespaces []string `yaml:"namespaces,omitempty"`
	// Selectors limits kinds to objects whose labels match. A key is Kind or Kind.group.
	Selectors map[string]string `yaml:"selectors,omitempty"`
	// Manifests are folders of YAML and JSON files to take objects from.
	Manifests []string `yaml:"manifests,omitempty"`
	// KeepEnvironment names further environment variables of containers that are to be kept.
	KeepEnvironment []string `yaml:"keep_environment,omitempty"`
	// MaxObjectSize is the size of JSON above which an object is refused.
	MaxObjectSize units.Base2Bytes `yaml:"max_object_size,omitempty"`
	// MaxFileSize is the size above which a manifest file is refused.
	MaxFileSize units.Base2Bytes `yaml:"max_file_size,omitempty"`
}

// DefaultConfig is what holds for keys that are not given.
func DefaultConfig() Config {
	return Config{MaxObjectSize: 16 * units.MiB, MaxFileSize: 64 * units.MiB}
}

// Enabled tells whether there is anything to watch.
func (c Config) Enabled() bool { return c.cluster() || len(c.Manifests) > 0 }

// cluster tells whether an API server is configured.
func (c Config) cluster() bool { return c.Kubeconfig != "" || c.InCluster }

// Validate finds values that can never work.
func (c Config) Validate() error {
	var errs []error
	if c.Kubeconfig != "" && c.InCluster {
		errs = append(errs, errors.New("kubeconfig and in_cluster exclude each other"))
	}
	if c.Context != "" && c.Kubeconfig == "" {
		errs = append(errs, errors.New("context needs kubeconfig"))
	}
	if c.MaxObjectSize < 64*units.KiB {
		errs = append(errs, fmt.Errorf("max_object_size %v is below 64KiB", c.MaxObjectSize))
	}
	if c.MaxFileSize < c.MaxObjectSize {
		errs = append(errs, fmt.Errorf("max_file_size %v is below max_object_size %v", c.MaxFileSize, c.MaxObjectSize))
	}
	if slices.Contains(c.Namespaces, "") {
		errs = append(errs, errors.New("namespaces has an empty entry; leave the list out for all namespaces"))
	}
	if slices.Contains(c.Manifests, "") {
		errs = append(errs, errors.New("manifests has an empty entry"))
	}
	for kind, selector := range c.Selectors {
		if _, err := labels.Parse(selector); err != nil {
			errs = append(errs, fmt.Errorf("selector of %s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// Check is what a start would find out without a connection: that the kubeconfig can be read and
// makes a client, and that the manifest folders are there. A running hub goes on without either; a
// person who names one on the command line wants to be told.
func (c Config) Check() error {
	errs := []error{c.Validate()}
	if c.cluster() {
		_, err := c.client()
		errs = append(errs, err)
	}
	for _, dir := range c.Manifests {
		switch info, err := os.Stat(dir); {
		case err != nil:
			errs = append(errs, fmt.Errorf("manifests: %w", err))
		case !info.IsDir():
			errs = append(errs, fmt.Errorf("manifests: %s is not a folder", dir))
		}
	}
	return errors.Join(errs...)
}

// client reads the connection data and makes a client; it does not connect.
func (c Config) client() (*client, error) {
	var cfg *rest.Config
	var err error
	if c.InCluster {
		cfg, err = rest.InClusterConfig()
	} else {
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig}
		overrides := &clientcmd.ConfigOverrides{CurrentContext: c.Context}
		cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return newClient(cfg)
}

// SetDirectory makes relative paths relative to dir, the folder of the configuration.
func (c *Config) SetDirectory(dir string) {
	paths := []*string{&c.Kubeconfig}
	for i := range c.Manifests {
		paths = append(paths, &c.Manifests[i])
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

// selector gives the label selector of a kind.
func (c Config) selector(group, kind string) string {
	if s, ok := c.Selectors[kind+"."+group]; ok && group != "" {
		return s
	}
	return c.Selectors[kind]
}

// Want names kinds that are to be watched.
type Want struct {
	// Group is the API group, empty for the core group. It has no wildcard.
	Group string
	// Version is an API version; "*" is the one that the API server prefers, so that an object comes once.
	Version string
	// Kind is the object kind; "*" is all kinds of the group.
	Kind string
}

// String gives Kind.version.group, as [resource.Kind] does.
func (w Want) String() string { return strings.TrimSuffix(w.Kind+"."+w.Version+"."+w.Group, ".") }

func (w Want) matches(group, version, kind string) bool {
	return w.Group == group && (w.Version == "*" || w.Version == version) && (w.Kind == "*" || w.Kind == kind)
}

func (w Want) validate() error {
	if w.Version == "" || w.Kind == "" || w.Group == "*" {
		return fmt.Errorf("kind %q: a version and a kind are needed and the group has no wildcard", w)
	}
	return nil
}
