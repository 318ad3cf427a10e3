// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

const (
	// lookBack is how far from the end of a list of conditions the newest ones are searched.
	lookBack = 64
	// maxSteps bounds how many conditions that came at once are replayed.
	maxSteps = 256
	// fresh is how old a condition of an object never seen may be to count as happening now.
	fresh = 4 * time.Minute
	// ahead is how far a condition's time may be ahead of our clock.
	ahead = 10 * time.Second
)

// observed is what was seen of an object's conditions last time.
type observed struct {
	last   uint64 // print of the last condition
	newest int64  // time of the newest one, ms
	at     int64  // time of the last samples, ms
	told   bool   // the first observation had it all from its conditions
}

// moment is the list of conditions cut to its first upto, and when that was all of it.
type moment struct {
	upto int
	at   int64
}

func conditions(o resource.Object) []any {
	list, _ := o.Field("status", "conditions").([]any)
	return list
}

// conditionTime gives when a condition was reached in milliseconds, 0 if it does not say.
func conditionTime(c any) int64 {
	o, _ := c.(map[string]any)
	for _, key := range [...]string{"lastTransitionTime", "lastHeartbeatTime"} {
		if s, ok := o[key].(string); ok && len(s) <= 64 {
			if t, err := time.Parse(time.RFC3339, s); err == nil && t.Unix() > 0 {
				return t.UnixMilli()
			}
		}
	}
	return 0
}

// printOf identifies a condition by its content.
func printOf(c any) uint64 {
	o, _ := c.(map[string]any)
	h := fnv.New64a()
	for _, key := range [...]string{"type", "stage", "status", "lastTransitionTime"} {
		s, _ := o[key].(string)
		_, _ = h.Write([]byte(s[:min(len(s), 256)]))
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}

// observe gives the time of the change that an event reports, and the moments between the last
// observation and this one that the list of conditions tells of. Condition times have a resolution
// of a second; what follows within one gets a millisecond more each.
func (o *observed) observe(ev resource.Event, known bool) (at int64, steps []moment) {
	list := conditions(ev.Object)
	received := ev.Received.UnixMilli()
	newest := int64(0)
	for _, c := range list[max(0, len(list)-lookBack):] {
		newest = max(newest, o.bound(conditionTime(c), received))
	}
	first := o.appended(list, known)
	if !known && (ev.Initial || len(list) == 0 || conditionTime(list[0]) < received-fresh.Milliseconds()) {
		first = len(list) // long ago, or not told
	}
	o.told = o.told || !known && first < len(list)
	at = received
	switch {
	case first < len(list):
		at = o.at
		for i := first; i < len(list); i++ {
			t := o.bound(conditionTime(list[i]), received)
			if t == 0 {
				t = received
			}
			at = max(t, at+1)
			if i < len(list)-1 {
				steps = append(steps, moment{i + 1, at})
			}
		}
	case known && newest > o.newest:
		at = max(newest, o.at+1)
	}
	o.newest, o.at = newest, at
	if len(list) > 0 {
		o.last = printOf(list[len(list)-1])
	}
	return at, steps[max(0, len(steps)-maxSteps):]
}

// bound keeps a condition's time from being ahead of our clock.
func (o *observed) bound(t, received int64) int64 {
	if t > received+ahead.Milliseconds() {
		return received
	}
	return t
}

// appended gives the index of the first condition that was not there last time; the length of the
// list if there is none, or if what was the last one is gone.
func (o *observed) appended(list []any, known bool) int {
	if !known || o.last == 0 {
		return 0
	}
	for i := len(list) - 1; i >= max(0, len(list)-lookBack-maxSteps); i-- {
		if printOf(list[i]) == o.last {
			return i + 1
		}
	}
	return len(list)
}

// cutter makes objects whose list of conditions ends early.
type cutter struct {
	object resource.Object
	status map[string]any
	list   []any
}

func newCutter(o resource.Object) *cutter {
	status, _ := o["status"].(map[string]any)
	c := &cutter{maps.Clone(o), maps.Clone(status), conditions(o)}
	c.object["status"] = c.status
	return c
}

func (c *cutter) cut(upto int) resource.Object {
	c.status["conditions"] = c.list[:upto:upto]
	return c.object
}

// changes collects the samples of successive evaluations, each series only when it changes.
type changes struct {
	last    map[uint64]wire.Sample
	samples []wire.Sample
}

// step adds what is different in now. What is not in it any more ends.
func (c *changes) step(now []wire.Sample, at int64) {
	next := make(map[uint64]wire.Sample, len(now))
	for _, s := range now {
		h := s.Labels.Hash()
		next[h] = s
		old, had := c.last[h]
		delete(c.last, h)
		if !had || math.Float64bits(old.Value) != math.Float64bits(s.Value) {
			c.samples = append(c.samples, s)
		}
	}
	for _, s := range c.last {
		c.samples = append(c.samples, stale(s, at))
	}
	c.last = next
}

func stale(s wire.Sample, at int64) wire.Sample {
	return wire.Sample{Labels: s.Labels, Time: at, Value: math.Float64frombits(value.StaleNaN)}
}

// replay gives the series at moments between two observations.
func (t *table) replay(object resource.Object, steps []moment, current []wire.Sample, at int64) []wire.Sample {
	c := newCutter(object)
	var out changes
	for _, m := range steps {
		t.work.evaluate(t.plan, c.cut(m.upto), nil, follows)
		out.step(t.work.samples(t.plan, m.at), m.at)
	}
	for _, s := range current {
		delete(out.last, s.Labels.Hash())
	}
	for _, s := range out.last {
		out.samples = append(out.samples, stale(s, at))
	}
	return out.samples
}

func follows(f *family) bool { return f.follows }

func followsFast(f *family) bool { return f.follows && f.Newest }

const (
	// repeat keeps a past state visible to a query between its start and its end: it is less than
	// the five minutes a query looks back.
	repeat = 4 * time.Minute
	// maxFill is how many samples of the past an object may have before it gets transitions only.
	maxFill = 10_000
	// maxVisits bounds the work for metrics that look at the whole list at each of its lengths.
	maxVisits = 2_000_000
	// maxFillSteps bounds how many conditions of the past are told.
	maxFillSteps = 20_000
)

// past gives the samples that the conditions of object tell of, from oldest (ms) up to the time it was seen.
func (w *work) past(p *plan, object resource.Object, seen time.Time, oldest int64) []wire.Sample {
	list := conditions(object)
	if len(list) == 0 {
		return nil
	}
	c := newCutter(object)
	var out changes
	var repeats []repeated
	at := int64(0)
	slow := max(0, len(list)-maxVisits/max(1, len(list)))
	for i := max(0, len(list)-maxFillSteps); i < len(list); i++ {
		t := conditionTime(list[i])
		if t == 0 && at == 0 || t > seen.UnixMilli() {
			continue
		}
		at = max(t, at+1)
		only := follows
		if i < slow {
			only = followsFast
		}
		w.evaluate(p, c.cut(i+1), nil, only)
		out.step(w.samples(p, at), at)
		end := seen.UnixMilli()
		if i+1 < len(list) {
			end = conditionTime(list[i+1])
		}
		if len(repeats) <= maxFill {
			first := at + repeat.Milliseconds()
			if late := oldest - first; late > 0 {
				first += (late + repeat.Milliseconds() - 1) / repeat.Milliseconds() * repeat.Milliseconds()
			}
			repeats = w.repeats(p, repeats, len(out.samples), out.last, first, end)
		}
	}
	return slices.DeleteFunc(interleave(out.samples, repeats), func(s wire.Sample) bool { return s.Time < oldest })
}

// repeated is a sample that is written again; it goes before the before-th change.
type repeated struct {
	before int
	sample wire.Sample
}

// repeats adds the repetitions, from first to before end, of the states that are 1.
func (w *work) repeats(p *plan, to []repeated, before int, now map[uint64]wire.Sample, first, end int64) []repeated {
	states := map[string]bool{}
	for _, f := range p.families {
		states[f.Name] = f.Type == spec.StateSet || f.Type == spec.Info
	}
	for _, s := range now {
		if s.Value != 1 || !states[s.Labels.Get("__name__")] {
			continue
		}
		for t := first; t < end && len(to) <= maxFill; t += repeat.Milliseconds() {
			s.Time = t
			to = append(to, repeated{before, s})
		}
	}
	return to
}

func interleave(changes []wire.Sample, repeats []repeated) []wire.Sample {
	if len(changes)+len(repeats) > maxFill {
		return changes
	}
	out := make([]wire.Sample, 0, len(changes)+len(repeats))
	for i := range len(changes) + 1 {
		for len(repeats) > 0 && repeats[0].before == i {
			out = append(out, repeats[0].sample)
			repeats = repeats[1:]
		}
		if i < len(changes) {
			out = append(out, changes[i])
		}
	}
	return out
}

// fillBatch is how many samples of the past go to the sink at a time, of as many objects as it takes:
// the sink makes each batch safe on disk.
const fillBatch = 20_000

// fill writes the past of objects until ctx ends.
func (e *Engine) fill(ctx context.Context) error {
	w := newWork(caps{e.config.ObjectSeriesLimit, e.config.LabelBytes}, e.metrics)
	for {
		job, ok := e.fills.next(ctx)
		if !ok {
			return nil
		}
		var batch []wire.Sample
		oldest := int64(0)
		if e.retention > 0 {
			oldest = time.Now().Add(-e.retention).UnixMilli()
		}
		for ok {
			e.generation.RLock()
			batch = append(batch, w.past(job.table.plan, job.object, job.seen, oldest)...)
			e.generation.RUnlock()
			w.release()
			if len(batch) >= fillBatch {
				break
			}
			job, ok = e.fills.take()
		}
		if len(batch) > 0 {
			e.writePast(ctx, batch)
		}
	}
}

// retryMax is the longest pause between tries to write the past.
const retryMax = time.Minute

// writePast gives samples to the sink until it takes them or says that it never will.
func (e *Engine) writePast(ctx context.Context, batch []wire.Sample) {
	for wait := time.Second; ; wait = min(2*wait, retryMax) {
		err := e.sink.History(ctx, batch)
		if err == nil {
			e.metrics.history.Add(float64(len(batch)))
			return
		}
		var told interface{ Temporary() bool }
		if ctx.Err() != nil || !errors.As(err, &told) || !told.Temporary() {
			e.metrics.historyLost.Add(float64(len(batch)))
			if ctx.Err() == nil && e.quiet.pass() {
				e.log.Warn("history is incomplete", "samples", len(batch), "err", err)
			}
			return
		}
		if e.quiet.pass() {
			e.log.Warn("history could not be written and is tried again", "samples", len(batch), "wait", wait, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}
