// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package peers is the example's root. It holds the source of the Python peer, so that the launcher is one
// file that can be copied anywhere.
package peers

import (
	"embed"
	"path"
)

//go:embed python/peer.py python/circle.py python/gossip.py python/idx.py python/mlp.py python/roster.py python/series.py
var source embed.FS

// PythonSource returns the files of the Python peer by name.
func PythonSource() (map[string][]byte, error) {
	files, err := source.ReadDir("python")
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(files))
	for _, f := range files {
		if out[f.Name()], err = source.ReadFile(path.Join("python", f.Name())); err != nil {
			return nil, err
		}
	}
	return out, nil
}
