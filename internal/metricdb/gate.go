// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// Refusals of the gate. The first two match storage.ErrOutOfBounds, which every receiver of the
// engine answers with a client error, so that a sender drops the sample and does not try again.
// ErrDiskFull is a server error: the sender keeps the sample and retries.
var (
	ErrFuture        = fmt.Errorf("%w: timestamp is too far in the future", storage.ErrOutOfBounds)
	ErrTooManySeries = fmt.Errorf("%w: the limit of series is reached", storage.ErrOutOfBounds)
	ErrDiskFull      = errors.New("metrics store: disk is full")
)

// Appender is what a writer appends through: both of the engine's interfaces, since of its parts some
// take one and some the other.
type Appender interface {
	storage.Appendable
	storage.AppendableV2
}

// Appendable gives the gate for one writer. The name becomes the writer label of the store's metrics,
// so it comes from a short fixed list: scrape, remote_write, otlp, rule, state.
//
// The gate refuses with the engine's own kind of errors, sample by sample; the others of a batch are
// taken. References returned by an append may be used with later ones, as usual.
func (d *DB) Appendable(writer string) Appender {
	return &intake{db: d, w: d.metrics.writer(writer)}
}

type intake struct {
	db *DB
	w  *writer
}

func (i *intake) pass() pass {
	p := pass{
		w:       i.w,
		space:   i.db.space,
		maxTime: time.Now().Add(i.db.opts.FutureLimit).UnixMilli(),
	}
	if cluster := string(i.db.opts.Settings.Cluster); cluster != "" {
		p.cluster = cluster
		p.builder = labels.NewBuilder(labels.EmptyLabels())
	}
	return p
}

// Appender implements storage.Appendable.
func (i *intake) Appender(ctx context.Context) storage.Appender { return i.appender(ctx) }

func (i *intake) appender(ctx context.Context) *appender {
	a := &appender{pass: i.pass(), head: i.db.tsdb.Appender(ctx)}
	if i.db.sending.Load() {
		a.track = i.db.remote.Appender(ctx)
	}
	return a
}

// AppenderV2 implements storage.AppendableV2.
func (i *intake) AppenderV2(ctx context.Context) storage.AppenderV2 {
	a := &appenderV2{pass: i.pass(), head: i.db.tsdb.AppenderV2(ctx)}
	if i.db.sending.Load() {
		a.track = i.db.remote.AppenderV2(ctx)
	}
	return a
}

// pass is one appender's way through the gate.
type pass struct {
	w       *writer
	space   *space
	maxTime int64
	taken   int

	cluster string
	builder *labels.Builder
}

// check says whether a sample of time t may go in at all.
func (p *pass) check(t int64) error {
	if t > p.maxTime {
		p.w.refused(ErrFuture, 1)
		return ErrFuture
	}
	if p.space.full.Load() {
		p.w.refused(ErrDiskFull, 1)
		return ErrDiskFull
	}
	return nil
}

// labels adds the cluster label to l.
func (p *pass) labels(l labels.Labels) labels.Labels {
	if p.cluster == "" || l.IsEmpty() || l.Has(clusterLabel) {
		return l
	}
	p.builder.Reset(l)
	return p.builder.Set(clusterLabel, p.cluster).Labels()
}

const clusterLabel = "cluster"

func (p *pass) count(err error) {
	if err == nil {
		p.taken++
		return
	}
	p.w.refused(err, 1)
}

// commit counts the batch that ended with err. The engine rolls a batch back that it can't write.
func (p *pass) commit(err error) error {
	if err == nil {
		p.w.appended.Add(float64(p.taken))
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) {
		p.space.full.Store(true)
		err = fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	p.w.refused(err, p.taken)
	return err
}

type appender struct {
	pass

	head storage.Appender
	// track notes what was appended for remote write's metrics; nil when there is no remote write.
	track storage.Appender
}

func (a *appender) SetOptions(o *storage.AppendOptions) { a.head.SetOptions(o) }

func (a *appender) Append(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if err := a.check(t); err != nil {
		return 0, err
	}
	ref, err := a.head.Append(ref, a.labels(l), t, v)
	a.count(err)
	if err == nil && a.track != nil {
		_, err = a.track.Append(ref, l, t, v)
	}
	return ref, err
}

func (a *appender) AppendHistogram(ref storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if err := a.check(t); err != nil {
		return 0, err
	}
	ref, err := a.head.AppendHistogram(ref, a.labels(l), t, h, fh)
	a.count(err)
	if err == nil && a.track != nil {
		_, err = a.track.AppendHistogram(ref, l, t, h, fh)
	}
	return ref, err
}

// AppendExemplar is refused, not counted as a sample, when it is too far ahead.
func (a *appender) AppendExemplar(ref storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	if e.Ts > a.maxTime {
		return 0, ErrFuture
	}
	ref, err := a.head.AppendExemplar(ref, a.labels(l), e)
	if err == nil && a.track != nil {
		_, err = a.track.AppendExemplar(ref, l, e)
	}
	return ref, err
}

func (a *appender) UpdateMetadata(ref storage.SeriesRef, l labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	return a.head.UpdateMetadata(ref, a.labels(l), m)
}

func (a *appender) AppendSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64) (storage.SeriesRef, error) {
	if max(t, st) > a.maxTime {
		return 0, ErrFuture
	}
	return a.head.AppendSTZeroSample(ref, a.labels(l), t, st)
}

func (a *appender) AppendHistogramSTZeroSample(ref storage.SeriesRef, l labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if max(t, st) > a.maxTime {
		return 0, ErrFuture
	}
	return a.head.AppendHistogramSTZeroSample(ref, a.labels(l), t, st, h, fh)
}

func (a *appender) Commit() error {
	err := a.commit(a.head.Commit())
	if a.track == nil {
		return err
	}
	if err != nil {
		return errors.Join(err, a.track.Rollback())
	}
	return a.track.Commit()
}

func (a *appender) Rollback() error {
	err := a.head.Rollback()
	if a.track != nil {
		err = errors.Join(err, a.track.Rollback())
	}
	return err
}

// GetRef implements storage.GetRef.
func (a *appender) GetRef(l labels.Labels, _ uint64) (storage.SeriesRef, labels.Labels) {
	g, ok := a.head.(storage.GetRef)
	if !ok {
		return 0, labels.EmptyLabels()
	}
	l = a.labels(l)
	return g.GetRef(l, l.Hash())
}

type appenderV2 struct {
	pass

	head  storage.AppenderV2
	track storage.AppenderV2
}

func (a *appenderV2) Append(ref storage.SeriesRef, l labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	if err := a.check(t); err != nil {
		return 0, err
	}
	if st > a.maxTime {
		st = 0
	}
	if n := len(o.Exemplars); n > 0 && o.Exemplars[n-1].Ts > a.maxTime {
		o.Exemplars = present(o.Exemplars, a.maxTime)
	}
	ref, err := a.head.Append(ref, a.labels(l), st, t, v, h, fh, o)
	var partial *storage.AppendPartialError
	partial, fatal := partial.Handle(err)
	a.count(fatal)
	if fatal == nil && a.track != nil {
		if _, trackErr := a.track.Append(ref, l, st, t, v, h, fh, o); trackErr != nil {
			return ref, trackErr
		}
	}
	if fatal != nil {
		return ref, fatal
	}
	return ref, partial.ToError()
}

// present gives the exemplars, sorted by time, that are not beyond maxTime.
func present(sorted []exemplar.Exemplar, maxTime int64) []exemplar.Exemplar {
	for i, e := range sorted {
		if e.Ts > maxTime {
			return sorted[:i]
		}
	}
	return sorted
}

func (a *appenderV2) Commit() error {
	err := a.commit(a.head.Commit())
	if a.track == nil {
		return err
	}
	if err != nil {
		return errors.Join(err, a.track.Rollback())
	}
	return a.track.Commit()
}

func (a *appenderV2) Rollback() error {
	err := a.head.Rollback()
	if a.track != nil {
		err = errors.Join(err, a.track.Rollback())
	}
	return err
}
