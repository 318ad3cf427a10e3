// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"slices"
	"testing"
)

func TestNeighboursAreConnectedAndSymmetric(t *testing.T) {
	for n := range 40 {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("peer-%d", i+1))
		}
		graph := neighbours(names)
		for name, others := range graph {
			for _, o := range others {
				if o == name || !slices.Contains(graph[o], name) {
					t.Fatalf("%d peers: %s has neighbour %s, which has %v", n, name, o, graph[o])
				}
			}
			if n > 2 && len(others) < 2 {
				t.Errorf("%d peers: %s has only %v", n, name, others)
			}
		}
		if n == 0 {
			continue
		}
		reached := map[string]bool{names[0]: true}
		for todo := []string{names[0]}; len(todo) > 0; todo = todo[1:] {
			for _, o := range graph[todo[0]] {
				if !reached[o] {
					reached[o] = true
					todo = append(todo, o)
				}
			}
		}
		if len(reached) != n {
			t.Errorf("%d peers: only %d are reached", n, len(reached))
		}
	}
}

func TestEightPeersHaveChords(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	edges := 0
	for _, others := range neighbours(names) {
		edges += len(others)
	}
	if edges/2 <= len(names) {
		t.Errorf("%d edges: only the ring", edges/2)
	}
}
