// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch/folder"
	"github.com/periplus-io/periplus/internal/watch/frame"
	"github.com/periplus-io/periplus/internal/watch/manifest"
)

// manifests is folders of files as a source. It keeps of each file which objects it has, so that a
// file that becomes unreadable keeps its last good content, and of each object which file gives it.
// All is used by the goroutine in run only.
type manifests struct {
	w      *Watcher
	source *sourceState
	files  map[string]*file
	owners map[objectID]claim
	// rivals are further files that have an object.
	rivals map[objectID][]string
	// plurals are those that definitions in the folders give, by Kind.group.
	plurals map[string]string
	feeds   map[resource.Kind]*manifestFeed
	// told is how many files, and bad ones among them, the log speaks of.
	told [2]int
}

// file is what was read of a file.
type file struct {
	stamp   folder.Stamp
	objects map[objectID]bool
	err     *FileError
}

// objectID names an object over all kinds. The plural is left out: it may change as definitions come.
type objectID struct {
	apiVersion, kind string
	key
}

// claim is the right of a file to give an object.
type claim struct {
	path     string
	version  string
	modified time.Time
}

type manifestFeed struct {
	*feed
	table *table
}

func newManifests(w *Watcher) *manifests {
	return &manifests{
		w: w, source: &sourceState{name: "manifests"}, files: map[string]*file{}, owners: map[objectID]claim{},
		rivals: map[objectID][]string{}, plurals: map[string]string{}, feeds: map[resource.Kind]*manifestFeed{},
	}
}

// run follows plan p until ctx ends.
func (m *manifests) run(ctx context.Context, p plan) {
	on := len(p.config.Manifests) > 0
	for kind, f := range m.feeds {
		if on && p.wanted(kind) {
			continue
		}
		if m.w.leave(ctx, f.table, f.feed) {
			delete(m.feeds, kind)
		}
	}
	if !on {
		clear(m.files)
		clear(m.owners)
		clear(m.rivals)
		m.source.set("", sourceOff, nil)
		return
	}
	m.source.set(strings.Join(p.config.Manifests, ", "), sourceConnecting, nil)
	for _, f := range m.files {
		f.stamp = folder.Stamp{} // read all again: the plan may want more of it
	}
	n := folder.NewNotifier()
	defer n.Close()
	for ctx.Err() == nil {
		t := folder.Walk(p.config.Manifests)
		if n.Follow(t.Dirs) {
			t = folder.Walk(p.config.Manifests)
		}
		m.scan(ctx, p, t)
		n.Wait(ctx)
	}
}

// scan brings what is known in line with what is in the folders.
func (m *manifests) scan(ctx context.Context, p plan, t folder.Tree) {
	s := &scan{m: m, p: p, loose: map[objectID]bool{}, again: map[string]bool{}}
	for path, stamp := range t.Files {
		if f := m.files[path]; f == nil || f.stamp != stamp {
			s.definitions(path)
		}
	}
	for path, f := range m.files {
		if t.Gone(path) {
			for id := range f.objects {
				s.release(id, path)
			}
			delete(m.files, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(t.Files)) {
		if ctx.Err() != nil {
			return
		}
		f := m.files[path]
		if f != nil && f.stamp == t.Files[path] {
			continue
		}
		if f == nil {
			f = &file{objects: map[objectID]bool{}}
			m.files[path] = f
		}
		f.stamp = t.Files[path]
		s.read(path, f)
	}
	s.settle()
	m.finish(ctx, s)
	m.report(p, t)
}

// finish reports what nobody has any more, and the kinds that are complete now.
func (m *manifests) finish(ctx context.Context, s *scan) {
	for id := range s.loose {
		if _, owned := m.owners[id]; owned {
			continue
		}
		if f := m.feeds[m.kindOf(id.apiVersion, id.kind)]; f != nil {
			f.table.remove(f.feed, id.key, nil, time.Now())
		}
	}
	if ctx.Err() != nil {
		return
	}
	for _, w := range s.p.wants {
		if w.Version != "*" && w.Kind != "*" {
			m.feed(resource.Kind{Group: w.Group, Version: w.Version, Kind: w.Kind, Plural: m.plural(w.Group, w.Kind)})
		}
	}
	for _, f := range m.feeds {
		if f.current() != StateWatching {
			f.table.synced(f.feed)
			f.set(StateWatching, nil)
		}
	}
}

// report writes status and gauges.
func (m *manifests) report(p plan, t folder.Tree) {
	var bad []FileError
	for _, path := range slices.Sorted(maps.Keys(m.files)) {
		if f := m.files[path]; f.err != nil {
			bad = append(bad, *f.err)
		}
	}
	m.source.setFiles(bad)
	m.w.metrics.files.Set(float64(len(m.files)))
	m.w.metrics.badFiles.Set(float64(len(bad)))
	var errs []error
	for _, dir := range slices.Sorted(maps.Keys(t.Unread)) {
		errs = append(errs, t.Unread[dir])
	}
	state := sourceConnected
	err := errors.Join(errs...)
	if err != nil {
		state = sourceError
	}
	switch changed := m.source.set(strings.Join(p.config.Manifests, ", "), state, err); {
	case changed && err != nil:
		m.w.log.Warn("cannot read manifest folders, the last good content stays", "err", err)
	case changed && m.told != [2]int{len(m.files), len(bad)}:
		m.w.log.Info("manifest folders read", "files", len(m.files), "invalid", len(bad))
	}
	m.told = [2]int{len(m.files), len(bad)}
}

// feed gives the feed of a kind, which it opens if needed.
func (m *manifests) feed(kind resource.Kind) *manifestFeed {
	f := m.feeds[kind]
	if f == nil {
		f = &manifestFeed{feed: &feed{rank: rankManifests, state: StateSyncing}}
		f.table = m.w.join(kind, f.feed)
		m.feeds[kind] = f
	}
	return f
}

// plural is what the API server would call a kind: as a definition in the folders says, else guessed.
// It never changes, because it is part of the kind's identity.
func (m *manifests) plural(group, kind string) string {
	full := kind + "." + group
	if m.plurals[full] == "" {
		m.plurals[full] = strings.ToLower(kind) + "s"
	}
	return m.plurals[full]
}

func (m *manifests) kindOf(apiVersion, kind string) resource.Kind {
	group, version := manifest.SplitAPIVersion(apiVersion)
	return resource.Kind{Group: group, Version: version, Kind: kind, Plural: m.plural(group, kind)}
}

// scan is one pass over changed files.
type scan struct {
	m *manifests
	p plan
	// loose are objects whose file does not give them any more; another may.
	loose map[objectID]bool
	// again are files to read once more, because they may now give an object that another gave.
	again map[string]bool
	// winners are held back while files compete; nil before that.
	winners map[objectID]content
}

// content is an object of a file that is not read to its end yet: nothing of a file counts before
// all of it is known to be good, and thousands of objects may not be held decoded until then.
type content struct {
	packed  []byte
	version string // resourceVersion
	hash    string // of the content; people edit files without a thought for resourceVersion
}

// content strips and packs an object, and gives it an identity if it has none.
func (s *scan) content(id objectID, o resource.Object) (content, error) {
	kind := s.m.kindOf(id.apiVersion, id.kind)
	s.p.strip.strip(kind, o)
	if o.UID() == "" {
		meta, _ := o.Field("metadata").(map[string]any)
		meta["uid"] = manifest.DeriveUID(kind.Group, kind.Kind, o)
	}
	plain, err := json.Marshal(o)
	if err != nil {
		return content{}, err
	}
	h := fnv.New128a()
	_, _ = h.Write(plain) // a hash takes everything
	return content{s.m.w.pack.compress(plain), o.Text("metadata", "resourceVersion"), string(h.Sum(nil))}, nil
}

// settle lets files compete for objects that lost their file, and applies the winners.
func (s *scan) settle() {
	s.winners = map[objectID]content{}
	for _, path := range slices.Sorted(maps.Keys(s.again)) {
		if f := s.m.files[path]; f != nil {
			s.read(path, f)
		}
	}
	for id, c := range s.winners {
		s.apply(id, c)
	}
}

// read takes in a file. If that cannot be, its last good content stays.
func (s *scan) read(path string, f *file) {
	found := map[objectID]content{}
	order := []objectID{}
	refused, err := s.parse(path, func(o manifest.Object) error {
		id := objectID{o.Object.Text("apiVersion"), o.Object.Text("kind"), key{o.Object.Namespace(), o.Object.Name()}}
		if !s.p.wanted(s.m.kindOf(id.apiVersion, id.kind)) {
			return nil
		}
		if _, ok := found[id]; ok {
			s.m.w.metrics.duplicates.Inc()
		} else {
			order = append(order, id)
		}
		c, err := s.content(id, o.Object)
		found[id] = c
		return manifest.At(o.Line, err)
	})
	if err != nil {
		f.err = fileError(path, err)
		s.m.w.log.Warn("cannot read manifest, the last good content stays", "file", path, "line", f.err.Line, "err", f.err.Err)
		return
	}
	f.err = nil
	for id := range f.objects {
		if _, ok := found[id]; !ok && refused == 0 { // one that is too large now stays as it was
			s.release(id, path)
			delete(f.objects, id)
		}
	}
	for _, id := range order {
		f.objects[id] = true
		s.claim(id, path, f, found[id])
	}
}

// parse hands on the objects of a file and counts those that are too large.
func (s *scan) parse(path string, each func(manifest.Object) error) (refused int, err error) {
	limit := int64(s.p.config.MaxFileSize)
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if info.Size() > limit {
		s.m.w.metrics.lost.WithLabelValues("too_large").Inc()
		return 0, fmt.Errorf("the file has %d bytes, more than max_file_size %d", info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	r := manifest.Reader{Limit: int(s.p.config.MaxObjectSize), Each: each, Refused: func(line int) {
		refused++
		s.m.w.metrics.lost.WithLabelValues("too_large").Inc()
		s.m.w.log.Warn("object left out", "file", path, "line", line, "err", frame.ErrTooLarge)
	}}
	return refused, r.Read(data)
}

// definitions learns plurals from custom resource definitions, before any object of their kinds is
// read. Faults in the file come up when it is read as a whole.
func (s *scan) definitions(path string) {
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte(definitionKind)) || int64(len(data)) > int64(s.p.config.MaxFileSize) {
		return
	}
	r := manifest.Reader{Limit: int(s.p.config.MaxObjectSize), Refused: func(int) {}}
	r.Each = func(d manifest.Object) error {
		kind := d.Object.Text("spec", "names", "kind") + "." + d.Object.Text("spec", "group")
		if _, ok := s.m.plurals[kind]; !ok && d.Object.Text("kind") == definitionKind {
			s.m.plurals[kind] = d.Object.Text("spec", "names", "plural")
		}
		return nil
	}
	_ = r.Read(data)
}

const definitionKind = "CustomResourceDefinition"

// claim lets a file give an object, if it is the newest that has it.
func (s *scan) claim(id objectID, path string, f *file, c content) {
	mine := claim{path, c.version, f.stamp.Modified}
	switch owner, ok := s.m.owners[id]; {
	case !ok:
	case owner.path == path:
		for _, rival := range s.m.rivals[id] {
			s.again[rival] = true // it may be the newer one now
		}
		s.m.rivals[id] = nil
	case mine.newer(owner):
		s.m.w.metrics.duplicates.Inc()
		s.rival(id, owner.path)
	default:
		s.m.w.metrics.duplicates.Inc()
		s.rival(id, path)
		return
	}
	s.m.owners[id] = mine
	if s.winners != nil {
		s.winners[id] = c
		return
	}
	s.apply(id, c)
}

func (s *scan) rival(id objectID, path string) {
	if !slices.Contains(s.m.rivals[id], path) {
		s.m.rivals[id] = append(s.m.rivals[id], path)
	}
}

// release notes that a file does not have an object any more.
func (s *scan) release(id objectID, path string) {
	rivals := slices.DeleteFunc(s.m.rivals[id], func(p string) bool { return p == path })
	if s.m.owners[id].path != path {
		s.m.rivals[id] = rivals
		return
	}
	delete(s.m.owners, id)
	delete(s.m.rivals, id)
	s.loose[id] = true
	for _, rival := range rivals {
		s.again[rival] = true
	}
}

func (s *scan) apply(id objectID, c content) {
	o, err := s.m.w.pack.unpack(c.packed)
	if err != nil {
		return // cannot be: it was packed a moment ago
	}
	f := s.m.feed(s.m.kindOf(id.apiVersion, id.kind))
	f.table.apply(f.feed, observation{object: o, packed: c.packed, version: c.hash, received: time.Now()})
}

// newer compares by resourceVersion, then by the file's time.
func (c claim) newer(than claim) bool {
	a, err := strconv.ParseUint(c.version, 10, 64)
	b, err2 := strconv.ParseUint(than.version, 10, 64)
	if err == nil && err2 == nil && a != b {
		return a > b
	}
	return c.modified.After(than.modified)
}

func fileError(path string, err error) *FileError {
	e := &FileError{Path: path, Err: err.Error()}
	if l, ok := errors.AsType[*manifest.LineError](err); ok {
		e.Line, e.Err = l.Line, l.Err.Error()
	}
	return e
}
