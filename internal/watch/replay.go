// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"time"

	"github.com/periplus-io/periplus/internal/resource"
)

// Replay reports every object of the kinds once more, as Applied and Initial, between the events of
// its kind. Version and Kind may be "*". Whoever reads objects in a new way asks for it,
// but not from within the handler.
func (w *Watcher) Replay(kinds ...resource.Kind) {
	for _, t := range w.all() {
		for _, k := range kinds {
			if (Want{Group: k.Group, Version: k.Version, Kind: k.Kind}).matches(t.kind.Group, t.kind.Version, t.kind.Kind) {
				t.replay()
				break
			}
		}
	}
}

func (t *table) replay() {
	for _, k := range t.keys() {
		t.order.Lock()
		if o, ok := t.get(k.namespace, k.name); ok {
			t.deliver(resource.Applied, o, time.Now(), true)
		}
		t.order.Unlock()
	}
}
