// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	settleCheck = 250 * time.Millisecond
	settleAfter = 5 * time.Second
	// settleRate is what is allocated in settleAfter at most when the work of the start is done.
	settleRate = 64 << 20
	startRoom  = 150 << 20
)

// gcPercent is how much the heap may grow between two collections, in percent of what is in use. A hub holds a lot and
// allocates little, so Go's 100 pays only between a small heap, where memory is the concern, and one beyond a
// gibibyte. The start allocates a lot: it has startRoom at least.
func gcPercent(inUse uint64, starting bool) int {
	percent := 75
	switch {
	case inUse >= 1<<30:
		percent = 50
	case inUse >= 160<<20 && !starting:
		percent = 100
	}
	if starting {
		percent = max(percent, min(300, int(100*startRoom/max(inUse, 1))))
	}
	return percent
}

// GovernMemory sets up the garbage collector for a long-running role and blocks until ctx ends. The start is over when
// ready says so and the program allocates little; what only the start needed then goes back to the system. In a
// container the heap is kept within nine tenths of the container's memory. GOGC and GOMEMLIMIT in the environment
// go first.
func GovernMemory(ctx context.Context, ready func() bool) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		limitMemory()
	}
	set := func(int) {}
	if os.Getenv("GOGC") == "" {
		set = func(percent int) { debug.SetGCPercent(percent) }
	}
	percent := gcPercent(0, true)
	set(percent)
	tick := time.NewTicker(settleCheck)
	defer tick.Stop()
	since, before, starting := time.Now(), allocated(), true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if starting && time.Since(since) >= settleAfter {
			now := allocated()
			if ready() && now-before < settleRate {
				starting = false
				debug.FreeOSMemory()
				tick.Reset(settleAfter)
			}
			since, before = time.Now(), now
		}
		if p := gcPercent(read("/gc/heap/live:bytes"), starting); p != percent {
			percent = p
			set(p)
		}
	}
}

// limitMemory keeps the heap within the control group that the program runs in.
func limitMemory() {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit := memoryLimit(string(text)); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
		return
	}
}

// memoryLimit is nine tenths of the limit that a control group's file names, 0 for none. Version 1 says none by a
// number close to the largest.
func memoryLimit(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 || n >= 1<<50 {
		return 0
	}
	return n / 10 * 9
}

// allocated is how much the program has allocated so far.
func allocated() uint64 { return read("/gc/heap/allocs:bytes") }

func read(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
