// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
	"github.com/periplus-io/periplus/internal/wire"
)

// plan is all that the specifications say about one kind.
type plan struct {
	kind     resource.Kind
	families []*family
	// print is equal for plans that give the same.
	print string
	// backward and history are set where a family follows the list of conditions, in what happens and
	// in what had happened before.
	backward, history bool
}

// family is one metric of a kind.
type family struct {
	*spec.Metric
	resource *spec.Resource
	limit    int
	// used is how many series the objects of the kind have now.
	used int
	// prefix is where a line of it begins.
	prefix string
	tally  tally // of a Count
	// follows is set where the series at each condition of the list matter.
	follows bool
	// atLimit is set once series were refused for the limit, warned once that was logged.
	atLimit, warned bool
}

func newPlan(k resource.Kind, specs []*spec.Spec, limit int) *plan {
	p := &plan{kind: k}
	var said strings.Builder
	for _, s := range specs {
		for _, r := range s.Resources {
			if !r.Matches(k) {
				continue
			}
			said.WriteString(r.Print)
			for _, m := range r.Bind(k) {
				f := &family{Metric: m, resource: r, limit: m.Limit, prefix: m.Name + "{", tally: tally{groups: map[string]*group{}}}
				if f.limit == 0 {
					f.limit = limit
				}
				f.follows = m.Type != spec.Count && (m.Newest || m.Conditions && r.History)
				p.backward = p.backward || f.follows
				p.history = p.history || f.follows && r.History
				p.families = append(p.families, f)
			}
		}
	}
	p.print = said.String()
	return p
}

// caps bound what one object may give.
type caps struct {
	objectSeries int
	labelBytes   int
}

// point is one evaluated series: a part of the labels in work, and a value.
type point struct {
	family   int
	from, to int
	value    float64
}

// work evaluates one object at a time; its buffers are used again for the next.
type work struct {
	eval spec.Evaluator
	seed maphash.Seed
	caps caps
	m    *metrics

	// text is the lines of the object, family after family; ends says where each one's end.
	text   []byte
	ends   []uint32
	points []point
	labels []spec.Label
	counts []string // what the object adds to Count families
	seen   map[uint64]struct{}
	faults []fault

	family  int
	current *family
	given   int
	room    int
	refused int
	// counting is set where refusals are news.
	counting bool
	builder  labels.ScratchBuilder
}

// fault is what was wrong with one metric of an object.
type fault struct {
	metric *spec.Metric
	err    error
}

func newWork(c caps, m *metrics) *work {
	return &work{seed: maphash.MakeSeed(), caps: c, m: m, seen: map[uint64]struct{}{}}
}

// evaluate fills the buffers with what object gives. held says how many series of each family the
// object has already, which do not count against the limit. Without it the object is one as it was
// once: what others have now does not matter, and what is refused is not counted. With only set,
// other families give nothing.
func (w *work) evaluate(p *plan, object resource.Object, held []uint32, only func(*family) bool) {
	w.text, w.ends, w.points, w.labels = w.text[:0], w.ends[:0], w.points[:0], w.labels[:0]
	w.counts, w.faults = w.counts[:0], w.faults[:0]
	clear(w.seen)
	w.eval.Begin(object)
	var resource *spec.Resource
	selected := false
	for i, f := range p.families {
		if f.resource != resource {
			resource, selected = f.resource, f.resource.Selects(object)
		}
		if selected && (only == nil || only(f)) {
			w.one(i, f, held)
		}
		w.ends = append(w.ends, uint32(len(w.text)))
	}
}

func (w *work) one(i int, f *family, held []uint32) {
	w.family, w.current, w.given, w.refused = i, f, 0, 0
	w.room, w.counting = f.limit, held != nil
	if held != nil {
		w.room += int(held[i]) - f.used
	}
	for _, err := range w.eval.Metric(f.Metric, w.series) {
		w.faults = append(w.faults, fault{f.Metric, err})
	}
}

// series takes one series from the evaluator.
func (w *work) series(set []spec.Label, value float64) bool {
	f := w.current
	if w.given >= w.caps.objectSeries || w.given >= w.room && f.Type != spec.Count {
		reason := refusedLimit
		if w.given >= w.caps.objectSeries {
			reason = refusedObject
		}
		w.refuse(reason)
		w.refused++
		// Counting on is worth something, walking a million elements for it is not.
		return w.refused < 10*w.caps.objectSeries
	}
	start := len(w.text)
	w.text = append(w.text, f.prefix...)
	from := len(w.labels)
	for i := range set {
		l := &set[i]
		l.Value = w.clean(l.Value)
		w.text = appendLabel(w.text, l.Name, l.Value)
		if l.Value != "" {
			w.labels = append(w.labels, *l)
		}
	}
	w.text = endLabels(w.text, len(f.prefix)-1, start)
	sum := maphash.Bytes(w.seed, w.text[start:])
	if _, twice := w.seen[sum]; twice {
		w.text, w.labels = w.text[:start], w.labels[:from]
		if f.Type != spec.Count {
			w.refuse(refusedTwice)
		}
		return true
	}
	w.seen[sum] = struct{}{}
	w.given++
	if f.Type == spec.Count {
		if f.full(w.text[start:]) {
			w.text, w.labels = w.text[:start], w.labels[:from]
			w.refuse(refusedLimit)
			return true
		}
		key := string(w.text[start:])
		f.join(key, func() labels.Labels { return w.build(f, w.labels[from:]) })
		w.counts = append(w.counts, key)
		w.text, w.labels = w.text[:start], w.labels[:from]
		return true
	}
	w.text = appendValue(w.text, value)
	w.points = append(w.points, point{w.family, from, len(w.labels), value})
	return true
}

func (w *work) refuse(reason string) {
	if w.counting {
		w.m.refuse(w.current.Name, reason)
		w.current.atLimit = w.current.atLimit || reason == refusedLimit
	}
}

// keepBuffer is the size in elements up to which buffers are kept for the next object.
const keepBuffer = 64 << 10

// release lets go of the object's memory, and of buffers that a huge object made.
func (w *work) release() {
	if cap(w.text) > 32*keepBuffer {
		w.text = nil
	}
	if cap(w.labels) > keepBuffer {
		w.labels = nil
	}
	clear(w.labels[:cap(w.labels)])
	clear(w.faults)
	w.eval.Release()
}

// clean makes a value fit to be a label: valid UTF-8 of bounded length.
func (w *work) clean(s string) string {
	if len(s) > w.caps.labelBytes {
		cut := w.caps.labelBytes
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
		w.m.cutLength.Inc()
	}
	if !utf8.ValidString(s) {
		w.m.cutUTF8.Inc()
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// samples gives the evaluated series as samples at time at.
func (w *work) samples(p *plan, at int64) []wire.Sample {
	out := make([]wire.Sample, len(w.points))
	for i, pt := range w.points {
		out[i] = wire.Sample{
			Labels: w.build(p.families[pt.family], w.labels[pt.from:pt.to]),
			Time:   at,
			Value:  pt.value,
		}
	}
	return out
}

func (w *work) build(f *family, set []spec.Label) labels.Labels {
	w.builder.Reset()
	w.builder.Add(model.MetricNameLabel, f.Name)
	for _, l := range set {
		w.builder.Add(l.Name, l.Value)
	}
	// The name sorts before lower-case letters, after upper-case ones.
	if len(set) > 0 && set[0].Name < model.MetricNameLabel {
		w.builder.Sort()
	}
	return w.builder.Labels()
}
