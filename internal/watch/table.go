// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/klauspost/compress/zstd"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch/frame"
)

// key names an object within its kind.
type key struct {
	namespace, name string
}

// entry is what is kept of an object.
type entry struct {
	uid string
	// version tells whether content changed: the resourceVersion, for manifests a hash.
	version string
	// packed is the stripped object as compressed JSON.
	packed []byte
	// feed is where the object was seen last, and round that feed's round.
	feed  *feed
	round uint32
}

// table holds the objects of one kind and turns what its feeds see into events: each change once,
// in order.
type table struct {
	kind   resource.Kind
	handle func(resource.Event)
	pack   *packer

	// order is held while an event is made and delivered, so that those of a kind come one at a time.
	order sync.Mutex

	mu      sync.RWMutex
	objects map[key]entry
	feeds   map[*feed]bool // value: synced
	listed  bool
	last    time.Time
}

func newTable(kind resource.Kind, handle func(resource.Event), p *packer) *table {
	return &table{kind: kind, handle: handle, pack: p, objects: map[key]entry{}, feeds: map[*feed]bool{}}
}

// observation is an object that a feed has seen.
type observation struct {
	object   resource.Object
	packed   []byte // nil: table packs
	version  string
	received time.Time
}

// apply takes in an object that exists. What is known already is not reported again.
func (t *table) apply(f *feed, o observation) {
	t.order.Lock()
	defer t.order.Unlock()
	k := key{o.object.Namespace(), o.object.Name()}
	uid := o.object.UID()
	t.mu.RLock()
	old, known := t.objects[k]
	initial := !t.feeds[f]
	t.mu.RUnlock()
	if known && old.feed != f && old.feed.rank > f.rank && t.has(old.feed) {
		return // two sources have it: the API server's is the truth
	}
	if known && old.uid == uid && old.version == o.version {
		old.feed, old.round = f, f.round
		t.put(k, old, o.received)
		return
	}
	if known && old.uid != uid {
		t.deliver(resource.Deleted, t.unpack(k, old), o.received, false)
	}
	if o.packed == nil {
		o.packed = t.pack.pack(o.object)
	}
	k.namespace = unique.Make(k.namespace).Value() // a few names, many objects
	t.put(k, entry{uid: uid, version: o.version, packed: o.packed, feed: f, round: f.round}, o.received)
	t.deliver(resource.Applied, o.object, o.received, initial)
}

// remove takes in that an object is gone. last is its last form if the feed knows it.
func (t *table) remove(f *feed, k key, last resource.Object, received time.Time) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	old, known := t.objects[k]
	mine := known && old.feed == f
	if mine {
		delete(t.objects, k)
		t.last = received
	}
	t.mu.Unlock()
	if !mine {
		return
	}
	if last == nil || last.UID() != old.uid {
		last = t.unpack(k, old)
	}
	t.deliver(resource.Deleted, last, received, false)
}

// sweep ends a full list of f: what it did not contain is gone. It stops early with ctx.
func (t *table) sweep(ctx context.Context, f *feed) error {
	t.mu.RLock()
	var gone []key
	for k, e := range t.objects {
		if e.feed == f && e.round != f.round {
			gone = append(gone, k)
		}
	}
	t.mu.RUnlock()
	slices.SortFunc(gone, compareKeys)
	for _, k := range gone {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.remove(f, k, nil, time.Now())
	}
	return nil
}

// synced notes that f has delivered all that existed, and reports Listed with the last such feed.
func (t *table) synced(f *feed) {
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	if _, ok := t.feeds[f]; ok {
		t.feeds[f] = true
	}
	t.mu.Unlock()
	t.listedLocked()
}

// listedLocked reports Listed once all feeds are synced; order is held.
func (t *table) listedLocked() {
	t.mu.Lock()
	ready := !t.listed && len(t.feeds) > 0
	for _, done := range t.feeds {
		ready = ready && done
	}
	if ready {
		t.listed = true
	}
	t.mu.Unlock()
	if ready {
		t.deliver(resource.Listed, nil, time.Now(), false)
	}
}

// join adds a feed.
func (t *table) join(f *feed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feeds[f] = false
}

// leave takes a feed away, with all that only it has seen. It tells whether that was the last one;
// then Gone has been reported. On error it can be called again.
func (t *table) leave(ctx context.Context, f *feed) (last bool, err error) {
	f.round++
	if err := t.sweep(ctx, f); err != nil {
		return false, err
	}
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	delete(t.feeds, f)
	last = len(t.feeds) == 0
	t.mu.Unlock()
	if last {
		t.deliver(resource.Gone, nil, time.Now(), false)
		return true, nil
	}
	t.listedLocked()
	return false, nil
}

func (t *table) has(f *feed) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.feeds[f]
	return ok
}

func (t *table) put(k key, e entry, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects[k] = e
	t.last = at
}

func (t *table) deliver(typ resource.EventType, o resource.Object, at time.Time, initial bool) {
	t.handle(resource.Event{Type: typ, Kind: t.kind, Object: o, Received: at, Initial: initial})
}

// get gives an object as it was seen last.
func (t *table) get(namespace, name string) (resource.Object, bool) {
	k := key{namespace, name}
	t.mu.RLock()
	e, ok := t.objects[k]
	t.mu.RUnlock()
	if !ok {
		return nil, false
	}
	return t.unpack(k, e), true
}

// keys gives the names of all objects, sorted.
func (t *table) keys() []key {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(t.objects), compareKeys)
}

// size gives the number of objects and when the last one was seen.
func (t *table) size() (objects int, last time.Time) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.objects), t.last
}

// unpack gives a kept object, or if that cannot be at least its metadata.
func (t *table) unpack(k key, e entry) resource.Object {
	o, err := t.pack.unpack(e.packed)
	if err != nil {
		return resource.Object{
			"apiVersion": t.kind.APIVersion(), "kind": t.kind.Kind,
			"metadata": map[string]any{"namespace": k.namespace, "name": k.name, "uid": e.uid},
		}
	}
	return o
}

func compareKeys(a, b key) int {
	if c := strings.Compare(a.namespace, b.namespace); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}

// packer turns objects into compressed JSON and back. It is safe for concurrent use.
type packer struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make encoder: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	return &packer{enc, dec}, nil
}

func (p *packer) pack(o resource.Object) []byte {
	plain, err := json.Marshal(o)
	if err != nil {
		return nil // cannot be: the object was decoded from JSON
	}
	return p.compress(plain)
}

func (p *packer) compress(plain []byte) []byte {
	return slices.Clip(slices.Clone(p.enc.EncodeAll(plain, make([]byte, 0, len(plain)/2))))
}

func (p *packer) unpack(b []byte) (resource.Object, error) {
	plain, err := p.dec.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress object: %w", err)
	}
	return frame.Decode(plain)
}

// confirm notes that an object exists whose new content could not be taken in.
func (t *table) confirm(f *feed, k key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.objects[k]; ok && e.feed == f {
		e.round = f.round
		t.objects[k] = e
	}
}
