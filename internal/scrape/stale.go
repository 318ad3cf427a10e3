// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"context"
	"errors"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
)

// ledger stands between the scrape loops and the store and knows the live series of every target, so that
// they can be ended the moment the target is gone. Prometheus by itself does it 2.1 intervals after a target
// went, and never when its whole job went.
//
// A target is its public labels: when a reload or a new address makes another target with the same labels,
// that one continues the series and nothing ends.
type ledger struct {
	next    storage.AppendableV2
	metrics *metrics
	// changed is signalled when a target appears.
	changed chan struct{}

	closed atomic.Bool

	mu      sync.Mutex
	targets map[string]*account
}

// account is the live series of one target.
type account struct {
	mu     sync.Mutex
	series map[storage.SeriesRef]*entry
	pruned time.Time
}

// entry is a live series. Those with timestamps of their own get no marker from Prometheus when their target
// stops giving them, so each has the time of its last sample.
type entry struct {
	labels labels.Labels
	seen   time.Time
}

// forgetAfter is how long a series that its target gives no more is remembered: the look-back, within
// which it would still be seen, twice.
const forgetAfter = 10 * time.Minute

func newLedger(next storage.AppendableV2, m *metrics) *ledger {
	return &ledger{next: next, metrics: m, changed: make(chan struct{}, 1), targets: map[string]*account{}}
}

func identity(t *scrape.Target) string {
	return string(t.Labels(labels.NewBuilder(labels.EmptyLabels())).Bytes(nil))
}

// AppenderV2 implements [storage.AppendableV2] for the scrape loops, which put their target into ctx.
func (l *ledger) AppenderV2(ctx context.Context) storage.AppenderV2 {
	app := l.next.AppenderV2(ctx)
	t, ok := scrape.TargetFromContext(ctx)
	if !ok {
		return app
	}
	id := identity(t)
	return &appender{AppenderV2: app, ledger: l, id: id, account: l.account(id), now: time.Now()}
}

func (l *ledger) account(id string) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.targets[id]
	if !ok {
		a = &account{series: map[storage.SeriesRef]*entry{}, pruned: time.Now()}
		l.targets[id] = a
		select {
		case l.changed <- struct{}{}:
		default:
		}
	}
	return a
}

// end writes staleness markers at time at for all series of the targets that are not in live, and forgets them.
// A scrape that was under way then opens the account again when it commits, and the next call ends that.
func (l *ledger) end(live map[string]bool, at time.Time) error {
	var gone []*account
	l.mu.Lock()
	for id, a := range l.targets {
		if !live[id] {
			gone = append(gone, a)
			delete(l.targets, id)
		}
	}
	l.mu.Unlock()
	var errs []error
	for _, a := range gone {
		errs = append(errs, l.mark(a, at.UnixMilli()))
	}
	return errors.Join(errs...)
}

func (l *ledger) mark(a *account, at int64) error {
	a.mu.Lock()
	series := a.series
	a.series = map[storage.SeriesRef]*entry{}
	a.mu.Unlock()
	if len(series) == 0 {
		return nil
	}
	app := l.next.AppenderV2(context.Background()) // Not the loop's context: that has ended.
	written, refused := 0, 0
	for ref, e := range series {
		_, err := app.Append(ref, e.labels, 0, at, math.Float64frombits(value.StaleNaN), nil, nil,
			storage.AppendV2Options{RejectOutOfOrder: true})
		if err != nil {
			refused++
			continue
		}
		written++
	}
	if err := app.Commit(); err != nil {
		l.metrics.markersLost.WithLabelValues("commit").Add(float64(written))
		return err
	}
	l.metrics.markers.Add(float64(written))
	l.metrics.markersLost.WithLabelValues("refused").Add(float64(refused))
	return nil
}

// appender notes which series a scrape begins and ends. Like every appender it serves one goroutine.
type appender struct {
	storage.AppenderV2
	ledger  *ledger
	id      string
	account *account
	now     time.Time

	began map[storage.SeriesRef]*entry
	ended []storage.SeriesRef
}

// Append implements [storage.AppenderV2].
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram,
	fh *histogram.FloatHistogram, opts storage.AppendV2Options,
) (storage.SeriesRef, error) {
	ref, err := a.AppenderV2.Append(ref, ls, st, t, v, h, fh, opts)
	if ref == 0 || (err != nil && !errors.Is(err, &storage.AppendPartialError{})) {
		return ref, err
	}
	stale := value.IsStaleNaN(v) || (h != nil && value.IsStaleNaN(h.Sum)) || (fh != nil && value.IsStaleNaN(fh.Sum))
	a.account.mu.Lock()
	e, known := a.account.series[ref]
	if known {
		e.seen = a.now
	}
	a.account.mu.Unlock()
	switch {
	case stale && known:
		a.ended = append(a.ended, ref)
	case stale:
		delete(a.began, ref)
	case !known:
		if a.began == nil {
			a.began = map[storage.SeriesRef]*entry{}
		}
		a.began[ref] = &entry{labels: ls, seen: a.now}
	}
	return ref, err
}

// Commit implements [storage.AppenderV2].
func (a *appender) Commit() error {
	if a.ledger.closed.Load() {
		return a.Rollback() // The scrape was broken off by the shutdown: it says nothing about its target.
	}
	if err := a.AppenderV2.Commit(); err != nil {
		return err
	}
	a.account.prune(a.now)
	if len(a.began) == 0 && len(a.ended) == 0 {
		return nil
	}
	account := a.ledger.account(a.id)
	account.mu.Lock()
	defer account.mu.Unlock()
	for _, ref := range a.ended {
		delete(account.series, ref)
	}
	maps.Copy(account.series, a.began)
	return nil
}

// prune forgets, now and then, series that the target stopped giving long ago.
func (a *account) prune(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.pruned) < forgetAfter {
		return
	}
	a.pruned = now
	maps.DeleteFunc(a.series, func(_ storage.SeriesRef, e *entry) bool { return now.Sub(e.seen) > forgetAfter })
}

// size counts the live series of all targets.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.targets {
		a.mu.Lock()
		n += len(a.series)
		a.mu.Unlock()
	}
	return n
}
