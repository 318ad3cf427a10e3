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

// gcPercent is how much the heap may grow between two collections, in percent of what is in use. A hub
// holds a lot and allocates little, so Go's 100 would cost memory and save little time.
const gcPercent = 75

// TuneMemory sets up the garbage collector for a long-running role: it collects earlier than Go does by
// itself, and in a container it keeps the heap within nine tenths of the container's memory. GOGC and GOMEMLIMIT in the
// environment go first. The limit is 0 when there is none.
func TuneMemory() (limit int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return debug.SetMemoryLimit(-1)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if limit = memoryLimit(string(text)); limit > 0 {
			debug.SetMemoryLimit(limit)
		}
		return limit
	}
	return 0
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

const (
	settleCheck = 5 * time.Second
	settleRate  = 64 << 20 // bytes allocated in a check: fewer and the work of the start is done
)

// ReleaseMemory gives the memory that only the start needed back to the system, once: when ready says that the start is
// over and the program allocates little. It blocks until ctx ends.
func ReleaseMemory(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(settleCheck)
	defer tick.Stop()
	for before := allocated(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := allocated()
		if ready() && now-before < settleRate {
			debug.FreeOSMemory()
			tick.Stop()
		}
		before = now
	}
}

// allocated is how much the program has allocated so far.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
