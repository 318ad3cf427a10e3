// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"
)

// setWorkers makes the series of workers, tasks and knowledge bases anew for jobs where they changed. It waits
// for the list of nodes, for a little while, so that locations are right from the first sample on.
func (l *Learn) setWorkers(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.workers
	if !t.nodesListed && now.Sub(l.opened) < settle {
		return
	}
	for k := range t.dirty {
		delete(t.dirty, k)
		l.setJobWorkers(k, now)
	}
	for base := range t.dirtyBases {
		delete(t.dirtyBases, base)
		l.setBase(base, now)
	}
}

func workersOwner(k name) string { return "learn/workers/" + k.namespace + "/" + k.kind + "/" + k.name }

// present gives the workers of the present job of a name, oldest first; without such a job, those of the newest.
func (l *Learn) present(k name) (list []*worker, uid string) {
	all := l.workers.byJob[k]
	if j := l.byName[k]; j != nil {
		uid = j.rec.UID
	} else {
		var start int64 = -1
		for _, w := range all {
			if w.live && w.rec.Start > start {
				start, uid = w.rec.Start, w.rec.JobUID
			}
		}
	}
	return l.workersOf(k, uid), uid
}

// workersOf gives the workers of one job, oldest first. A pod that does not say which belongs to any of the name.
func (l *Learn) workersOf(k name, uid string) (list []*worker) {
	for _, w := range l.workers.byJob[k] {
		if w.rec.JobUID == uid || w.rec.JobUID == "" {
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b *worker) int {
		return cmp.Or(cmp.Compare(a.rec.Start, b.rec.Start), strings.Compare(a.rec.Pod, b.rec.Pod))
	})
	return list
}

type workerGroup struct{ location, kind string }

func (l *Learn) setJobWorkers(k name, now time.Time) {
	t := &l.workers
	list, uid := l.present(k)
	there := slices.ContainsFunc(list, func(w *worker) bool { return w.live })
	j := l.byName[k]
	if !there && (j == nil || !j.live) {
		if _, ok := t.shown[k]; ok {
			delete(t.shown, k)
			l.o.Sink.Remove(workersOwner(k), now)
		}
		return
	}
	if !t.podsListed && !there {
		return // whether there are none is not known
	}
	t.shown[k] = struct{}{}
	lost := map[string]int{}
	s := newSeries(l.o.Config.SeriesLimit, lost, "namespace", k.namespace, "job_kind", k.kind, "job_name", k.name)
	at := now.UnixMilli()
	tasks, active := t.ended[uid], 0
	groups, activeGroups := map[workerGroup]int{}, map[workerGroup]int{}
	for _, w := range list {
		if w.rec.Start > 0 {
			tasks++
			active += emitTask(s, w, at)
		}
		if !w.live {
			continue
		}
		g := workerGroup{w.location, w.rec.Type}
		groups[g]++
		if w.rec.Status == statusActive {
			activeGroups[g]++
		}
		s.now(at, false, "learning_worker_info", 1, "worker", w.rec.Pod, "worker_name", w.rec.Name, "worker_type", w.rec.Type,
			"node", w.rec.Node, "location", w.location, "status", w.rec.Status)
		s.now(at, false, "learning_worker_restarts_total", float64(w.rec.Restarts), "worker", w.rec.Pod)
	}
	s.now(at, false, "learning_job_tasks", float64(tasks))
	s.now(at, false, "learning_job_tasks_active", float64(active))
	for g, n := range groups {
		s.now(at, false, "learning_job_workers", float64(n), "location", g.location, "worker_type", g.kind)
		s.now(at, false, "learning_job_workers_active", float64(activeGroups[g]), "location", g.location, "worker_type", g.kind)
	}
	_, current := s.samples()
	l.set(workersOwner(k), now, nil, current)
	l.lose(k.kind+"/"+k.namespace+"/"+k.name, lost)
}

// emitTask gives the series of one task and says whether it is active, as 1 or 0.
func emitTask(s *series, w *worker, at int64) int {
	status, active := statusDead, 0
	if w.rec.Status == statusActive {
		status, active = statusActive, 1
	}
	s.now(at, false, "learning_task_info", 1, "task", w.rec.Pod, "location", w.location, "work", w.work, "status", status)
	s.now(at, false, "learning_task_start_time_seconds", float64(w.rec.Start)/1000, "task", w.rec.Pod)
	s.now(at, false, "learning_task_duration_seconds", w.duration(at), "task", w.rec.Pod)
	return active
}

// duration gives how long a task has taken, in seconds, at a time in ms.
func (w *worker) duration(at int64) float64 {
	end := w.rec.End
	if w.rec.Status == statusActive || end == 0 {
		end = at
	}
	return float64(max(end, w.rec.Start)-w.rec.Start) / 1000
}

func (l *Learn) useBase(w *worker) {
	if w.rec.Knowledge == "" || !w.live {
		return
	}
	pods := l.workers.bases[w.rec.Knowledge]
	if pods == nil {
		pods = map[string]struct{}{}
		l.workers.bases[w.rec.Knowledge] = pods
		l.workers.dirtyBases[w.rec.Knowledge] = struct{}{}
	}
	pods[w.rec.UID] = struct{}{}
}

func (l *Learn) dropBase(w *worker) {
	pods := l.workers.bases[w.rec.Knowledge]
	delete(pods, w.rec.UID)
	if len(pods) == 0 {
		delete(l.workers.bases, w.rec.Knowledge)
		l.workers.dirtyBases[w.rec.Knowledge] = struct{}{}
	}
}

func baseOwner(base string) string { return "learn/knowledge_base/" + base }

func (l *Learn) setBase(base string, now time.Time) {
	if base == "" {
		return
	}
	if len(l.workers.bases[base]) == 0 {
		l.o.Sink.Remove(baseOwner(base), now)
		return
	}
	s := newSeries(l.o.Config.SeriesLimit, map[string]int{})
	n, location := l.nodeOf(base)
	s.now(now.UnixMilli(), false, "learning_knowledge_base_info", 1, "knowledge_base", base, "node", n, "node_type", location)
	_, current := s.samples()
	l.set(baseOwner(base), now, nil, current)
}

// nodeOf finds the node that an address such as http://192.0.2.1:9020 belongs to.
func (l *Learn) nodeOf(address string) (name, location string) {
	host := address
	if u, err := url.Parse(address); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	} else if h, _, ok := strings.Cut(address, ":"); ok {
		host = h
	}
	for name, n := range l.workers.nodes {
		if name == host || slices.Contains(n.addresses, host) {
			return name, n.location
		}
	}
	return "", ""
}
