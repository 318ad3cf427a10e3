// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "testing"

func TestMemoryLimitOfAControlGroup(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n":                 0,
		"1073741824\n":          1073741824 / 10 * 9,
		"9223372036854771712\n": 0,
		"":                      0,
		"-1":                    0,
	} {
		if got := memoryLimit(text); got != want {
			t.Errorf("memoryLimit(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestGarbageIsCollectedByWhatIsInUse(t *testing.T) {
	for _, c := range []struct {
		inUse    uint64
		starting bool
		want     int
	}{
		{0, true, 300}, {20 << 20, false, 75}, {100 << 20, true, 150}, {300 << 20, false, 100}, {300 << 20, true, 75}, {2 << 30, true, 50}, {2 << 30, false, 50},
	} {
		if got := gcPercent(c.inUse, c.starting); got != c.want {
			t.Errorf("gcPercent(%d, %v) = %d, want %d", c.inUse, c.starting, got, c.want)
		}
	}
}
