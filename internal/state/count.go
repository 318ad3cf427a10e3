// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// countEvery is how often numbers of objects are handed on. They change with every object of a list,
// and only the sum is of interest.
const countEvery = time.Second

// group is the objects that share a set of labels. The key it is found by is its line up to the value.
type group struct {
	labels labels.Labels
	n      int
}

// tally is the state of a Count family that readers share with the table.
type tally struct {
	mu     sync.Mutex
	groups map[string]*group
	dirty  bool
}

// join counts one more object in the group of a line.
func (f *family) join(line string, build func() labels.Labels) {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	g, ok := f.tally.groups[line]
	if !ok {
		g = &group{labels: build()}
		f.tally.groups[line] = g
	}
	g.n++
	f.tally.dirty = true
}

// full says whether the family may not have another group.
func (f *family) full(line []byte) bool {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	_, ok := f.tally.groups[string(line)]
	return !ok && len(f.tally.groups) >= f.limit
}

// leave takes an object out of the groups it is in. Lines of other families are passed over.
func (f *family) leave(lines []string) {
	if f.Type != spec.Count {
		return
	}
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	for _, line := range lines {
		g, ok := f.tally.groups[line]
		if !ok {
			continue
		}
		f.tally.dirty = true
		if g.n--; g.n == 0 {
			delete(f.tally.groups, line)
		}
	}
}

// lines gives the text of the family.
func (f *family) lines() string {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(f.tally.groups)) {
		b.WriteString(line)
		b.Write(appendValue(nil, float64(f.tally.groups[line].n)))
	}
	return b.String()
}

// take gives the family's samples if they changed since the last time.
func (f *family) take(at int64) (samples []wire.Sample, changed bool) {
	f.tally.mu.Lock()
	defer f.tally.mu.Unlock()
	if !f.tally.dirty {
		return nil, false
	}
	f.tally.dirty = false
	for _, line := range slices.Sorted(maps.Keys(f.tally.groups)) {
		g := f.tally.groups[line]
		samples = append(samples, wire.Sample{Labels: g.labels, Time: at, Value: float64(g.n)})
	}
	return samples, true
}

func (t *table) countOwner(i int) string {
	return "state/count/" + t.plan.kind.String() + "/" + strconv.Itoa(i) + "/" + t.plan.families[i].Name
}

// flushCounts hands changed numbers to the sink until ctx ends.
func (e *Engine) flushCounts(ctx context.Context) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			e.generation.RLock()
			for _, t := range e.all() {
				t.sendCounts(now)
			}
			e.generation.RUnlock()
		}
	}
}

func (t *table) sendCounts(now time.Time) {
	for i, f := range t.plan.families {
		if f.Type != spec.Count {
			continue
		}
		if samples, changed := f.take(now.UnixMilli()); changed {
			t.engine.metrics.samples.Add(float64(len(samples)))
			t.engine.sink.Set(t.countOwner(i), now, nil, samples)
		}
	}
}

// endCounts ends the series of the Count families.
func (t *table) endCounts(at time.Time) {
	for i, f := range t.plan.families {
		if f.Type == spec.Count && t.engine.sink != nil {
			t.engine.sink.Remove(t.countOwner(i), at)
		}
	}
}
