// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
)

const cacheShards = 64

// seriesKey identifies an encoded label set by two independently seeded hashes, so that the encoded bytes
// need not be kept: among a million series two of them meet with a probability below 1e-26, and nobody
// outside the process can aim at it.
type seriesKey struct{ a, b uint64 }

// seriesEntry is a label set that was decoded and checked before. ref is the store's handle; a stale one
// costs the store a lookup, never a wrong series.
type seriesEntry struct {
	labels labels.Labels
	ref    atomic.Uint64
}

// seriesCache maps encoded label sets to decoded ones. It holds two generations per shard: when the young
// one is full it becomes the old one, and what is not asked for again is forgotten with it.
type seriesCache struct {
	seedA, seedB maphash.Seed
	perShard     int
	shards       [cacheShards]cacheShard
}

type cacheShard struct {
	mu    sync.Mutex
	young map[seriesKey]*seriesEntry
	old   map[seriesKey]*seriesEntry
}

func newSeriesCache(size int) *seriesCache {
	return &seriesCache{seedA: maphash.MakeSeed(), seedB: maphash.MakeSeed(), perShard: max(1, size/cacheShards/2)}
}

// key hashes an encoded label set.
func (c *seriesCache) key(encoded []byte) seriesKey {
	return seriesKey{maphash.Bytes(c.seedA, encoded), maphash.Bytes(c.seedB, encoded)}
}

// with folds another key into k; order matters.
func (k seriesKey) with(o seriesKey) seriesKey {
	return seriesKey{
		bits.RotateLeft64(k.a, 23)*0x9e3779b97f4a7c15 ^ o.a,
		bits.RotateLeft64(k.b, 41)*0xc2b2ae3d27d4eb4f ^ o.b,
	}
}

func (c *seriesCache) get(k seriesKey) *seriesEntry {
	s := &c.shards[k.a%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.young[k]; e != nil {
		return e
	}
	e := s.old[k]
	if e != nil {
		c.putLocked(s, k, e)
	}
	return e
}

func (c *seriesCache) put(k seriesKey, e *seriesEntry) {
	s := &c.shards[k.a%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.putLocked(s, k, e)
}

func (c *seriesCache) putLocked(s *cacheShard, k seriesKey, e *seriesEntry) {
	if s.young == nil || len(s.young) >= c.perShard {
		s.old, s.young = s.young, make(map[seriesKey]*seriesEntry)
	}
	s.young[k] = e
}
