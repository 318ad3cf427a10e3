// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"sync"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

// table is what is known about the objects of one kind.
type table struct {
	engine *Engine
	plan   *plan
	work   *work // used by the one event at a time
	held   []uint32

	// mu guards what follows. Rendered texts are immutable and may be used outside.
	mu      sync.Mutex
	objects map[string]*entry
	list    []*entry
	series  int
}

// entry is one object.
type entry struct {
	key  string
	uid  string
	text rendered
	slot int // in the table's list
	seen observed
	// counts are what it adds to Count families.
	counts []string
	logged bool
}

func newTable(e *Engine, p *plan) *table {
	return &table{
		engine:  e,
		plan:    p,
		work:    newWork(caps{e.config.ObjectSeriesLimit, e.config.LabelBytes}, e.metrics),
		held:    make([]uint32, len(p.families)),
		objects: map[string]*entry{},
	}
}

func (t *table) owner(uid string) string { return "state/" + t.plan.kind.String() + "/" + uid }

// apply evaluates an object that exists.
func (t *table) apply(ev resource.Event) {
	start := time.Now()
	key := ev.Object.Namespace() + "/" + ev.Object.Name()
	en, known := t.objects[key]
	if known && en.uid != ev.Object.UID() {
		// A new object under an old name: its deletion was not seen.
		t.forget(en, ev.Received)
		known = false
	}
	if !known {
		en = &entry{key: key, uid: ev.Object.UID()}
	}
	for i := range t.held {
		t.held[i] = 0
		if known {
			t.held[i] = en.text.count(i)
		}
	}
	for _, f := range t.plan.families {
		f.leave(en.counts)
	}
	t.work.evaluate(t.plan, ev.Object, t.held, nil)
	en.counts = append([]string(nil), t.work.counts...)
	t.complain(en, ev.Object)
	changed := !known || !t.same(en.text)
	if changed {
		t.store(en, newRendered(t.work.ends, t.work.points, t.work.text), known)
	}
	t.engine.metrics.evaluation.Observe(time.Since(start).Seconds())
	if t.engine.sink != nil {
		t.send(en, ev, known, changed)
	}
}

// same says whether the evaluation gave exactly what is held.
func (t *table) same(held rendered) bool {
	head := 8 * len(t.plan.families)
	if string(held[head:]) != string(t.work.text) {
		return false
	}
	for i, end := range t.work.ends {
		if held.word(2*i+1) != end {
			return false
		}
	}
	return true
}

func (t *table) store(en *entry, text rendered, known bool) {
	for i, f := range t.plan.families {
		f.used += int(text.count(i)) - int(t.held[i])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.held {
		t.series += int(text.count(i)) - int(t.held[i])
	}
	en.text = text
	if !known {
		en.slot = len(t.list)
		t.list = append(t.list, en)
		t.objects[en.key] = en
	}
}

// send hands the object's series to the sink. The evaluation is in t.work.
func (t *table) send(en *entry, ev resource.Event, known, changed bool) {
	at, steps := en.seen.observe(ev, known)
	var current []wire.Sample
	if changed || len(steps) > 0 {
		current = t.work.samples(t.plan, at)
	}
	var earlier []wire.Sample
	if t.plan.backward && len(steps) > 0 {
		earlier = t.replay(ev.Object, steps, current, at)
	}
	if changed || len(earlier) > 0 {
		t.engine.metrics.samples.Add(float64(len(earlier) + len(current)))
		t.engine.sink.Set(t.owner(en.uid), time.UnixMilli(at), earlier, current)
	}
	if t.plan.history && !known && !en.seen.told {
		t.engine.fills.add(fillJob{t, ev.Object, ev.Received})
	}
}

// remove forgets an object.
func (t *table) remove(object resource.Object, at time.Time) {
	en, ok := t.objects[object.Namespace()+"/"+object.Name()]
	if ok && (en.uid == object.UID() || object.UID() == "") {
		t.forget(en, at)
		return
	}
	// Not held, since a reload perhaps, or replaced; the sink may hold it.
	if t.engine.sink != nil && object.UID() != "" {
		t.engine.sink.Remove(t.owner(object.UID()), at)
	}
}

func (t *table) forget(en *entry, at time.Time) {
	for i, f := range t.plan.families {
		f.used -= int(en.text.count(i))
		f.leave(en.counts)
	}
	t.mu.Lock()
	for i := range t.plan.families {
		t.series -= int(en.text.count(i))
	}
	last := len(t.list) - 1
	t.list[en.slot] = t.list[last]
	t.list[en.slot].slot = en.slot
	t.list[last] = nil
	t.list = t.list[:last]
	delete(t.objects, en.key)
	t.mu.Unlock()
	if t.engine.sink != nil {
		t.engine.sink.Remove(t.owner(en.uid), at)
	}
}

// drop forgets all objects.
func (t *table) drop(at time.Time) {
	for len(t.list) > 0 {
		t.forget(t.list[len(t.list)-1], at)
	}
	t.endCounts(at)
}

// texts gives the rendered text of every object.
func (t *table) texts() []rendered {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]rendered, len(t.list))
	for i, en := range t.list {
		out[i] = en.text
	}
	return out
}

// complain counts what was wrong with the object and logs it the first time.
func (t *table) complain(en *entry, object resource.Object) {
	for _, f := range t.plan.families {
		if f.atLimit && !f.warned {
			f.warned = true
			t.engine.log.Warn("metric is at its limit of series, more are refused",
				"kind", t.plan.kind.Kind, "metric", f.Name, "limit", f.limit)
		}
	}
	for _, f := range t.work.faults {
		t.engine.metrics.faults.WithLabelValues(f.metric.Name).Inc()
		if !en.logged && !f.metric.Quiet {
			en.logged = true
			if t.engine.quiet.pass() {
				t.engine.log.Warn("metric cannot be evaluated", "kind", t.plan.kind.Kind,
					"namespace", object.Namespace(), "name", object.Name(), "metric", f.metric.Name, "err", f.err)
			}
		}
	}
}
