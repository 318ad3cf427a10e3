// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"hash/fnv"
	"slices"
)

// neighbours connects names, in their order, to a ring with one chord from each that its name decides. The
// graph is connected, symmetric, and changes little when a name comes or goes. Neighbours are sorted.
func neighbours(names []string) map[string][]string {
	out := make(map[string][]string, len(names))
	n := len(names)
	join := func(a, b string) {
		if a != b && !slices.Contains(out[a], b) {
			out[a] = append(out[a], b)
			out[b] = append(out[b], a)
		}
	}
	for i, name := range names {
		if n > 1 {
			join(name, names[(i+1)%n])
		}
		if n > 3 {
			h := fnv.New32a()
			_, _ = h.Write([]byte(name))
			join(name, names[(i+2+int(h.Sum32()%uint32(n-3)))%n])
		}
	}
	for name := range out {
		slices.Sort(out[name])
	}
	return out
}
