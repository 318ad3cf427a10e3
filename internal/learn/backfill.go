// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/wire"
)

const (
	repeat    = int64(4 * time.Minute / time.Millisecond)
	batchSize = 50_000 // samples given to the sink at once; their labels are made for it, and the sink collects
	gather    = 300 * time.Millisecond
	gatherMax = 3 * time.Second
	retryMax  = time.Minute
)

// past is one object whose past is to be written: what happened after from and before until, in ms.
type past struct {
	uid         string
	job         name
	from, until int64
	seq         uint32 // conditions with a smaller one were known then
	end         bool   // write only the end of its series, at until
}

// backfillQueue holds what waits.
type backfillQueue struct {
	mu     sync.Mutex
	items  []past
	active int
	since  time.Time
	wake   chan struct{}
}

func (q *backfillQueue) init() { q.wake = make(chan struct{}, 1) }

func (q *backfillQueue) push(p past) {
	q.mu.Lock()
	if len(q.items)+q.active == 0 {
		q.since = time.Now()
	}
	q.items = append(q.items, p)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves everything that waits into the hands of the caller.
func (q *backfillQueue) take() []past {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.items
	q.items, q.active = nil, len(all)
	return all
}

func (q *backfillQueue) done(n int) {
	q.mu.Lock()
	q.active -= n
	q.mu.Unlock()
}

// state gives how many objects wait and how long the oldest has.
func (q *backfillQueue) state(now time.Time) (int, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.items) + q.active
	if n == 0 {
		return 0, 0
	}
	return n, now.Sub(q.since)
}

// enqueue asks for the past of a job up to its first sight in this start. What the job shows for the first time is
// written even if it happened while an earlier start still watched and did not see it.
func (l *Learn) enqueue(j *job, at time.Time, news []history.Condition) {
	from := j.rec.Mark
	if from > 0 && j.rec.Run+1 == l.run {
		from = max(from, l.alive)
	}
	until := at.UnixMilli()
	if from > 0 && until-from < repeat && len(news) == 0 {
		j.rec.Mark, j.rec.Run = until, l.run
		return // look-back bridges so short a gap
	}
	for i := range news {
		from = min(from, max(0, news[i].Happened()-1))
	}
	j.backfilling = true
	l.queue.push(past{uid: j.rec.UID, job: j.key(), from: from, until: until, seq: j.list.Next()})
}

// runBackfill writes the past of whatever is queued, in large batches, until ctx ends. What was not written is
// queued again by the next start, and gives the same samples then.
func (l *Learn) runBackfill(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.queue.wake:
		}
		l.gather(ctx)
		all := l.queue.take()
		for len(all) > 0 && ctx.Err() == nil {
			taken, left, samples := l.collect(all)
			if !l.write(ctx, samples) {
				return
			}
			l.written(taken)
			l.queue.done(len(taken))
			all = left
		}
	}
}

// gather waits until no more objects come, but not for ever: block writers work best on all at once.
func (l *Learn) gather(ctx context.Context) {
	limit := time.NewTimer(gatherMax)
	defer limit.Stop()
	for {
		quiet := time.NewTimer(gather)
		select {
		case <-ctx.Done():
		case <-limit.C:
		case <-quiet.C:
		case <-l.queue.wake:
			quiet.Stop()
			continue
		}
		quiet.Stop()
		return
	}
}

// collect makes the samples of as many objects as fill a batch. Objects of one name have the same series, whose samples
// must be in time order, so each batch takes the first of them and leaves the others.
func (l *Learn) collect(all []past) (taken, left []past, samples []wire.Sample) {
	seen := make(map[name]struct{}, len(all))
	for i, p := range all {
		if len(samples) >= batchSize {
			return taken, append(left, all[i:]...), samples
		}
		if _, twice := seen[p.job]; twice {
			left = append(left, p)
			continue
		}
		seen[p.job] = struct{}{}
		taken = append(taken, p)
		samples = append(samples, l.pastOf(p)...)
	}
	return taken, left, samples
}

// write gives samples to the sink until it takes them, or says that it never will; false when ctx ended before.
func (l *Learn) write(ctx context.Context, samples []wire.Sample) bool {
	if len(samples) == 0 {
		return ctx.Err() == nil
	}
	for wait := time.Second; ; wait = min(2*wait, retryMax) {
		err := l.o.Sink.History(ctx, samples)
		if err == nil {
			l.m.out.WithLabelValues("history").Add(float64(len(samples)))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		var told interface{ Temporary() bool }
		if errors.As(err, &told) && !told.Temporary() {
			l.m.lost.WithLabelValues("refused_history").Inc()
			l.log.Warn("a part of history was refused", "samples", len(samples), "err", err)
			return true
		}
		l.m.backfill.Inc()
		l.log.Warn("history could not be written and is tried again", "samples", len(samples), "wait", wait, "err", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// written marks the past of objects as written.
func (l *Learn) written(done []past) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range done {
		j := l.jobs[p.uid]
		if j == nil || p.end {
			continue
		}
		j.backfilling = false
		j.rec.Mark, j.rec.Run = max(j.rec.Mark, p.until), l.run
		l.store.PutObject(&j.rec)
	}
}

// pastOf makes the samples of one object's past.
func (l *Learn) pastOf(p past) []wire.Sample {
	text, all, err := l.store.Read(p.uid)
	if err != nil {
		l.log.Error("read learning history", "object", p.uid, "err", err)
		return nil
	}
	all = slices.DeleteFunc(all, func(c history.Condition) bool { return c.Seq >= p.seq && !p.end })
	l.mu.Lock()
	j := l.jobs[p.uid]
	if j == nil {
		l.mu.Unlock()
		return nil
	}
	j.list.Sort(all)
	m, rec, common, limit := j.m, j.rec, j.labels(), l.o.Config.SeriesLimit
	l.mu.Unlock()

	s := newSeries(limit, map[string]int{}, common...)
	fold := history.New(rec.Floor)
	if !p.end {
		history.Begin(max(rec.Created, rec.Floor+1), s.step)
	}
	for i := range all {
		step := history.Record(s.step)
		if p.end {
			step = ignore
		}
		fold.Step(&all[i], m, history.Lost{}, step)
	}
	if p.end {
		var f facts.Facts
		_ = json.Unmarshal(text, &f) // without them the other series still end
		f.Emit(p.until, m, rec.UID, rec.Created, s.now)
		fold.Emit(p.until, m.Deploy, s.now)
		_, current := s.samples()
		for i := range current {
			current[i].Value = stale()
		}
		return current
	}
	return s.past(max(p.from, p.until-l.o.Retention.Milliseconds()), p.until)
}

// class says how a series is repeated in the past. The states come first, then what is drawn most, then the rest.
type class int

const (
	plain class = iota // not at all
	rest
	drawn
	state
)

func classOf(name string) class {
	switch name {
	case "learning_job_status", "learning_job_stage_condition", "learning_job_stage", "learning_deploy_status":
		return state
	case "learning_job_round", "learning_eval_score":
		return drawn
	case "learning_job_stage_duration_seconds":
		return rest
	}
	if strings.HasSuffix(name, "_model_info") {
		return state
	}
	return plain
}

// hold is the time for which a recorded value holds: it is repeated at first, and then every four minutes before next.
type hold struct {
	track       *track
	point       point
	first, next int64
}

// since counts the repeats at or after t.
func (h *hold) since(t int64) int {
	first := h.first
	if t > first {
		first += (t - first + repeat - 1) / repeat * repeat
	}
	if first >= h.next {
		return 0
	}
	return int((h.next-first-1)/repeat) + 1
}

// past gives what was recorded after from and before until. What is left of maxSamples goes to repeats: class by
// class, and within a class to the newest time.
func (s *series) past(from, until int64) []wire.Sample {
	var holds [state + 1][]hold
	var out []wire.Sample
	for i := range s.tracks {
		tr := &s.tracks[i]
		kind := classOf(tr.name)
		holds[kind] = append(holds[kind], tr.holds(kind, from, until)...)
		for _, p := range tr.points {
			if p.t > from && p.t < until {
				out = append(out, wire.Sample{Labels: tr.labels, Time: p.t, Value: p.v})
			}
		}
	}
	for kind := state; kind > plain; kind-- {
		begin := horizon(holds[kind], from, until, maxSamples-len(out))
		for i := range holds[kind] {
			h := &holds[kind][i]
			for t := h.first; t < h.next; t += repeat {
				if t >= begin {
					out = append(out, wire.Sample{Labels: h.track.labels, Time: t, Value: h.point.v})
				}
			}
		}
	}
	return inOrder(out)
}

// inOrder puts the samples of each series together and in time order.
func inOrder(list []wire.Sample) []wire.Sample {
	place := make(map[uint64]int, 128)
	keys := make([]int, len(list))
	for i := range list {
		h := list[i].Labels.Hash()
		if _, ok := place[h]; !ok {
			place[h] = len(place)
		}
		keys[i] = place[h]
	}
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(keys[a], keys[b]), cmp.Compare(list[a].Time, list[b].Time))
	})
	out := make([]wire.Sample, len(list))
	for i, k := range order {
		out[i] = list[k]
	}
	return out
}

// horizon gives the earliest time from which on all repeats fit into a budget.
func horizon(holds []hold, from, until int64, budget int) int64 {
	count := func(t int64) (n int) {
		for i := range holds {
			n += holds[i].since(t)
		}
		return n
	}
	if count(from) <= budget {
		return from
	}
	steps := sort.Search(int((until-from)/repeat)+1, func(i int) bool { return count(from+int64(i)*repeat) <= budget })
	return from + int64(steps)*repeat
}

// holds gives the times between from and until for which the values of a series are repeated.
func (tr *track) holds(kind class, from, until int64) []hold {
	if kind == plain {
		return nil
	}
	var out []hold
	for k, p := range tr.points {
		next := until
		if k+1 < len(tr.points) {
			next = min(until, tr.points[k+1].t)
		}
		if same(p.v, stale()) || (kind == state && p.v != 1) {
			continue
		}
		first := p.t + repeat
		if p.t <= from { // what held at the beginning
			first = from + 1
		}
		if first < next {
			out = append(out, hold{track: tr, point: p, first: first, next: next})
		}
	}
	return out
}

// end asks for the end of the series of an object that was not seen in this start, at a time in ms.
func (q *backfillQueue) end(j *job, at int64) {
	q.push(past{uid: j.rec.UID, job: j.key(), until: at, end: true})
}
