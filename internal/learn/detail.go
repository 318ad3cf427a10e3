// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
)

// Job gives everything about one job. The kind is matched whatever its case and may be a plural; an empty
// kind matches any. Without a uid it is the present job of the name, or else the one deleted last.
func (l *Learn) Job(namespace, kind, jobName, uid string) (learning.JobDetail, error) {
	l.mu.Lock()
	j := l.findJob(namespace, kind, jobName, uid)
	if j == nil {
		l.mu.Unlock()
		return learning.JobDetail{}, fmt.Errorf("job %s/%s: %w", namespace, jobName, learning.ErrNotFound)
	}
	id := j.rec.UID
	l.mu.Unlock()

	text, all, err := l.store.Read(id)
	if err != nil {
		return learning.JobDetail{}, fmt.Errorf("read job %s: %w", id, err)
	}
	var f facts.Facts
	if len(text) > 0 {
		if err := json.Unmarshal(text, &f); err != nil {
			l.m.lost.WithLabelValues("bad_record").Inc()
		}
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if j = l.jobs[id]; j == nil {
		return learning.JobDetail{}, fmt.Errorf("job %s/%s: %w", namespace, jobName, learning.ErrNotFound)
	}
	j.list.Sort(all)
	d := learning.JobDetail{
		Job: l.row(j), OutputDir: f.Info["output_dir"], Parameters: f.Parameters, Thresholds: f.Thresholds, Triggers: f.Triggers,
		Scores: slices.Clone(j.fold.Scores), Models: slices.Clone(j.fold.Models), Inference: f.Inference, KnowledgeBase: f.Knowledge,
	}
	past := history.Walk(all, j.m, j.rec.Floor, j.ended)
	d.Spans, d.Rounds, d.History = past.Spans, past.Rounds, past.Conditions
	l.addWorkers(&d, j, now)
	for _, ds := range f.Datasets {
		key := name{namespace: j.rec.Namespace, name: ds}
		if l.datasets[key] != nil {
			d.Datasets = append(d.Datasets, l.datasetView(key))
		} else {
			d.Datasets = append(d.Datasets, learning.Dataset{Namespace: j.rec.Namespace, Name: ds})
		}
	}
	if d.Deleted == nil {
		d.Why = why(&d)
	}
	return d, nil
}

func (l *Learn) findJob(namespace, kind, jobName, uid string) *job {
	var best *job
	for _, j := range l.jobs {
		if j.rec.Namespace != namespace || j.rec.Name != jobName || !sameKind(j.m, kind) || (uid != "" && j.rec.UID != uid) {
			continue
		}
		if best == nil || cmp.Or(present(j)-present(best), cmp.Compare(j.rec.Deleted, best.rec.Deleted), cmp.Compare(j.rec.Created, best.rec.Created)) > 0 {
			best = j
		}
	}
	return best
}

func present(j *job) int {
	if j.rec.Deleted == 0 {
		return 1
	}
	return 0
}

func sameKind(m *mapping.Mapping, kind string) bool {
	return kind == "" || strings.EqualFold(kind, m.Kind) || strings.EqualFold(kind, m.Plural)
}

// addWorkers adds workers, tasks and what pods say about the knowledge base.
func (l *Learn) addWorkers(d *learning.JobDetail, j *job, now time.Time) {
	d.Tasks, d.Workers = []learning.Task{}, []learning.Worker{}
	for _, w := range l.workersOf(j.key(), j.rec.UID) {
		if w.rec.Start > 0 {
			d.Tasks = append(d.Tasks, taskView(w, now))
		}
		if !w.live {
			continue
		}
		d.Workers = append(d.Workers, learning.Worker{
			Pod: w.rec.Pod, UID: w.rec.UID, Name: w.rec.Name, Type: w.rec.Type, Node: w.rec.Node, Location: w.location,
			Status: w.rec.Status, Restarts: w.rec.Restarts, Reason: w.rec.Reason, Started: timePtr(w.rec.Start),
		})
		if w.rec.Knowledge != "" {
			if d.KnowledgeBase == nil {
				d.KnowledgeBase = &learning.KnowledgeBase{}
			}
			d.KnowledgeBase.Address = w.rec.Knowledge
			d.KnowledgeBase.Node, d.KnowledgeBase.NodeType = l.nodeOf(w.rec.Knowledge)
		}
	}
}

func taskView(w *worker, now time.Time) learning.Task {
	t := learning.Task{
		Name: w.rec.Pod, Work: w.work, Location: w.location, Status: statusDead, Node: w.rec.Node,
		Start: time.UnixMilli(w.rec.Start).UTC(), End: timePtr(w.rec.End),
	}
	if w.rec.Status == statusActive {
		t.Status, t.End = statusActive, nil
	}
	t.Duration = w.duration(now.UnixMilli())
	return t
}

// why says in words what a job waits for, as far as its object and its workers tell.
func why(d *learning.JobDetail) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, w := range d.Workers {
		switch {
		case w.Status == statusWaiting && w.Node == "":
			say("worker %s has no node yet%s", w.Pod, reasonOf(w.Reason))
		case w.Status == statusWaiting:
			say("worker %s on %s has not started%s", w.Pod, w.Node, reasonOf(w.Reason))
		case w.Status == statusActive && w.Reason != "":
			say("worker %s restarts in a loop%s, %d times so far", w.Pod, reasonOf(w.Reason), w.Restarts)
		case w.Status == statusDead && w.Reason != "":
			say("worker %s ended%s", w.Pod, reasonOf(w.Reason))
		}
	}
	switch d.Condition {
	case learning.Waiting:
		for _, t := range d.Triggers {
			if t.Stage == d.Stage {
				out = append(out, whyTrigger(&t, d)...)
			}
		}
		if d.Stage == learning.Train && d.Dataset != "" && d.Samples == nil && len(d.Datasets) > 0 && d.Datasets[0].URL == "" {
			say("dataset %s is not there", d.Dataset)
		}
	case learning.Failed:
		say("%s failed%s", d.Stage, reasonOf(d.Message))
	case learning.Completed:
		if d.Stage == learning.Deploy && d.Deploy == history.DeployNotOk.String() {
			say("nothing in round %d was good enough to deploy", d.Round)
		}
	}
	if d.Condition == learning.Starting && len(d.Workers) == 0 {
		say("the %s worker has not appeared yet", d.Stage)
	}
	return out
}

func reasonOf(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func whyTrigger(t *learning.Trigger, d *learning.JobDetail) []string {
	var out []string
	if t.Threshold != nil {
		s := fmt.Sprintf("%s begins when %s %s %g", t.Stage, cmp.Or(t.Metric, "its metric"), t.Operator, *t.Threshold)
		if t.Stage == learning.Train && d.Samples != nil {
			s += fmt.Sprintf("; dataset %s has %g samples in all", d.Dataset, *d.Samples)
		}
		out = append(out, s)
	}
	if t.From != "" || t.To != "" {
		out = append(out, fmt.Sprintf("%s begins between %s and %s only", t.Stage, cmp.Or(t.From, "00:00"), cmp.Or(t.To, "24:00")))
	}
	if t.CheckPeriod > 0 && len(out) > 0 {
		out[0] += fmt.Sprintf("; checked every %g s", t.CheckPeriod)
	}
	return out
}
