// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// writeBlocks writes e as blocks into the store and makes them visible. A block that overlaps others
// is fine: queries merge them, identical samples count once, and the engine compacts them into one.
func (d *DB) writeBlocks(ctx context.Context, scratch string, e *epoch) error {
	span := backfillRange(time.Duration(d.opts.Settings.Retention.Time))
	slices.SortFunc(e.samples, func(a, b oldSample) int {
		return cmp.Or(cmp.Compare(floorDiv(a.time, span), floorDiv(b.time, span)),
			cmp.Compare(a.ref, b.ref), cmp.Compare(a.time, b.time))
	})
	compactor, err := tsdb.NewLeveledCompactorWithOptions(ctx, nil, d.engineLog, []int64{span}, chunkenc.NewPool(),
		tsdb.LeveledCompactorOptions{MaxBlockChunkSegmentSize: blockSegment})
	if err != nil {
		return fmt.Errorf("back-fill: %w", err)
	}
	for rest := e.samples; len(rest) > 0; {
		bucket := floorDiv(rest[0].time, span)
		end, _ := slices.BinarySearchFunc(rest, bucket+1, func(s oldSample, b int64) int {
			return cmp.Compare(floorDiv(s.time, span), b)
		})
		if err := d.space.room(int64(end) * 16); err != nil {
			return err
		}
		if err := d.writeBlock(ctx, compactor, scratch, span, e, rest[:end]); err != nil {
			return err
		}
		rest = rest[end:]
	}
	return d.reloader.reload(ctx, d.tsdb)
}

// backfillRange is the time that one block of old samples spans, in milliseconds: the longest of the
// ranges into which the engine joins its blocks. Blocks begin and end at multiples of it.
func backfillRange(retention time.Duration) int64 {
	span := tsdb.DefaultBlockDuration
	for span*3 <= longestBlock(retention) {
		span *= 3
	}
	return span
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// writeBlock writes samples, which lie in one range and are sorted by series and time, as one block.
func (d *DB) writeBlock(ctx context.Context, compactor *tsdb.LeveledCompactor, scratch string, span int64, e *epoch, samples []oldSample) (err error) {
	dir, err := os.MkdirTemp(scratch, "head-")
	if err != nil {
		return fmt.Errorf("back-fill: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	o := tsdb.DefaultHeadOptions()
	// An appender takes samples up to half a range behind the newest.
	o.ChunkRange = 2 * span
	o.ChunkDirRoot = dir
	o.StripeSize = 1 << 8
	o.IsolationDisabled = true
	o.ChunkWriteBufferSize = 64 << 10
	head, err := tsdb.NewHead(nil, d.engineLog, nil, nil, o, tsdb.NewHeadStats())
	if err != nil {
		return fmt.Errorf("back-fill: %w", err)
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	if err := head.Init(math.MinInt64); err != nil {
		return fmt.Errorf("back-fill: %w", err)
	}
	if err := appendOld(ctx, head, e, samples); err != nil {
		return err
	}
	// Not taken for a block that the head was cut at: the engine drops from its WAL what is older.
	meta := &tsdb.BlockMeta{}
	meta.Compaction.SetOutOfOrder()
	ids, err := compactor.Write(d.tsdb.Dir(), head, head.MinTime(), head.MaxTime()+1, meta)
	if err != nil {
		return fmt.Errorf("write block of old samples: %w", err)
	}
	d.metrics.backfillBlocks.Add(float64(len(ids)))
	return nil
}

func appendOld(ctx context.Context, head *tsdb.Head, e *epoch, samples []oldSample) error {
	const batch = 5000
	var (
		ref  storage.SeriesRef
		last = uint32(math.MaxUint32)
	)
	for chunk := range slices.Chunk(samples, batch) {
		app := head.Appender(ctx)
		for _, s := range chunk {
			if s.ref != last {
				ref, last = 0, s.ref
			}
			got, err := app.Append(ref, e.series[s.ref], s.time, s.value)
			switch {
			case err == nil:
				ref = got
			case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
				// Two values for one moment: the first stays, as in the head.
			default:
				return errors.Join(fmt.Errorf("old sample of %s: %w", e.series[s.ref], err), app.Rollback())
			}
		}
		if err := app.Commit(); err != nil {
			return fmt.Errorf("old samples: %w", err)
		}
	}
	return nil
}
