// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package keep keeps the current series of every owner alive in the metrics store.
//
// An owner is an object that has series: a custom resource, a job. Whoever derives them says what
// they are now, with [Keep.Set], and when they end, with [Keep.Remove]; keep writes the difference.
// A value is written at the time of the event that made it, and again every minute, so that PromQL's
// look-back finds it however long ago that was. A series that ends gets a staleness marker.
//
//	Set ──> difference ──> batch ──(every 25 ms)──> store
//	          ▲                ▲
//	     last values ──(every 60 s, spread)
//
// Nothing here fails: a sample that the store refuses is counted by reason, and one that it refuses
// for a full disk is held and tried again. On shutdown the batch is written and the series simply
// end there; no staleness markers are written, because a hub that restarts is not an event of the
// objects it watches: if it is back within the look-back nobody sees a gap.
package keep

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/wire"
)

// Store is where samples go. keep calls Append, Intern, Seen and Cut one at a time; the function that Cut
// gives and Backfill may run beside them. Errors may have a method Reason() string with one of the
// words that keep counts under; disk_full means that the sample may be taken later.
type Store interface {
	// Append puts a sample into the batch. ref is what an earlier Append of the series gave, or 0.
	Append(ref uint64, l labels.Labels, t int64, v float64) (uint64, error)
	// Intern gives labels that share memory with the store, for a series just appended, else l.
	Intern(l labels.Labels) labels.Labels
	// Seen gives the time up to which the store holds what happened to the series, from before this
	// start; math.MinInt64 for a series that it does not know.
	Seen(l labels.Labels) (until int64)
	// Cut ends the batch and gives the function that writes it.
	Cut() (commit func() error)
	// Backfill writes old samples as they are, and returns once they survive a crash.
	Backfill(ctx context.Context, samples []wire.Sample) error
}

// Options are what New takes. Store, Log and Registry are required.
type Options struct {
	Store    Store
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Repeat is how often an unchanged value is written; 60 s by default.
	Repeat time.Duration
	// Flush is how long a sample waits for others before it is written; 25 ms by default.
	Flush time.Duration
}

const (
	// slots is over how many parts of the repeat interval the owners are spread.
	slots = 60
	// batchSize is how many samples make a batch that is written without waiting for more.
	batchSize = 5_000
	// batchLimit is how many samples may wait while the store writes; then Set writes itself.
	batchLimit = 200_000
	// aheadLimit is how far ahead of this machine's clock an event may be.
	aheadLimit = 10 * time.Second
	// lateEvent is the age from which the first sample of a series goes the way of History: a store
	// takes what is out of order slowly, and at a start most first samples are.
	lateEvent = 50 * time.Minute
	// lateLimit is how many such samples may wait.
	lateLimit = 4_000_000
	// endedAge is how long the last time of an ended series is remembered.
	endedAge = 10 * time.Minute
	// unsentLimit is how many samples are held while the disk is full.
	unsentLimit = 100_000
)

// Keep holds the series. Its methods are safe for concurrent use.
type Keep struct {
	store   Store
	log     *slog.Logger
	metrics *metrics
	repeat  time.Duration
	flush   time.Duration
	dirty   chan struct{}
	aged    chan struct{}

	// writing is held while a batch is written; it is taken before mu.
	writing sync.Mutex

	seed maphash.Seed

	mu     sync.Mutex
	owners map[string]*owner
	slots  [slots][]*owner
	// writers says which owner writes a series, by the hash of its labels.
	writers map[uint64]*owner
	// waiting are the owners that have a series which another one writes.
	waiting map[uint64][]*owner
	batch   []wire.Sample
	spare   []wire.Sample
	unsent  []wire.Sample
	// ended are the last times of series that ended within endedAge, so that one that comes back is
	// not written behind its marker.
	ended map[uint64]int64
	// late are first samples for the store's past.
	late    []wire.Sample
	scratch map[uint64]int
	clashes map[uint64]struct{}
}

// New makes a Keep. It starts nothing; until [Keep.Run] is called samples wait.
func New(o Options) (*Keep, error) {
	if o.Store == nil || o.Log == nil || o.Registry == nil {
		return nil, errors.New("keep needs Store, Log and Registry")
	}
	if o.Repeat <= 0 {
		o.Repeat = time.Minute
	}
	if o.Flush <= 0 {
		o.Flush = 25 * time.Millisecond
	}
	return &Keep{
		seed:    maphash.MakeSeed(),
		store:   o.Store,
		log:     o.Log,
		metrics: newMetrics(o.Registry),
		repeat:  o.Repeat,
		flush:   o.Flush,
		dirty:   make(chan struct{}, 1),
		aged:    make(chan struct{}, 1),
		owners:  make(map[string]*owner),
		writers: make(map[uint64]*owner),
		waiting: make(map[uint64][]*owner),
		ended:   make(map[uint64]int64),
		scratch: make(map[uint64]int),
		clashes: make(map[uint64]struct{}),
	}, nil
}

// Run writes batches and repeats until ctx ends. Then it writes what waits and returns.
func (k *Keep) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.runLate(ctx) })
	tick := time.NewTicker(k.repeat / slots)
	defer tick.Stop()
	slot := 0
	for {
		select {
		case <-ctx.Done():
			k.write()
			return nil
		case <-k.dirty:
			if !k.linger(ctx) {
				continue
			}
			k.write()
		case <-tick.C:
			k.retry()
			k.repeatSlot(slot)
			if slot = (slot + 1) % slots; slot == 0 {
				k.forgetEnded()
			}
		}
	}
}

// linger waits a little for more samples, unless the batch is large already.
func (k *Keep) linger(ctx context.Context) bool {
	k.mu.Lock()
	n := len(k.batch)
	k.mu.Unlock()
	if n >= batchSize {
		return true
	}
	timer := time.NewTimer(k.flush)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// write writes the batch. What a full disk refuses is held.
func (k *Keep) write() {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.Lock()
	commit, batch := k.store.Cut(), k.batch
	k.batch, k.spare = k.spare[:0], nil
	k.mu.Unlock()

	start := time.Now()
	err := commit()
	if len(batch) > 0 {
		k.metrics.commit.Observe(time.Since(start).Seconds())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn("samples could not be written", "samples", len(batch), "err", err)
		k.lost(err, batch...)
	} else {
		k.metrics.written.Add(float64(len(batch)))
	}
	if cap(batch) <= 8*batchSize {
		clear(batch)
		k.spare = batch[:0]
	}
}

// lost counts samples that the store refused with err, or holds them if it may take them later.
func (k *Keep) lost(err error, samples ...wire.Sample) {
	reason := reasonOf(err)
	if reason == reasonDiskFull {
		room := max(0, unsentLimit-len(k.unsent))
		held := samples[:min(room, len(samples))]
		k.unsent = append(k.unsent, held...)
		k.metrics.held.Set(float64(len(k.unsent)))
		samples = samples[len(held):]
	}
	k.metrics.refused(reason).Add(float64(len(samples)))
}

// retry appends what was held while the disk was full. If it still is, it is held again.
func (k *Keep) retry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.unsent) == 0 {
		return
	}
	held := k.unsent
	k.unsent = nil
	for i, s := range held {
		if _, err := k.store.Append(0, s.Labels, s.Time, s.Value); err != nil {
			k.lost(err, s)
			if reasonOf(err) == reasonDiskFull {
				k.unsent = append(k.unsent, held[i+1:]...)
				break
			}
			continue
		}
		k.queued(s)
	}
	k.metrics.held.Set(float64(len(k.unsent)))
}

// forgetEnded drops what ended long ago.
func (k *Keep) forgetEnded() {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := time.Now().Add(-endedAge).UnixMilli()
	maps.DeleteFunc(k.ended, func(_ uint64, last int64) bool { return last < before })
}

// count shows how much is kept. It has mu held.
func (k *Keep) count() {
	k.metrics.owners.Set(float64(len(k.owners)))
	k.metrics.series.Set(float64(len(k.writers)))
}

// queued notes a sample that the store has in its batch. It has mu held.
func (k *Keep) queued(s wire.Sample) {
	k.batch = append(k.batch, s)
	select {
	case k.dirty <- struct{}{}:
	default:
	}
}

// repeatSlot writes the unchanged values of one part of the owners.
func (k *Keep) repeatSlot(slot int) {
	for from := 0; ; {
		k.mu.Lock()
		now := time.Now().UnixMilli()
		recent := now - k.repeat.Milliseconds()/2
		owners, n := k.slots[slot], 0
		for from < len(owners) && n < batchSize {
			n += k.repeatOwner(owners[from], now, recent)
			from++
		}
		more := from < len(owners)
		k.mu.Unlock()
		if n > 0 {
			k.metrics.repeated.Add(float64(n))
			k.write()
		}
		if !more {
			return
		}
	}
}

// repeatOwner writes o's values that were not written since recent. It has mu held.
func (k *Keep) repeatOwner(o *owner, now, recent int64) int {
	n := 0
	for i := range o.series {
		s := &o.series[i]
		if s.last > recent && !farAhead(s.last, now) {
			continue
		}
		if r := k.append(s, now, s.value); r != nil {
			reason := reasonOf(r.err)
			k.metrics.refused(reason).Inc()
			if reason == reasonDiskFull {
				return n
			}
			continue
		}
		n++
	}
	return n
}

// runLate hands the first samples of long-standing values to the store, many at a time.
func (k *Keep) runLate(ctx context.Context) {
	const pause = 200 * time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-k.aged:
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		k.mu.Lock()
		late := k.late
		k.late = nil
		k.mu.Unlock()
		// What comes with the end is still logged: the store takes it without waiting.
		if err := k.History(context.WithoutCancel(ctx), late); err != nil {
			k.log.Warn("first samples of series could not be written at the times of their events", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// History writes samples of the past at their own times: inside the store's out-of-order window at
// once, older ones as blocks, which are safe on return and visible some seconds later. Samples of one
// series are in time order. It may take as long as the store needs, and returns what was refused: an error whose
// method Temporary() bool says whether another try may do better, as after a full disk.
func (k *Keep) History(ctx context.Context, samples []wire.Sample) error {
	const batch = 50_000
	var errs []error
	for len(samples) > 0 && ctx.Err() == nil {
		n := min(len(samples), batch)
		if err := k.store.Backfill(ctx, samples[:n]); err != nil {
			errs = append(errs, err)
			k.metrics.historyFailed.Inc()
		}
		k.metrics.history.Add(float64(n))
		samples = samples[n:]
	}
	if len(samples) > 0 {
		errs = append(errs, ctx.Err())
	}
	if len(errs) == 0 {
		return nil
	}
	return historyError{errors.Join(errs...)}
}
