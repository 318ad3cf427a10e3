// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// Status is what the store holds and how full it is.
type Status struct {
	// Series is the number of series in the head, Stale of them have ended.
	Series uint64
	Stale  uint64
	// Oldest and Newest are the times of the first and last sample; zero when there is none.
	Oldest time.Time
	Newest time.Time
	// Blocks is the number of blocks on disk, BlockBytes their size, HeadBytes that of the WAL and the
	// head's chunks.
	Blocks     int
	BlockBytes int64
	HeadBytes  int64
	// FreeBytes is the free disk space as seen within the last second; Full says whether samples are
	// being refused for want of it.
	FreeBytes int64
	Full      bool
	// Retention is what is in force.
	Retention Retention
	// Pending is how many old samples are not in a block yet.
	Pending int
}

// Status reads the present state. It is cheap enough to be asked every second.
func (d *DB) Status() Status {
	head := d.tsdb.Head()
	s := Status{
		Series:    head.NumSeries(),
		Stale:     head.NumStaleSeries(),
		HeadBytes: head.Size(),
		FreeBytes: d.space.free.Load(),
		Full:      d.space.full.Load(),
		Retention: *d.retention.Load(),
		Pending:   d.past.pending(),
	}
	for _, b := range d.tsdb.Blocks() {
		s.Blocks++
		s.BlockBytes += b.Size()
	}
	if t, err := d.tsdb.StartTime(); err == nil && (s.Series > 0 || s.Blocks > 0) {
		s.Oldest = time.UnixMilli(t)
		s.Newest = time.UnixMilli(head.MaxTime())
	}
	return s
}

// Admin is the store as the engine's HTTP API administers it. It has the methods that the API asks
// for and no others.
type Admin struct{ db *tsdb.DB }

// Admin gives the store to the HTTP API.
func (d *DB) Admin() Admin { return Admin{db: d.tsdb} }

// CleanTombstones removes deleted samples from disk.
func (a Admin) CleanTombstones() error { return a.db.CleanTombstones() }

// Delete deletes the samples of matching series between two times.
func (a Admin) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	return a.db.Delete(ctx, mint, maxt, ms...)
}

// Snapshot copies the store into dir.
func (a Admin) Snapshot(dir string, withHead bool) error { return a.db.Snapshot(dir, withHead) }

// Stats gives the cardinality of the head. It is expensive.
func (a Admin) Stats(statsByLabelName string, limit int) (*tsdb.Stats, error) {
	return a.db.Head().Stats(statsByLabelName, limit), nil
}

// WALReplayStatus is always done: the store is open.
func (Admin) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }

// BlockMetas lists the blocks on disk.
func (a Admin) BlockMetas() ([]tsdb.BlockMeta, error) { return a.db.BlockMetas(), nil }
