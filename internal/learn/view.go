// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learning"
)

// row makes the table row of a job.
func (l *Learn) row(j *job) learning.Job {
	out := learning.Job{
		UID: j.rec.UID, Namespace: j.rec.Namespace, Kind: j.rec.Kind, Name: j.rec.Name,
		Created: time.UnixMilli(j.rec.Created).UTC(), Started: timePtr(j.started), Completed: timePtr(j.ended), Deleted: timePtr(j.rec.Deleted),
		Status: j.fold.Status(), Phase: j.phase, Round: j.fold.Round(), Stages: j.fold.Stages(), Dataset: j.dataset,
		Message: j.fold.Message, Conditions: j.fold.Count(),
	}
	out.Changed = out.Created
	if s, ok := j.fold.Current(); ok {
		out.Stage, out.Condition = s.Stage, s.Condition
		out.Since, out.Changed = &s.Since, time.UnixMilli(j.fold.Time()).UTC()
		if j.m.Deploy {
			out.Deploy = j.fold.Deploy().String()
		}
	}
	if len(j.fold.Scores) > 0 {
		s := j.fold.Scores[0]
		out.Score = &s
	}
	if d := l.datasets[j.datasetKey()]; d != nil && j.dataset != "" {
		out.Samples = d.Samples
	}
	list := l.workersOf(j.key(), j.rec.UID)
	out.Tasks.Total = l.workers.ended[j.rec.UID]
	for _, w := range list {
		if w.rec.Start > 0 {
			out.Tasks.Total++
		}
		if !w.live || j.rec.Deleted != 0 {
			continue
		}
		out.Workers.Total++
		if w.rec.Status == statusActive {
			out.Workers.Active++
			out.Tasks.Active++
		}
		if w.rec.Node != "" && !slices.Contains(out.Nodes, w.rec.Node) {
			out.Nodes = append(out.Nodes, w.rec.Node)
		}
	}
	if j.rec.Deleted != 0 {
		out.Changed = *out.Deleted
	}
	slices.Sort(out.Nodes)
	return out
}

func timePtr(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

// Jobs selects, orders and pages the jobs. An unknown field to sort by is an error.
func (l *Learn) Jobs(q learning.JobQuery) (learning.JobPage, error) {
	order, err := jobOrder(q.Sort)
	if err != nil {
		return learning.JobPage{}, err
	}
	l.mu.Lock()
	var all []*learning.Job
	for _, j := range l.jobs {
		if j.rec.Deleted != 0 && !q.Deleted {
			continue
		}
		if !within(q.Namespaces, j.rec.Namespace) || !within(q.Kinds, j.rec.Kind) {
			continue
		}
		if row := l.row(j); matches(&q, &row) {
			all = append(all, &row)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b *learning.Job) int {
		if n := order(a, b); n != 0 {
			return n
		}
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
			strings.Compare(a.Kind, b.Kind), b.Created.Compare(a.Created), strings.Compare(a.UID, b.UID))
	})
	page := learning.JobPage{Total: len(all), Offset: max(q.Offset, 0), Limit: q.Limit}
	if page.Limit <= 0 {
		page.Limit = 100
	}
	from := min(page.Offset, len(all))
	page.Jobs = make([]learning.Job, 0, min(page.Limit, len(all)))
	for _, j := range all[from:min(from+page.Limit, len(all))] {
		page.Jobs = append(page.Jobs, *j)
	}
	return page, nil
}

func within(allowed []string, v string) bool { return len(allowed) == 0 || slices.Contains(allowed, v) }

func matches(q *learning.JobQuery, j *learning.Job) bool {
	if !within(q.Stages, string(j.Stage)) || !within(q.Conditions, string(j.Condition)) {
		return false
	}
	if len(q.Nodes) > 0 && !slices.ContainsFunc(j.Nodes, func(n string) bool { return slices.Contains(q.Nodes, n) }) {
		return false
	}
	if q.Text == "" {
		return true
	}
	text := strings.ToLower(q.Text)
	for _, s := range []string{j.Name, j.Namespace, j.Dataset, j.Message} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return false
}

// sortFields are the fields that jobs can be sorted by.
const sortFields = "name, namespace, kind, stage, condition, round, score, samples, workers, created, changed"

// jobOrder gives the comparison for a sort field.
func jobOrder(field string) (func(a, b *learning.Job) int, error) {
	name, down := strings.CutPrefix(field, "-")
	var order func(a, b *learning.Job) int
	switch name {
	case "", "name":
		order = func(a, b *learning.Job) int { return strings.Compare(a.Name, b.Name) }
		if name == "" {
			order = func(*learning.Job, *learning.Job) int { return 0 }
		}
	case "namespace":
		order = func(a, b *learning.Job) int { return strings.Compare(a.Namespace, b.Namespace) }
	case "kind":
		order = func(a, b *learning.Job) int { return strings.Compare(a.Kind, b.Kind) }
	case "stage":
		order = func(a, b *learning.Job) int {
			return cmp.Compare(slices.Index(learning.Stages(), a.Stage), slices.Index(learning.Stages(), b.Stage))
		}
	case "condition":
		order = func(a, b *learning.Job) int {
			all := learning.ConditionTypes()
			return cmp.Compare(slices.Index(all, a.Condition), slices.Index(all, b.Condition))
		}
	case "round":
		order = func(a, b *learning.Job) int { return cmp.Compare(a.Round, b.Round) }
	case "score":
		order = func(a, b *learning.Job) int { return cmp.Compare(scoreOf(a), scoreOf(b)) }
	case "samples":
		order = func(a, b *learning.Job) int { return cmp.Compare(number(a.Samples), number(b.Samples)) }
	case "workers":
		order = func(a, b *learning.Job) int { return cmp.Compare(a.Workers.Active, b.Workers.Active) }
	case "created":
		order = func(a, b *learning.Job) int { return a.Created.Compare(b.Created) }
	case "changed":
		order = func(a, b *learning.Job) int { return a.Changed.Compare(b.Changed) }
	default:
		return nil, fmt.Errorf("cannot sort by %q; known are %s", field, sortFields)
	}
	if down {
		up := order
		order = func(a, b *learning.Job) int { return up(b, a) }
	}
	return order, nil
}

// scoreOf puts jobs without a score before all others.
func scoreOf(j *learning.Job) float64 {
	if j.Score == nil {
		return -1e308
	}
	return j.Score.Value
}

func number(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}

// Datasets lists the datasets that exist, with the jobs that use them.
func (l *Learn) Datasets() []learning.Dataset {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]learning.Dataset, 0, len(l.datasets))
	for key := range l.datasets {
		out = append(out, l.datasetView(key))
	}
	slices.SortFunc(out, func(a, b learning.Dataset) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}

func (l *Learn) datasetView(key name) learning.Dataset {
	d := l.datasets[key].Dataset
	for j := range l.users[key] {
		if j.rec.Deleted == 0 {
			d.Jobs = append(d.Jobs, j.rec.Kind+"/"+j.rec.Name)
		}
	}
	slices.Sort(d.Jobs)
	return d
}

// Models lists the models that exist.
func (l *Learn) Models() []learning.Model {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]learning.Model, 0, len(l.models))
	for _, m := range l.models {
		out = append(out, m.Model)
	}
	slices.SortFunc(out, func(a, b learning.Model) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}

// Status counts what the model holds. Where objects come from is for the caller to add.
func (l *Learn) Status() learning.Status {
	l.mu.Lock()
	s := learning.Status{Datasets: len(l.datasets), Models: len(l.models)}
	for _, j := range l.jobs {
		if j.rec.Deleted == 0 {
			s.Jobs++
		} else {
			s.Deleted++
		}
	}
	for _, w := range l.workers.all {
		if w.live {
			s.Workers++
		}
	}
	l.mu.Unlock()
	s.BackfillPending, _ = l.queue.state(time.Now())
	s.LastEvent = l.store.LastEvent()
	if l.store.Failing() {
		s.Faults = append(s.Faults, "learning store: commits fail, changes stay in memory and are tried again")
	}
	return s
}

// published wakes those who wait for events.
func (l *Learn) published(uint64) {
	l.newsMu.Lock()
	defer l.newsMu.Unlock()
	close(l.news)
	l.news = make(chan struct{})
}

// Events gives up to limit events after an id, oldest first, and waits for the first of them until ctx ends.
// gap says that some after the id are no longer kept.
func (l *Learn) Events(ctx context.Context, after uint64, limit int) (list []learning.Event, gap bool, err error) {
	for {
		l.newsMu.Lock()
		news := l.news
		l.newsMu.Unlock()
		list, gap, err = l.store.Events(after, limit)
		if len(list) > 0 || err != nil {
			return list, gap, err
		}
		select {
		case <-ctx.Done():
			return nil, gap, nil
		case <-news:
		}
	}
}
