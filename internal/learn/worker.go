// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learn/store"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// The words for workers and tasks.
const (
	statusWaiting = "waiting"
	statusActive  = "active"
	statusDead    = "dead"
	edge          = "edge"
	cloud         = "cloud"
)

// worker is one pod that works for a job.
type worker struct {
	rec      store.Worker
	live     bool // seen in this start
	work     string
	location string
}

func (w *worker) job() name { return name{w.rec.Namespace, w.rec.Kind, w.rec.Job} }

// node is what is known of a node.
type node struct {
	location  string
	addresses []string
}

// workerTable joins pods, nodes and jobs.
type workerTable struct {
	all   map[string]*worker          // by pod uid
	byJob map[name]map[string]*worker // pod uid to worker
	ended map[string]int              // by job uid or, without one, job key: ended tasks not kept one by one
	nodes map[string]node
	// dirty are jobs whose worker series are to be made anew.
	dirty map[name]struct{}
	// shown are jobs that have worker series, bases the addresses of knowledge bases that have one.
	shown       map[name]struct{}
	bases       map[string]map[string]struct{} // address to pod uids
	dirtyBases  map[string]struct{}
	podsListed  bool
	nodesListed bool
}

func (t *workerTable) init() {
	t.all, t.byJob, t.ended = map[string]*worker{}, map[name]map[string]*worker{}, map[string]int{}
	t.nodes, t.dirty, t.shown = map[string]node{}, map[name]struct{}{}, map[name]struct{}{}
	t.bases, t.dirtyBases = map[string]map[string]struct{}{}, map[string]struct{}{}
}

func (t *workerTable) touch(k name) { t.dirty[k] = struct{}{} }

// touchActive marks jobs whose tasks grow longer.
func (t *workerTable) touchActive() {
	for _, w := range t.all {
		if w.live && w.rec.Status == statusActive {
			t.touch(w.job())
		}
	}
}

func (t *workerTable) restoreEnded(job string, n int) { t.ended[job] = n }

// put adds a worker under its job.
func (t *workerTable) put(w *worker) {
	t.all[w.rec.UID] = w
	if t.byJob[w.job()] == nil {
		t.byJob[w.job()] = map[string]*worker{}
	}
	t.byJob[w.job()][w.rec.UID] = w
}

func (t *workerTable) remove(w *worker) {
	delete(t.all, w.rec.UID)
	delete(t.byJob[w.job()], w.rec.UID)
	if len(t.byJob[w.job()]) == 0 {
		delete(t.byJob, w.job())
	}
}

// forget drops what is kept of the ended tasks of a job.
func (t *workerTable) forget(s *store.Store, key name, uid string) {
	for _, w := range t.byJob[key] {
		if w.rec.JobUID == uid && w.rec.Gone {
			s.ForgetWorker(w.rec.UID)
			t.remove(w)
		}
	}
	if t.ended[uid] > 0 {
		delete(t.ended, uid)
		s.PutEnded(uid, 0)
	}
}

// relocate recomputes every location, after nodes or the selector changed.
func (t *workerTable) relocate(location func(node string) string) {
	for _, w := range t.all {
		if loc := location(w.rec.Node); loc != w.location {
			w.location = loc
			t.touch(w.job())
		}
	}
}

func (l *Learn) restoreWorker(rec store.Worker) {
	w := &worker{rec: rec}
	w.work = l.workOf(&rec)
	l.workers.put(w)
}

func (l *Learn) workOf(rec *store.Worker) string {
	if m := l.kinds.Find(resource.Kind{Group: rec.Group, Kind: rec.Kind}); m != nil {
		return m.Workers.Work[strings.ToLower(rec.Type)]
	}
	return ""
}

// location is edge or cloud, or empty for a node that is not known.
func (l *Learn) location(name string) string { return l.workers.nodes[name].location }

// applyWorker takes the newest form of a pod. Pods that work for no job are passed over.
func (l *Learn) applyWorker(ev resource.Event, deleted bool) {
	o := ev.Object
	id := o.UID()
	if w := l.workers.all[id]; w != nil && (w.rec.Pod != o.Name() || w.rec.Namespace != o.Namespace()) {
		id += "/" + o.Namespace() + "/" + o.Name() // a copy of a manifest
	}
	w := l.workers.all[id]
	if deleted {
		if w != nil {
			l.workerGone(w, ev.Received)
		}
		return
	}
	labels, _ := o.Field("metadata", "labels").(map[string]any)
	m := l.workerKind(labels)
	if m == nil {
		return
	}
	rec := readWorker(m, o, labels, ev.Received)
	rec.UID = id
	if rec.Job == "" {
		l.lose("Pod/"+o.Namespace()+"/"+o.Name(), map[string]int{"bad_worker": 1})
		return
	}
	if w != nil && w.rec == rec && w.live {
		return
	}
	before := ""
	if w != nil {
		before = w.rec.Status
		if rec.Start == 0 {
			rec.Start = w.rec.Start
		}
		l.workers.remove(w)
	}
	w = &worker{rec: rec, live: true}
	w.work, w.location = l.workOf(&rec), l.location(rec.Node)
	l.workers.put(w)
	l.store.PutWorker(&rec)
	l.workers.touch(w.job())
	l.useBase(w)
	if before != rec.Status && (!ev.Initial || before != "") {
		l.publishWorker(learning.WorkerChanged, w, ev.Received)
	}
	l.kick()
}

// workerKind finds the kind of job whose labels a pod carries.
func (l *Learn) workerKind(labels map[string]any) *mapping.Mapping {
	if len(labels) == 0 {
		return nil
	}
	for _, m := range l.kinds.Jobs() {
		if m.Workers.Name != "" {
			if _, ok := labels[m.Workers.Name].(string); ok {
				return m
			}
		}
	}
	return nil
}

func (l *Learn) workerGone(w *worker, at time.Time) {
	if w.rec.Gone {
		return
	}
	w.rec.Gone, w.live = true, false
	if w.rec.Status != statusDead {
		w.rec.Status = statusDead
	}
	if w.rec.Start > 0 && w.rec.End == 0 {
		w.rec.End = at.UnixMilli()
	}
	l.dropBase(w)
	if w.rec.Start == 0 { // it never began, so it was no task
		l.store.ForgetWorker(w.rec.UID)
		l.workers.remove(w)
	} else {
		l.store.PutWorker(&w.rec)
		l.pruneTasks(w)
	}
	l.workers.touch(w.job())
	l.publishWorker(learning.WorkerDeleted, w, at)
	l.kick()
}

// pruneTasks keeps only the newest ended tasks of a job one by one and the number of the others.
func (l *Learn) pruneTasks(w *worker) {
	var oldest *worker
	n := 0
	for _, o := range l.workers.byJob[w.job()] {
		if !o.rec.Gone || o.rec.JobUID != w.rec.JobUID {
			continue
		}
		n++
		if oldest == nil || o.rec.Start < oldest.rec.Start {
			oldest = o
		}
	}
	if n <= keepEnded {
		return
	}
	l.workers.remove(oldest)
	l.store.ForgetWorker(oldest.rec.UID)
	l.workers.ended[w.rec.JobUID]++
	l.store.PutEnded(w.rec.JobUID, l.workers.ended[w.rec.JobUID])
}

func (l *Learn) publishWorker(t learning.EventType, w *worker, at time.Time) {
	l.publish(learning.Event{
		Type: t, Time: at.UTC(), Namespace: w.rec.Namespace, Kind: w.rec.Kind, Name: w.rec.Job, UID: w.rec.JobUID,
		Worker: w.rec.Pod, Status: w.rec.Status, Message: facts.Clip(w.rec.Reason),
	})
}

// applyNode takes the newest form of a node.
func (l *Learn) applyNode(m *mapping.Mapping, ev resource.Event, deleted bool) {
	o := ev.Object
	if deleted {
		return // what ran there still ran there
	}
	labels, _ := o.Field("metadata", "labels").(map[string]any)
	n := node{location: cloud}
	for key, location := range m.Location {
		if _, ok := labels[key]; ok {
			n.location = location
		}
	}
	if l.edge.matches(labels) {
		n.location = edge
	}
	addresses, _ := o.Field("status", "addresses").([]any)
	for _, a := range addresses {
		entry, _ := a.(map[string]any)
		if s, _ := entry["address"].(string); s != "" {
			n.addresses = append(n.addresses, s)
		}
	}
	old, known := l.workers.nodes[o.Name()]
	l.workers.nodes[o.Name()] = n
	if !known || old.location != n.location {
		for _, w := range l.workers.all {
			if w.rec.Node == o.Name() && w.location != n.location {
				w.location = n.location
				l.workers.touch(w.job())
			}
		}
	}
	if !known {
		for base := range l.workers.bases {
			l.workers.dirtyBases[base] = struct{}{}
		}
	}
	l.kick()
}
