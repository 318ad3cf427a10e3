// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep

import (
	"hash/maphash"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/periplus-io/periplus/internal/wire"
)

// owner is an object with its series, in the order in which it last gave them.
type owner struct {
	name   string
	series []series
	// refused are current samples of series that another owner writes.
	refused []wire.Sample
	slot    uint32
	at      uint32 // index in its slot
}

// series is 48 bytes; its labels share their memory with the store.
type series struct {
	labels labels.Labels
	hash   uint64
	ref    uint64
	value  float64
	last   int64
}

// never is the time of the last sample of a series that has none.
const never = math.MinInt64

// Set replaces the whole set of series that owner has. earlier are transitions that happened before
// the current values, in time order; it may be nil. A series that is not in current any more ends at
// the given time. A value that did not change is not written again until the repeat.
//
// Samples carry the time of their event. One that is not after the series' last sample is written
// 1 ms after it; one over 10 s ahead of this machine's clock is written now, and counted as skew.
// The slices are not kept, their labels may be.
func (k *Keep) Set(owner string, at time.Time, earlier, current []wire.Sample) {
	k.mu.Lock()
	o := k.owner(owner)
	c := newClock()
	next, gone := k.claim(o, current)
	o.series = next
	index := k.index(o.series, earlier)
	past := k.transitions(o, &c, earlier, index, gone)
	k.present(o, &c, current)
	end := c.clamp(at.UnixMilli())
	k.end(end, gone)
	k.end(end, past)
	if len(current) == 0 {
		k.drop(o)
	}
	k.metrics.skew.Add(float64(c.skewed))
	k.metrics.sets.Inc()
	k.count()
	full := len(k.batch) >= batchLimit
	k.mu.Unlock()
	if full {
		k.write()
	}
}

// Remove ends all series of owner at the given time, or right after their last sample.
func (k *Keep) Remove(owner string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := k.owners[owner]
	if o == nil {
		return
	}
	c := newClock()
	gone := o.series
	o.series = nil
	k.forgetRefused(o)
	k.drop(o)
	k.end(c.clamp(at.UnixMilli()), gone)
	k.metrics.skew.Add(float64(c.skewed))
	k.count()
}

// clock clamps times that are ahead of this machine's clock.
type clock struct {
	now    int64
	skewed int
}

func newClock() clock { return clock{now: time.Now().UnixMilli()} }

func (c *clock) clamp(t int64) int64 {
	if t > c.now+aheadLimit.Milliseconds() {
		c.skewed++
		return c.now
	}
	return t
}

func (k *Keep) owner(name string) *owner {
	o := k.owners[name]
	if o == nil {
		slot := uint32(maphash.String(k.seed, name) % slots)
		o = &owner{name: name, slot: slot, at: uint32(len(k.slots[slot]))}
		k.owners[name] = o
		k.slots[slot] = append(k.slots[slot], o)
	}
	return o
}

// drop forgets o itself; its place in the slot is taken by the last one.
func (k *Keep) drop(o *owner) {
	delete(k.owners, o.name)
	slot := k.slots[o.slot]
	last := slot[len(slot)-1]
	slot[o.at], last.at = last, o.at
	slot[len(slot)-1] = nil
	k.slots[o.slot] = slot[:len(slot)-1]
}

// claim gives o's next series in the order of current, with what is known of those it had, and those
// that are gone. Labels that another owner writes are noted in o.refused and left out.
func (k *Keep) claim(o *owner, current []wire.Sample) (next, gone []series) {
	if len(o.refused) == 0 && sameSeries(o.series, current) {
		return o.series, nil
	}
	k.forgetRefused(o)
	had := k.scratch
	clear(had)
	for i := range o.series {
		had[o.series[i].hash] = i
	}
	next = make([]series, 0, len(current))
	for _, s := range current {
		hash := s.Labels.Hash()
		if i, ok := had[hash]; ok {
			if i >= 0 {
				next = append(next, o.series[i])
				had[hash] = -1
			}
			continue
		}
		if w := k.writers[hash]; w != nil {
			if w != o {
				k.refuse(o, hash, s)
			}
			continue
		}
		next = append(next, k.begin(o, hash, s.Labels))
	}
	for i := range o.series {
		if had[o.series[i].hash] >= 0 {
			gone = append(gone, o.series[i])
		}
	}
	return next, gone
}

// begin makes o the writer of a series. One that ended a moment ago goes on after its marker.
func (k *Keep) begin(o *owner, hash uint64, l labels.Labels) series {
	k.writers[hash] = o
	s := series{labels: l, hash: hash, last: never}
	if last, ok := k.ended[hash]; ok {
		s.last, s.value = last, math.Float64frombits(value.StaleNaN)
		delete(k.ended, hash)
	}
	return s
}

// sameSeries says whether current are the series in the same order: the common case, without a map.
func sameSeries(have []series, current []wire.Sample) bool {
	if len(have) != len(current) {
		return false
	}
	for i := range have {
		if have[i].hash != current[i].Labels.Hash() {
			return false
		}
	}
	return true
}

func (k *Keep) index(have []series, earlier []wire.Sample) map[uint64]int {
	if len(earlier) == 0 {
		return nil
	}
	clear(k.scratch)
	for i := range have {
		k.scratch[have[i].hash] = i
	}
	return k.scratch
}

// transitions writes what happened before the current values. Series that are over by now come back
// in past; those of gone are advanced in place.
func (k *Keep) transitions(o *owner, c *clock, earlier []wire.Sample, index map[uint64]int, gone []series) (past []series) {
	for _, e := range earlier {
		hash := e.Labels.Hash()
		var s *series
		if i, ok := index[hash]; ok {
			s = &o.series[i]
		} else if i := slices.IndexFunc(gone, func(g series) bool { return g.hash == hash }); i >= 0 {
			s = &gone[i]
		} else if i := slices.IndexFunc(past, func(g series) bool { return g.hash == hash }); i >= 0 {
			s = &past[i]
		} else if w := k.writers[hash]; w != nil && w != o {
			k.metrics.refused(reasonDuplicate).Inc()
			continue
		} else {
			past = append(past, k.begin(o, hash, e.Labels))
			s = &past[len(past)-1]
		}
		k.change(s, c, e)
	}
	return past
}

// present writes the current values that changed. A new one whose event is long past is written now
// too: the look-back would not find it until the first repeat.
func (k *Keep) present(o *owner, c *clock, current []wire.Sample) {
	i := 0
	for _, s := range current {
		if i == len(o.series) {
			return
		}
		if o.series[i].hash != s.Labels.Hash() {
			continue // refused or given twice
		}
		k.change(&o.series[i], c, s)
		if o.series[i].last < c.now-k.repeat.Milliseconds() {
			k.hold(&o.series[i], k.append(&o.series[i], c.now, s.Value))
		}
		i++
	}
}

// change writes s' new value unless it is the old one. The first sample of a series may be of an event
// long ago: the store may have it from before a restart, or else it goes where old samples go. Then
// present writes the value at the present time too.
func (k *Keep) change(s *series, c *clock, sample wire.Sample) {
	if s.last != never {
		if math.Float64bits(s.value) != math.Float64bits(sample.Value) {
			k.hold(s, k.append(s, c.clamp(sample.Time), sample.Value))
		}
		return
	}
	switch {
	case sample.Time < c.now-k.repeat.Milliseconds() && sample.Time <= k.store.Seen(s.labels):
		s.value = sample.Value
	case sample.Time < c.now-lateEvent.Milliseconds():
		s.value = sample.Value
		k.postpone(sample)
	default:
		k.hold(s, k.append(s, c.clamp(sample.Time), sample.Value))
	}
}

// postpone leaves a sample to runLate.
func (k *Keep) postpone(sample wire.Sample) {
	if len(k.late) >= lateLimit {
		k.metrics.refused(reasonTooMany).Inc()
		return
	}
	k.late = append(k.late, sample)
	select {
	case k.aged <- struct{}{}:
	default:
	}
}

// farAhead says whether a last sample lies so far ahead that the clock must have been set back since.
// Then the series goes on at the present, out of order, and not in the future.
func farAhead(last, now int64) bool { return last > now+2*aheadLimit.Milliseconds() }

// append puts one sample of s into the batch, after its last one. The value becomes s' value even if
// the store refuses the sample, so that the repeat writes it.
func (k *Keep) append(s *series, t int64, v float64) *rejected {
	s.value = v
	if s.last != never && t <= s.last && !farAhead(s.last, time.Now().UnixMilli()) {
		t = s.last + 1
	}
	ref, err := k.store.Append(s.ref, s.labels, t, v)
	if err != nil {
		return &rejected{time: t, value: v, err: err}
	}
	if s.ref != ref {
		s.ref = ref
		s.labels = k.store.Intern(s.labels)
	}
	s.last = t
	k.queued(wire.Sample{Labels: s.labels, Time: t, Value: v})
	return nil
}

// rejected is a sample that the store did not take.
type rejected struct {
	time  int64
	value float64
	err   error
}

// hold counts what append could not write, or keeps it for when the disk has space.
func (k *Keep) hold(s *series, r *rejected) {
	if r != nil {
		k.lost(r.err, wire.Sample{Labels: s.labels, Time: r.time, Value: r.value})
	}
}

// end writes staleness markers and lets the series go, to an owner that waits for one.
func (k *Keep) end(at int64, gone []series) {
	for i := range gone {
		s := &gone[i]
		if s.last != never {
			k.hold(s, k.append(s, at, math.Float64frombits(value.StaleNaN)))
			k.metrics.ended.Inc()
			k.ended[s.hash] = s.last
		}
		delete(k.writers, s.hash)
		k.handOver(s)
	}
}

// refuse notes that another owner writes what o gives. Logged once per series.
func (k *Keep) refuse(o *owner, hash uint64, s wire.Sample) {
	o.refused = append(o.refused, s)
	k.waiting[hash] = append(k.waiting[hash], o)
	k.metrics.refused(reasonDuplicate).Inc()
	if _, known := k.clashes[hash]; known || len(k.clashes) >= clashLimit {
		return
	}
	k.clashes[hash] = struct{}{}
	k.log.Warn("series has two owners, the first writes it", "series", s.Labels.String(), "owner", o.name, "writer", k.writers[hash].name)
}

// forgetRefused takes o off the lists of those who wait.
func (k *Keep) forgetRefused(o *owner) {
	for _, s := range o.refused {
		hash := s.Labels.Hash()
		rest := slices.DeleteFunc(k.waiting[hash], func(w *owner) bool { return w == o })
		if len(rest) == 0 {
			delete(k.waiting, hash)
		} else {
			k.waiting[hash] = rest
		}
	}
	o.refused = nil
}

// handOver gives a series that ended to the first owner that waits for it.
func (k *Keep) handOver(ended *series) {
	waiting := k.waiting[ended.hash]
	if len(waiting) == 0 {
		return
	}
	o := waiting[0]
	if len(waiting) == 1 {
		delete(k.waiting, ended.hash)
	} else {
		k.waiting[ended.hash] = waiting[1:]
	}
	i := slices.IndexFunc(o.refused, func(s wire.Sample) bool { return s.Labels.Hash() == ended.hash })
	sample := o.refused[i]
	o.refused = slices.Delete(o.refused, i, i+1)
	o.series = append(o.series, k.begin(o, ended.hash, ended.labels))
	s := &o.series[len(o.series)-1]
	k.hold(s, k.append(s, time.Now().UnixMilli(), sample.Value))
}
