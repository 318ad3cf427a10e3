// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// space watches the free space of the store's disk. The engine does not survive a full disk: a WAL
// record that is cut off half-way hides what is written after it from the next replay, and a head
// chunk that can't be written panics. So appends end while there is still a reserve.
type space struct {
	dir     string
	least   int64
	metrics *metrics
	// series is how many series the head has; nil until it is open.
	series atomic.Pointer[func() uint64]
	// reserve is what is to stay free: the least, and room for the head's unwritten chunks.
	reserve atomic.Int64
	// full is read by every appender.
	full atomic.Bool
	free atomic.Int64
}

// spaceInterval is how often the disk is looked at. At 500,000 samples a second the WAL grows by
// about 10 MB meanwhile, far below the reserve.
const spaceInterval = time.Second

// chunkRoom is what the head may have to write for each series, also when it is closed: a chunk of 120
// samples takes 100 to 300 bytes, with the wildest values a thousand.
const chunkRoom = 512

func newSpace(dir string, least int64, m *metrics) (*space, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("metrics store: %w", err)
	}
	s := &space{dir: dir, least: least, metrics: m}
	return s, s.look()
}

// look reads the free space. The disk is full below the reserve and free again some way above it, so that it
// doesn't flap.
func (s *space) look() error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", s.dir, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // the types of the fields differ between platforms
	s.free.Store(free)
	was := s.full.Load()
	reserve := s.least
	if series := s.series.Load(); series != nil {
		reserve += int64((*series)()) * chunkRoom
	}
	s.reserve.Store(reserve)
	full := free < reserve || was && free < reserve+min(reserve/4, 32<<20)
	s.full.Store(full)
	s.metrics.diskFree.Set(float64(free))
	s.metrics.diskFull.Set(0)
	if full {
		s.metrics.diskFull.Set(1)
	}
	return nil
}

// room returns an error when need bytes more would take of the reserve.
func (s *space) room(need int64) error {
	if err := s.look(); err != nil {
		return err
	}
	if free := s.free.Load(); free-need < s.reserve.Load()/2 {
		return fmt.Errorf("%w: %d MiB free, %d MiB to be written", ErrDiskFull, free>>20, need>>20)
	}
	return nil
}

func (s *space) run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(spaceInterval)
	defer tick.Stop()
	told := false // appenders change the state too, so it is compared with what was said of it
	for {
		err := s.look()
		full := s.full.Load()
		switch {
		case err != nil:
			log.Warn("free disk space is unknown", "err", err)
		case full && !told:
			log.Error("disk is full, samples are refused", "dir", s.dir, "free_bytes", s.free.Load(), "reserve_bytes", s.reserve.Load())
		case !full && told:
			log.Info("disk has space again, samples are taken", "dir", s.dir, "free_bytes", s.free.Load())
		}
		told = full
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
