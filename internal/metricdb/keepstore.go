// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/periplus-io/periplus/internal/wire"
)

// KeepStore gives the store in plain types to the room that keeps series alive, as the writer state.
func (d *DB) KeepStore() *KeepStore {
	return &KeepStore{turns: &sync.RWMutex{}, intake: intake{db: d, w: d.metrics.writer("state")}, old: d.metrics.writer("backfill")}
}

// KeepStore collects samples in a batch. Append, Intern, Seen and Cut are for one goroutine at a time; the
// functions that Cut returns and Backfill may run beside them.
type KeepStore struct {
	intake intake
	old    *writer
	batch  *appender

	// turns keeps batches and back-fill apart. The engine logs a series when the appender that met it first
	// commits. Were another one to commit samples of that series before, the log would have them first, and the
	// next replay would drop them. Batches share it from their first sample to their commit (they commit in
	// order), a piece of back-fill has it alone.
	turns *sync.RWMutex
	held  bool
}

// Refused is the error of a sample that was not taken. Reason is the word under which the store
// counts it; with the reason disk_full the sample may be taken later.
type Refused struct {
	Why string
	Err error
}

// Error implements error.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap gives the engine's error.
func (r *Refused) Unwrap() error { return r.Err }

// Reason is the word under which the store counts the sample.
func (r *Refused) Reason() string { return r.Why }

func refusal(err error) error {
	if err == nil {
		return nil
	}
	return &Refused{Why: reasonOf(err), Err: err}
}

// Append puts a sample into the batch. ref is what an earlier Append of the series gave, or 0.
func (k *KeepStore) Append(ref uint64, l labels.Labels, t int64, v float64) (uint64, error) {
	if k.batch == nil {
		k.batch = k.intake.appender(context.Background())
	}
	if !k.held {
		k.turns.RLock()
		k.held = true
	}
	got, err := k.batch.Append(storage.SeriesRef(ref), l, t, v)
	if err != nil && k.batch.taken == 0 {
		// An empty batch may never be cut, and an appender is for a moment: it knows its time.
		err = errors.Join(err, k.batch.Rollback())
		k.batch, k.held = nil, false
		k.turns.RUnlock()
	}
	return uint64(got), refusal(err)
}

// Intern gives labels that share their memory with the store, for a series that was appended in this
// batch, and l itself for any other. They may have the cluster label in addition.
func (k *KeepStore) Intern(l labels.Labels) labels.Labels {
	if k.batch == nil {
		return l
	}
	if _, own := k.batch.GetRef(l, 0); !own.IsEmpty() {
		return own
	}
	return l
}

// Seen gives the newest time that was in the store when it was opened, if it knew the series then:
// what happened to it up to that time is there. For any other series it is math.MinInt64.
func (k *KeepStore) Seen(l labels.Labels) (until int64) {
	if k.intake.db.replayed == math.MinInt64 {
		return math.MinInt64
	}
	if k.batch == nil {
		k.batch = k.intake.appender(context.Background())
	}
	if ref, _ := k.batch.GetRef(l, 0); ref == 0 {
		return math.MinInt64
	}
	return k.intake.db.replayed
}

// Cut ends the batch and gives the function that writes it; samples appended from now on belong to
// the next one. A batch is written whole or not at all.
func (k *KeepStore) Cut() (commit func() error) {
	batch, held := k.batch, k.held
	k.batch, k.held = nil, false
	if batch == nil {
		return func() error { return nil }
	}
	return func() error {
		if held {
			defer k.turns.RUnlock()
		}
		return refusal(batch.Commit())
	}
}

// backfillMargin keeps back-fill from the very end of the out-of-order window and of the retention, which move
// while the samples are on their way.
const backfillMargin = 10 * time.Minute

// backfillInline is how many samples of one call the head takes out of order. It does that one by one,
// with two WAL records and half a kilobyte for each series; blocks are a tenth of the work.
const backfillInline = 100

// Backfill writes samples of the past at their own times. Those that the head takes in order, and a
// few that it takes out of order, go there and are visible on return. More, and those before the
// out-of-order window, are logged on return and written as blocks, visible some seconds later.
// Samples that are there already change nothing. It returns what was refused, which is counted.
func (k *KeepStore) Backfill(ctx context.Context, samples []wire.Sample) error {
	var (
		d       = k.intake.db
		now     = time.Now().UnixMilli()
		oldest  = now - d.past.retention.Load() - backfillMargin.Milliseconds()
		window  = max(d.tsdb.Head().MaxTime(), now) - (d.window.Load() - backfillMargin.Milliseconds())
		bound   = window
		fresh   []wire.Sample
		old     []wire.Sample
		tooOld  int
		cluster = k.intake.pass()
	)
	if minValid, ok := d.tsdb.Head().AppendableMinValidTime(); ok && len(samples) > backfillInline {
		bound = max(bound, minValid+time.Minute.Milliseconds())
	}
	for _, s := range samples {
		switch {
		case s.Time < oldest:
			tooOld++
		case s.Time < bound:
			s.Labels = cluster.labels(s.Labels)
			old = append(old, s)
		default:
			fresh = append(fresh, s)
		}
	}
	var errs []error
	if tooOld > 0 {
		k.old.refused(storage.ErrTooOldSample, tooOld)
		errs = append(errs, refusal(fmt.Errorf("%d of %d samples are older than the retention: %w", tooOld, len(samples), storage.ErrTooOldSample)))
	}
	if err := d.past.add(ctx, old); err != nil {
		k.old.refused(err, len(old))
		errs = append(errs, refusal(err))
	} else {
		k.old.appended.Add(float64(len(old)))
	}
	return errors.Join(append(errs, k.appendFresh(ctx, fresh))...)
}

// appendFresh appends in small batches: for every series out of order the engine takes two buffers of a kilobyte
// and keeps them until the commit.
func (k *KeepStore) appendFresh(ctx context.Context, samples []wire.Sample) error {
	const batch = 1000
	var first error
	failed, all := 0, len(samples)
	for len(samples) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(samples), batch)
		refused, why, err := k.appendSome(ctx, samples[:n])
		if err != nil {
			return refusal(fmt.Errorf("samples inside the window: %w", err))
		}
		failed += refused
		first = cmp.Or(first, why)
		samples = samples[n:]
	}
	if first != nil {
		return refusal(fmt.Errorf("%d of %d samples: %w", failed, all, first))
	}
	return nil
}

// appendSome writes one batch, and tells how many of its samples were refused and why the first was.
func (k *KeepStore) appendSome(ctx context.Context, samples []wire.Sample) (refused int, why, err error) {
	k.turns.Lock()
	defer k.turns.Unlock()
	app := (&intake{db: k.intake.db, w: k.old}).appender(ctx)
	for _, s := range samples {
		if _, err := app.Append(0, s.Labels, s.Time, s.Value); err != nil {
			refused++
			why = cmp.Or(why, err)
		}
	}
	return refused, why, app.Commit()
}
