// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import "fmt"

// Config is the section default_jobs of the configuration.
type Config struct {
	// Kubelets is how the default jobs reach kubelets: node, on their nodes, or proxy, through the API
	// server, for a hub that cannot reach the nodes.
	Kubelets string `yaml:"kubelets"`
}

// DefaultConfig asks kubelets on their nodes.
func DefaultConfig() Config { return Config{Kubelets: "node"} }

// Validate says what is unusable.
func (c Config) Validate() error {
	if c.Kubelets != "node" && c.Kubelets != "proxy" {
		return fmt.Errorf("kubelets: %q: use node or proxy", c.Kubelets)
	}
	return nil
}

// ThroughAPIServer tells whether kubelets are asked through the API server.
func (c Config) ThroughAPIServer() bool { return c.Kubelets == "proxy" }

// Lists names the folders below Defaults.Dir in which default jobs look for lists of targets.
func Lists() []string { return []string{"peers", "ipfs"} }
