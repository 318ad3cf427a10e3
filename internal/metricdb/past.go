// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/periplus-io/periplus/internal/wire"
)

const (
	// backfillBatch is how many old samples one round of blocks is made of at most. With it the memory
	// that back-fill takes is bounded: 24 bytes a sample, and one head per block range at a time.
	backfillBatch = 2_000_000
	// backfillWait is the longest that samples are held back while more keep coming.
	backfillWait = 15 * time.Second
	// backfillRetry is how long after a failure the blocks are tried again.
	backfillRetry = 10 * time.Second
)

// past takes samples older than the out-of-order window. Each call is logged on disk (same format and
// promise as the engine's WAL: it survives kill -9) and collected, so that thousands of small calls
// make a few blocks and not thousands. Run writes the blocks and cuts the log.
type past struct {
	db        *DB
	dir       string
	retention atomic.Int64 // milliseconds
	wake      chan struct{}

	mu  sync.Mutex
	log *wlog.WL
	// cur collects; the one before it, being written, is known to flush alone.
	cur *epoch
	// room is closed and replaced whenever an epoch has been written.
	room chan struct{}

	flushing int
	closed   bool
}

// epoch is what is written as one round of blocks. It begins with a segment of the log.
type epoch struct {
	// refs finds a series by the hash of its labels.
	refs   map[uint64]uint32
	series []labels.Labels
	// logged says whether the log's newest meaning of a reference is this epoch's.
	logged  []bool
	samples []oldSample
	since   time.Time
	latest  time.Time
}

type oldSample struct {
	ref   uint32
	time  int64
	value float64
}

func newEpoch() *epoch { return &epoch{refs: make(map[uint64]uint32)} }

func (e *epoch) add(l labels.Labels, t int64, v float64) (ref uint32) {
	ref = e.ref(l)
	e.samples = append(e.samples, oldSample{ref: ref, time: t, value: v})
	return ref
}

func (e *epoch) ref(l labels.Labels) uint32 {
	if n := len(e.samples); n > 0 {
		if last := e.samples[n-1].ref; labels.Equal(e.series[last], l) {
			return last
		}
	}
	hash := l.Hash()
	if ref, ok := e.refs[hash]; ok && labels.Equal(e.series[ref], l) {
		return ref
	}
	ref := uint32(len(e.series))
	e.refs[hash] = ref
	e.series = append(e.series, l)
	e.logged = append(e.logged, false)
	return ref
}

var errClosed = errors.New("metrics store is closed")

func openPast(d *DB) (*past, error) {
	p := &past{
		db:   d,
		dir:  filepath.Join(d.opts.Dir, "backfill"),
		wake: make(chan struct{}, 1),
		room: make(chan struct{}),
		cur:  newEpoch(),
	}
	p.setRetention(time.Duration(d.opts.Settings.Retention.Time))
	if err := os.MkdirAll(p.dir, 0o750); err != nil {
		return nil, fmt.Errorf("back-fill: %w", err)
	}
	if err := p.replay(); err != nil {
		return nil, err
	}
	log, err := wlog.NewSize(d.log, nil, p.logDir(), 16<<20, compression.Snappy)
	if err != nil {
		return nil, fmt.Errorf("open back-fill log: %w", err)
	}
	p.log = log
	return p, nil
}

func (p *past) logDir() string { return filepath.Join(p.dir, "log") }

func (p *past) setRetention(r time.Duration) { p.retention.Store(r.Milliseconds()) }

// replay reads back what was logged and not yet in a block. A torn tail was never acknowledged; what
// lies behind a damaged record is given up and said so.
func (p *past) replay() error {
	segments, err := wlog.NewSegmentsReader(p.logDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read back-fill log: %w", err)
	}
	defer func() { _ = segments.Close() }()
	r := wlog.NewReader(segments)
	log := oldLog{dec: record.NewDecoder(labels.NewSymbolTable(), p.db.log), known: make(map[chunks.HeadSeriesRef]labels.Labels), into: p.cur}
	for r.Next() {
		if err = log.read(r.Record()); err != nil {
			break
		}
	}
	if err := cmp.Or(err, r.Err()); err != nil {
		p.db.log.Warn("back-fill log is damaged, its end is given up", "err", err)
	}
	if n := len(p.cur.samples); n > 0 {
		p.cur.since = time.Now()
		p.db.metrics.backfillPending.Set(float64(n))
		p.db.log.Info("old samples found that are not in a block yet", "samples", n)
	}
	return nil
}

// oldLog reads the records of the log into an epoch.
type oldLog struct {
	dec    record.Decoder
	known  map[chunks.HeadSeriesRef]labels.Labels
	series []record.RefSeries
	batch  []record.RefSample
	into   *epoch
}

func (l *oldLog) read(rec []byte) (err error) {
	switch l.dec.Type(rec) {
	case record.Series:
		if l.series, err = l.dec.Series(rec, l.series[:0]); err != nil {
			return err
		}
		for _, s := range l.series {
			l.known[s.Ref] = s.Labels
		}
	case record.Samples:
		if l.batch, err = l.dec.Samples(rec, l.batch[:0]); err != nil {
			return err
		}
		for _, s := range l.batch {
			if series, ok := l.known[s.Ref]; ok {
				l.into.add(series, s.T, s.V)
			}
		}
	}
	return nil
}

// add logs samples and leaves them to be written as blocks. It waits while too many are on the way.
func (p *past) add(ctx context.Context, samples []wire.Sample) error {
	for len(samples) > 0 {
		n := min(len(samples), 10_000)
		if err := p.waitForRoom(ctx, n); err != nil {
			return err
		}
		if err := p.addSome(samples[:n]); err != nil {
			return err
		}
		samples = samples[n:]
	}
	return nil
}

func (p *past) waitForRoom(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		room, ok := p.room, len(p.cur.samples)+n <= backfillBatch || len(p.cur.samples) == 0
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		}
	}
}

func (p *past) addSome(samples []wire.Sample) error {
	if p.db.space.full.Load() {
		return ErrDiskFull
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	var (
		mark   = len(p.cur.samples)
		series []record.RefSeries
		batch  = make([]record.RefSample, 0, len(samples))
		enc    record.Encoder
	)
	for _, s := range samples {
		ref := p.cur.add(s.Labels, s.Time, s.Value)
		if !p.cur.logged[ref] {
			p.cur.logged[ref] = true
			series = append(series, record.RefSeries{Ref: chunks.HeadSeriesRef(ref), Labels: s.Labels})
		}
		batch = append(batch, record.RefSample{Ref: chunks.HeadSeriesRef(ref), T: s.Time, V: s.Value})
	}
	records := make([][]byte, 0, 2)
	if len(series) > 0 {
		records = append(records, enc.Series(series, nil))
	}
	if err := p.log.Log(append(records, enc.Samples(batch, nil))...); err != nil {
		for _, s := range series {
			p.cur.logged[s.Ref] = false
		}
		p.cur.samples = p.cur.samples[:mark]
		return fmt.Errorf("back-fill log: %w", err)
	}
	p.cur.latest = time.Now()
	if mark == 0 {
		p.cur.since = p.cur.latest
	}
	p.db.metrics.backfillPending.Set(float64(len(p.cur.samples) + p.flushing))
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// run writes an epoch once no more samples came for the delay, or it is full, or old enough.
func (p *past) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
		wait, due := p.due()
		if !due {
			if wait > 0 {
				timer.Reset(wait)
			}
			continue
		}
		if err := p.flush(ctx); err != nil && ctx.Err() == nil {
			p.db.metrics.backfillFailures.Inc()
			p.db.log.Warn("old samples could not be written, trying again", "err", err)
			timer.Reset(backfillRetry)
		}
	}
}

// due says whether the collected samples are to be written now, else in how long; 0 is never.
func (p *past) due() (wait time.Duration, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cur.samples) == 0 {
		return 0, false
	}
	if len(p.cur.samples) > backfillBatch-10_000 {
		return 0, true
	}
	at := p.cur.latest.Add(p.db.opts.BackfillDelay)
	if limit := p.cur.since.Add(backfillWait); limit.Before(at) {
		at = limit
	}
	wait = time.Until(at)
	return wait, wait <= 0
}

// flush writes the collected samples as blocks, makes them visible and cuts the log before them.
func (p *past) flush(ctx context.Context) error {
	e, segment, err := p.cut()
	if err != nil {
		return err
	}
	if err := p.db.writeBlocks(ctx, p.dir, e); err != nil {
		p.giveBack(e)
		return err
	}
	p.db.metrics.backfilled.Add(float64(len(e.samples)))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushing = 0
	p.db.metrics.backfillPending.Set(float64(len(p.cur.samples)))
	close(p.room)
	p.room = make(chan struct{})
	if p.closed {
		return nil
	}
	return p.log.Truncate(segment)
}

// cut ends the current epoch and gives the first segment of the next one.
func (p *past) cut() (*epoch, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, 0, errClosed
	}
	if _, err := p.log.NextSegment(); err != nil {
		return nil, 0, fmt.Errorf("back-fill log: %w", err)
	}
	segment, _, err := p.log.LastSegmentAndOffset()
	if err != nil {
		return nil, 0, fmt.Errorf("back-fill log: %w", err)
	}
	e := p.cur
	p.cur = newEpoch()
	p.flushing = len(e.samples)
	return e, segment, nil
}

// giveBack puts a failed epoch before what has come since. Both are still in the log.
func (p *past) giveBack(e *epoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	newer := p.cur
	for _, s := range newer.samples {
		e.add(newer.series[s.ref], s.time, s.value)
	}
	clear(e.logged)
	e.latest = time.Now()
	p.cur = e
	p.flushing = 0
}

func (p *past) pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.cur.samples) + p.flushing
}

// close leaves what is not in a block to the next start.
func (p *past) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.log.Close()
}
