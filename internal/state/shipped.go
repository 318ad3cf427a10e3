// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"embed"
	"fmt"

	"github.com/periplus-io/periplus/internal/state/spec"
)

//go:embed specs/*.yaml
var files embed.FS

// Shipped names the specifications in the program.
func Shipped() []string { return []string{"sedna", "kube"} }

// loadShipped parses a specification in the program. What sedna.yaml cannot say because it is also
// for kube-state-metrics is said here.
func loadShipped(name string) (*spec.Spec, error) {
	file := "specs/" + name + ".yaml"
	data, err := files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("shipped specification: %w", err)
	}
	return spec.Parse(file, data, spec.Choices{History: name == "sedna", Limit: shippedLimit})
}

// shippedLimit is the cap of metrics in shipped specifications: they are known to give a bounded
// number of series for each object.
const shippedLimit = 1_000_000
