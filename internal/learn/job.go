// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"encoding/json"
	"hash/fnv"
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learn/store"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// job is one object of a kind whose role is job. Texts of its conditions and its facts lie in the store.
type job struct {
	rec  store.Object
	m    *mapping.Mapping
	list history.List
	fold history.Fold
	// live is set from the first observation in this start on.
	live bool
	// backfilling is set while its past waits to be written.
	backfilling bool
	// digest is of the facts that the series were last made from.
	digest    uint64
	dataset   string // the first one, with its share for training
	others    []string
	ratio     float64 // -1 without one
	phase     string
	estimated bool // it has series of estimated samples
	started   int64
	ended     int64
}

func (j *job) key() name { return name{j.rec.Namespace, j.rec.Kind, j.rec.Name} }

func (j *job) resource() resource.Kind {
	return resource.Kind{Group: j.rec.Group, Kind: j.rec.Kind}
}

func (j *job) owner() string { return "learn/job/" + j.rec.UID }

func (j *job) labels() []string {
	return []string{"namespace", j.rec.Namespace, "job_kind", j.rec.Kind, "job_name", j.rec.Name}
}

// restoreJob puts a job from the store back into the model.
func (l *Learn) restoreJob(o store.Object, text []byte, list []history.Condition) {
	m := l.kinds.Find(resource.Kind{Group: o.Group, Kind: o.Kind})
	if m == nil || m.Role != mapping.Job {
		return // its mapping was taken away; it comes back with it
	}
	j := &job{rec: o, m: m}
	var f facts.Facts
	_ = json.Unmarshal(text, &f) // facts are read anew with the object
	l.use(j, &f)
	j.list.Load(list)
	j.refold(list, history.Lost{})
	l.jobs[o.UID] = j
	if o.Deleted == 0 {
		l.byName[j.key()] = j
	}
}

// take keeps the few facts that are needed without the object.
func (j *job) take(f *facts.Facts) {
	j.dataset, j.others, j.ratio, j.phase, j.started, j.ended = "", nil, -1, f.Phase, f.Started, f.Completed
	if len(f.Datasets) > 0 {
		j.dataset, j.others = f.Datasets[0], f.Datasets[1:]
	}
	if f.Ratio != nil {
		j.ratio = *f.Ratio
	}
}

// use takes the facts and notes which dataset the job learns from.
func (l *Learn) use(j *job, f *facts.Facts) {
	l.drop(j)
	j.take(f)
	if key := j.datasetKey(); j.dataset != "" {
		if l.users[key] == nil {
			l.users[key] = map[*job]struct{}{}
		}
		l.users[key][j] = struct{}{}
	}
}

// drop takes the job from the users of its dataset.
func (l *Learn) drop(j *job) {
	key := j.datasetKey()
	delete(l.users[key], j)
	if len(l.users[key]) == 0 {
		delete(l.users, key)
	}
}

func (j *job) datasetKey() name { return name{namespace: j.rec.Namespace, name: j.dataset} }

// refold walks all conditions from the beginning.
func (j *job) refold(all []history.Condition, lost history.Lost) {
	j.list.Sort(all)
	j.fold = history.New(j.rec.Floor)
	for i := range all {
		j.fold.Step(&all[i], j.m, lost, ignore)
	}
}

func ignore(int64, bool, string, float64, ...string) {}

// applyJob takes the newest form of a job's object.
func (l *Learn) applyJob(m *mapping.Mapping, ev resource.Event) {
	o, at := ev.Object, ev.Received
	lost := history.Lost{}
	id := l.identify(m, o)
	j := l.jobs[id]
	if j == nil {
		j = l.newJob(m, o, id, at)
	}
	if j.rec.Deleted != 0 {
		l.revive(j)
	}
	if old := l.byName[j.key()]; old != j {
		l.succeed(old, j, at)
	}
	first := !j.live
	seen := history.Decode(o, m, at, maxConditions, lost)
	news, appended := j.list.Merge(seen, maxConditions, lost)
	f := facts.Read(m, o)
	text, err := json.Marshal(&f)
	if err != nil {
		lost["bad_object"]++
	}
	digest := digestOf(text)
	if !first && len(news) == 0 && digest == j.digest {
		l.lose(describe(j), lost)
		return
	}
	before := j.digest
	j.live, j.digest = true, digest
	l.use(j, &f)

	s := newSeries(l.o.Config.SeriesLimit, lost, j.labels()...)
	since := j.rec.Created
	if len(news) > 0 {
		since = min(since, news[0].Time) // an object restored from a backup is older than its creation
	}
	young := first && j.rec.Mark == 0 && at.Sub(time.UnixMilli(since)) < fresh
	if young {
		history.Begin(max(j.rec.Created, j.rec.Floor+1), s.step)
	}
	l.store.PutConditions(j.rec.UID, news)
	l.stepAll(j, news, appended, seen, first, young, lost, s)
	l.emitJob(s, j, &f, at)
	earlier, current := s.samples()
	if first && !young {
		earlier = nil
		l.enqueue(j, at, news)
	} else if young {
		j.rec.Mark, j.rec.Run = at.UnixMilli(), l.run
	}
	changed := at
	if (!first || young) && len(news) > 0 && appended {
		changed = time.UnixMilli(j.fold.Last()) // what ended, ended with the condition
	}
	l.set(j.owner(), changed, earlier, current)
	l.store.PutObject(&j.rec)
	if digest != before {
		l.store.PutFacts(j.rec.UID, text)
	}
	l.setSamples(j, at)
	l.workers.touch(j.key())
	l.kick()
	l.lose(describe(j), lost)
}

// stepAll moves the fold over the new conditions and publishes them.
func (l *Learn) stepAll(j *job, news []history.Condition, appended bool, seen []history.Condition, first, young bool, lost history.Lost, s *series) {
	rec := history.Record(s.step)
	if first && !young {
		rec = ignore // what came before the first sight is written by back-fill
	}
	if !appended {
		all := l.allConditions(j, seen)
		j.refold(all, lost)
	}
	for i := range news {
		c := &news[i]
		if c.Skewed != 0 {
			l.m.skew.Inc()
		}
		counted := true
		if appended {
			counted = j.fold.Step(c, j.m, lost, rec)
		}
		if counted && (!first || young || (j.rec.Mark > 0 && c.Happened() > l.alive)) {
			l.publish(learning.Event{
				Type: learning.JobTransition, Time: time.UnixMilli(c.Time).UTC(), Namespace: j.rec.Namespace, Kind: j.rec.Kind, Name: j.rec.Name, UID: j.rec.UID,
				Stage: history.StageName(c.Stage), Condition: history.TypeName(c.Type), Round: j.fold.Round(), Message: facts.Clip(c.Message),
			})
		}
	}
}

// allConditions gives the stored conditions of a job and those that the object shows.
func (l *Learn) allConditions(j *job, seen []history.Condition) []history.Condition {
	_, all, err := l.store.Read(j.rec.UID)
	if err != nil {
		l.log.Error("read conditions", "object", describe(j), "err", err)
	}
	known := make(map[uint64]struct{}, len(all))
	for i := range all {
		known[all[i].ID] = struct{}{}
	}
	for i := range seen {
		if _, ok := known[seen[i].ID]; !ok {
			known[seen[i].ID] = struct{}{}
			all = append(all, seen[i])
		}
	}
	return all
}

// emitJob adds all current values of a job.
func (l *Learn) emitJob(s *series, j *job, f *facts.Facts, at time.Time) {
	t := at.UnixMilli()
	f.Emit(t, j.m, j.rec.UID, j.rec.Created, s.now)
	j.fold.Emit(t, j.m.Deploy, s.now)
}

// identify gives the id under which a job is kept: its uid, unless another object carries the same one, as copies of
// manifests do.
func (l *Learn) identify(m *mapping.Mapping, o resource.Object) string {
	uid := o.UID()
	j := l.jobs[uid]
	if j == nil || (j.rec.Group == m.Group && j.key() == keyOf(m, o)) {
		return uid
	}
	return uid + "/" + m.Kind + "/" + o.Namespace() + "/" + o.Name()
}

func (l *Learn) newJob(m *mapping.Mapping, o resource.Object, id string, at time.Time) *job {
	created := mapping.Time(o.Text("metadata", "creationTimestamp"))
	if created.IsZero() {
		created = at
	}
	j := &job{m: m, rec: store.Object{
		UID: id, Group: m.Group, Kind: m.Kind, Namespace: o.Namespace(), Name: o.Name(), Created: created.UnixMilli(),
	}}
	l.jobs[j.rec.UID] = j
	l.publish(learning.Event{
		Type: learning.JobAdded, Time: at.UTC(), Namespace: j.rec.Namespace, Kind: j.rec.Kind, Name: j.rec.Name, UID: j.rec.UID,
	})
	return j
}

// revive takes back a deletion that was only seen as one, as when a kind was forbidden for a while.
func (l *Learn) revive(j *job) {
	j.rec.Deleted, j.live = 0, false
}

// succeed makes j the present job of its name after another, which ends.
func (l *Learn) succeed(old, j *job, at time.Time) {
	l.byName[j.key()] = j
	if old == nil {
		return
	}
	if old.live {
		j.rec.Floor = at.UnixMilli()
		l.deleteJob(old.rec.UID, at)
	} else {
		j.rec.Floor = max(l.alive+1, min(j.rec.Created-1, at.UnixMilli()))
		l.deleteJob(old.rec.UID, at)
		l.queue.end(old, j.rec.Floor)
	}
	l.byName[j.key()] = j
	if j.list.Len() == 0 {
		j.fold = history.New(j.rec.Floor)
	}
}

// deleteJob ends a job; it stays findable.
func (l *Learn) deleteJob(uid string, at time.Time) {
	j := l.jobs[uid]
	if j == nil || j.rec.Deleted != 0 {
		return
	}
	j.rec.Deleted = at.UnixMilli()
	if j.live {
		l.o.Sink.Remove(j.owner(), at)
		l.o.Sink.Remove(j.samplesOwner(), at)
	}
	if l.byName[j.key()] == j {
		delete(l.byName, j.key())
	}
	if j.live && !j.backfilling {
		j.rec.Mark, j.rec.Run = j.rec.Deleted, l.run
	}
	l.store.PutObject(&j.rec)
	j.live, j.digest = false, 0
	l.workers.touch(j.key())
	l.kick()
	l.publish(learning.Event{
		Type: learning.JobDeleted, Time: at.UTC(), Namespace: j.rec.Namespace, Kind: j.rec.Kind, Name: j.rec.Name, UID: uid,
	})
}

func (l *Learn) publish(e learning.Event) {
	l.m.events.Inc()
	l.store.Publish(e)
}

func describe(j *job) string { return j.rec.Kind + "/" + j.rec.Namespace + "/" + j.rec.Name }

func digestOf(text []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64() | 1
}
