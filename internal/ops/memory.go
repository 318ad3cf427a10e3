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
	// gcPercent is how much the heap may grow between two collections, in percent of what is in use. A hub
	// holds a lot and allocates little, so Go's 100 would cost memory and save little time.
	gcPercent = 75
	// startPercent is that of the start, which allocates a lot, while less than startHeap is in use.
	startPercent = 300
	startHeap    = 160 << 20

	settleCheck = 250 * time.Millisecond
	settleAfter = 5 * time.Second
	// settleRate is what is allocated in settleAfter at most when the work of the start is done.
	settleRate = 64 << 20
)

// GovernMemory sets up the garbage collector for a long-running role and blocks until ctx ends. It collects seldom
// during the start and more often than Go does by itself from then on; the start is over when ready says so and the
// program allocates little, and then what only it needed goes back to the system. In a container the heap
// is kept within nine tenths of the container's memory. GOGC and GOMEMLIMIT in the environment go first.
func GovernMemory(ctx context.Context, ready func() bool) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		limitMemory()
	}
	percent := func(int) {}
	if os.Getenv("GOGC") == "" {
		percent = func(n int) { debug.SetGCPercent(n) }
	}
	percent(startPercent)
	tick := time.NewTicker(settleCheck)
	defer tick.Stop()
	since, before := time.Now(), allocated()
	for starting := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if starting && read("/gc/heap/live:bytes") > startHeap {
			percent(gcPercent)
			starting = false
		}
		if time.Since(since) < settleAfter {
			continue
		}
		now := allocated()
		if ready() && now-before < settleRate {
			percent(gcPercent)
			debug.FreeOSMemory()
			tick.Stop()
		}
		since, before = time.Now(), now
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
