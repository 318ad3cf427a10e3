// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/util/compression"
)

// seriesStripes is the number of locks over the head's series; the engine's 16,384 cost a few MiB
// that a small hub never needs.
const seriesStripes = 1 << 12

// blockSegment is the size of a block's chunk files. The engine reserves a whole one before it writes, so its own
// 512 MiB would ask for more than the reserve of a small disk.
const blockSegment = 64 << 20

// engineOptions are chosen for few writers, two cores and little memory; ADR 3 says why.
func (d *DB) engineOptions() *tsdb.Options {
	retention := time.Duration(d.opts.Settings.Retention.Time)
	o := tsdb.DefaultOptions()
	o.RetentionDuration = retention.Milliseconds()
	o.MaxBytes = int64(d.opts.Settings.Retention.Size)
	o.MaxBlockDuration = longestBlock(retention)
	o.WALSegmentSize = d.opts.WALSegmentSize
	o.WALCompression = compression.Snappy
	o.StripeSize = seriesStripes
	o.HeadChunksWriteBufferSize = chunks.MinWriteBufferSize * 8
	o.IsolationDisabled = true
	o.MaxBlockChunkSegmentSize = blockSegment
	o.NoLockfile = true // DB has one, with a clearer message
	o.OutOfOrderTimeWindow = d.opts.OutOfOrderWindow.Milliseconds()
	o.EnableExemplarStorage = true
	o.MaxExemplars = d.opts.MaxExemplars
	o.EnableMetadataWALRecords = true
	o.NewCompactorFunc = d.reloader.open
	if limit := d.opts.Settings.Limits.Series; limit > 0 {
		o.SeriesLifecycleCallback = &seriesCap{limit: limit}
	}
	return o
}

// longestBlock is the range up to which blocks are joined, in milliseconds. Blocks are deleted whole,
// so it is a tenth of the retention.
func longestBlock(retention time.Duration) int64 {
	return max(tsdb.DefaultBlockDuration, min(retention/10, 31*24*time.Hour).Milliseconds())
}

// seriesCap refuses new series once the head holds limit of them.
type seriesCap struct {
	limit uint64
	held  atomic.Int64
}

// PreCreation implements tsdb.SeriesLifecycleCallback.
func (c *seriesCap) PreCreation(labels.Labels) error {
	if held := c.held.Load(); held > 0 && uint64(held) >= c.limit {
		return ErrTooManySeries
	}
	return nil
}

// PostCreation implements tsdb.SeriesLifecycleCallback.
func (c *seriesCap) PostCreation(labels.Labels) { c.held.Add(1) }

// PostDeletion implements tsdb.SeriesLifecycleCallback.
func (c *seriesCap) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	c.held.Add(-int64(len(gone)))
}

// reloader is the engine's compactor with two additions. It can plan an empty compaction, because
// the engine looks for new blocks only once a minute and after a compaction. And it does not begin
// what the disk has no room for: a compaction that fills the disk takes the reserve that the head
// needs.
type reloader struct {
	*tsdb.LeveledCompactor

	space *space
	// wanted is set by reload and taken by the next Plan; skip then ends that round, so that a reload
	// does not wait for real compactions. Plan and Compact are called under one lock of the engine.
	wanted atomic.Bool
	skip   bool
}

const reloadOnly = "reload"

// blockShare is by how much, at least, a block is smaller than the WAL and head chunks it comes from.
const blockShare = 3

func (r *reloader) open(ctx context.Context, reg prometheus.Registerer, log *slog.Logger, ranges []int64, pool chunkenc.Pool, o *tsdb.Options) (tsdb.Compactor, error) {
	c, err := tsdb.NewLeveledCompactorWithOptions(ctx, reg, log, ranges, pool, tsdb.LeveledCompactorOptions{
		MaxBlockChunkSegmentSize:    o.MaxBlockChunkSegmentSize,
		EnableOverlappingCompaction: true,
	})
	r.LeveledCompactor = c
	return r, err
}

// reload makes blocks that were put into the directory visible to queries.
func (r *reloader) reload(ctx context.Context, db *tsdb.DB) error {
	r.wanted.Store(true)
	return db.Compact(ctx)
}

// Plan implements tsdb.Compactor.
func (r *reloader) Plan(dir string) ([]string, error) {
	if r.wanted.Swap(false) {
		r.skip = true
		return []string{reloadOnly}, nil
	}
	if r.skip {
		r.skip = false
		return nil, nil
	}
	return r.LeveledCompactor.Plan(dir)
}

// Write implements tsdb.Compactor.
func (r *reloader) Write(dest string, b tsdb.BlockReader, mint, maxt int64, base *tsdb.BlockMeta) ([]ulid.ULID, error) {
	if err := r.space.room(b.Size() / blockShare); err != nil {
		return nil, err
	}
	return r.LeveledCompactor.Write(dest, b, mint, maxt, base)
}

// Compact implements tsdb.Compactor.
func (r *reloader) Compact(dest string, dirs []string, open []*tsdb.Block) ([]ulid.ULID, error) {
	if len(dirs) == 1 && dirs[0] == reloadOnly {
		return nil, nil
	}
	var need int64
	for _, dir := range dirs {
		size, err := fileutil.DirSize(dir)
		if err != nil {
			return nil, fmt.Errorf("size of block %s: %w", filepath.Base(dir), err)
		}
		need += size
	}
	if err := r.space.room(need); err != nil {
		return nil, err
	}
	return r.LeveledCompactor.Compact(dest, dirs, open)
}
